"""Which cuts are compared: in the tower, at its output, before layers of the language model, and together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

BUDGETS = ("1.0", "0.5", "0.4", "0.2", "0.1")
OUTPUT = ("divprune", "random", "uniform", "downsample")
#: Rankings that look at the question; `gsearch` differs from one cut of it only where there are two.
QUESTION_AWARE = (
    "fastv",
    "pdrop",
    "feather",
    "sparsevlm",
    "mustdrop",
    "flowcut",
    "gsearch",
    "transprune",
    "corematching",
)
CONTROLS = ("encoder", "vflowopt", "random-rows", "uniform-rows")
#: Those that are also tried at other counts and behind a cut at the output.
MAIN = ("fastv", "pdrop")
#: MustDrop always keeps 8 % of what enters, so its second cut cannot keep 5 %.
SECOND = {"mustdrop": 0.1}


WHOLE_TOWER = "whole tower"


@dataclass(frozen=True)
class Cuts:
    """Cuts before `layers` of the language model by one method, and `tower`, a cut as the command line has it. Empty: none.

    Where the tower is cut, budgets count from each picture's own tokens, as small pictures do not have enough left for a share of the
    largest; WHOLE_TOWER is no cut, with budgets that count so.
    """

    method: str = ""
    layers: tuple[int, ...] = ()
    tower: str = ""

    @property
    def name(self) -> str:
        """Of a folder."""
        inside = f"{self.method}-{'-'.join(map(str, self.layers))}" if self.method else "plain"
        return f"{re.sub('[@: ,]', '-', self.tower)}+{inside}" if self.tower else inside

    @property
    def held(self) -> Cuts:
        """Those of the bundle that serves them: any count can stay at a cut, all that arrive too, so one bundle has all of a method."""
        if self.tower:
            return Cuts("pdrop", (1, 2), self.tower)
        if self.method == "lvlm-csp":
            return self
        return Cuts(self.method, (2, 3) if self.method == "drop-all" else (1, 2)) if self.method else self


@dataclass(frozen=True)
class RowPlan:
    """One way for visual rows to leave. keep: what stays at each cut, as a share of the visual tokens of a picture that fills all tiles."""

    method: str | None = None
    budget: str = "1.0"
    cuts: Cuts = Cuts()
    keep: tuple[float, ...] = ()

    def counts(self, tokens: int) -> tuple[float, ...]:
        """What stays at each cut of the bundle, for a model with so many visual tokens at most: a count, or 1.0 where nobody leaves."""
        if self.cuts.method == "lvlm-csp":  # where all rows are back there is nothing to say
            return tuple(round(share * tokens) for share in (self.keep[0], self.keep[-1]))
        staying: float = 1.0
        found, asked = [], dict(zip(self.cuts.layers, self.keep, strict=True))
        for layer in self.cuts.held.layers:
            staying = round(asked[layer] * tokens) if layer in asked else staying
            found.append(staying)
        return tuple(found)

    @property
    def where(self) -> str:
        if self.cuts.tower:
            return "tower"
        if not self.cuts.method:
            return "whole" if self.method is None else "output"
        return "inside" if self.method is None else "both"

    @property
    def name(self) -> str:
        """As in the tables: `topk@1:0.5 + hired 0.4 + pdrop@1:0.1`, shares of the whole picture."""
        shown = ",".join(f"{share:g}" for share in self.keep)
        inside = f"{self.cuts.method}@{','.join(map(str, self.cuts.layers))}:{shown}" if self.cuts.method else ""
        output = "" if self.method is None else f"{self.method} {self.budget}"
        return " + ".join(part for part in (self.cuts.tower, output, inside) if part) or "whole"


def plans(own: str, towers: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> tuple[RowPlan, ...]:
    """All that are compared; the decoder has four layers.

    own      the method of the model that follows the tower's attention
    towers   cuts of its tower, as the command line has them
    without  rankings that its family cannot give
    """
    found = [RowPlan()]
    found += [RowPlan(m, b) for m in (own, *OUTPUT) for b in BUDGETS[2:]]
    found += _inside()
    for method in (own, "divprune"):
        found += _both(method)
    for tower in (WHOLE_TOWER, *towers):
        found += _tower(tower, own)
    return tuple(plan for plan in found if plan.cuts.method not in without)


def _inside() -> Iterator[RowPlan]:
    for name in (*QUESTION_AWARE, *CONTROLS):
        yield RowPlan(cuts=Cuts(name, (1,)), keep=(0.2,))
        yield RowPlan(cuts=Cuts(name, (1, 2)), keep=(0.2, SECOND.get(name, 0.05)))
    for name in (*MAIN, "encoder", "random-rows"):
        yield RowPlan(cuts=Cuts(name, (2,)), keep=(0.2,))
    for name in MAIN:
        yield RowPlan(cuts=Cuts(name, (1,)), keep=(0.1,))
        yield RowPlan(cuts=Cuts(name, (1,)), keep=(0.05,))
    yield RowPlan(cuts=Cuts("lvlm-csp", (0, 1, 2)), keep=(0.2, 1.0, 0.2))
    for layer in (2, 3):
        yield RowPlan(cuts=Cuts("drop-all", (layer,)), keep=(0.0,))


def _both(method: str) -> Iterator[RowPlan]:
    for name in (*MAIN, "random-rows"):
        yield RowPlan(method, "0.4", Cuts(name, (1,)), (0.1,))
    for name in MAIN:
        yield RowPlan(method, "0.4", Cuts(name, (1, 2)), (0.2, 0.05))
        yield RowPlan(method, "0.2", Cuts(name, (1,)), (0.1,))
    yield RowPlan(method, "0.4", Cuts("drop-all", (3,)), (0.0,))


def _tower(tower: str, own: str) -> Iterator[RowPlan]:
    """Half of the tokens leave in the tower; all that stay are handed on (0.5), or an output method chooses among them."""
    yield RowPlan(own, "0.5", Cuts(tower=tower))
    for method in (own, "divprune"):
        yield RowPlan(method, "0.2", Cuts(tower=tower))
    yield RowPlan(own, "0.5", Cuts("pdrop", (1,), tower), (0.2,))
    for method in (own, "divprune"):
        yield RowPlan(method, "0.4", Cuts("pdrop", (1,), tower), (0.1,))


@dataclass(frozen=True)
class Claim:
    """What is asked of both models: does `plan` answer better than `other`?"""

    says: str
    plan: str
    other: str


def claims(own: str, tower: str = "") -> tuple[Claim, ...]:
    """Comparisons by which a plan would be chosen; `own` and the first of `towers` as for `plans`."""
    found = [
        Claim(
            "all tokens in, the question's choice before layer 1: against the output cut of as many",
            "pdrop@1:0.2",
            "divprune 0.2",
        ),
        Claim("the same by attention of the first layer", "fastv@1:0.2", "divprune 0.2"),
        Claim("two cuts inside, against a spread output cut of 0.4", "pdrop@1,2:0.2,0.05", "divprune 0.4"),
        Claim("two cuts inside, against every n-th token at 0.4", "pdrop@1,2:0.2,0.05", "uniform 0.4"),
        Claim("two cuts inside against none", "pdrop@1,2:0.2,0.05", "whole"),
        Claim("a cut inside behind the output cut, against the whole picture", f"{own} 0.4 + pdrop@1:0.1", "whole"),
        Claim(
            "the same, against the output cut of about as much work in layers", f"{own} 0.4 + pdrop@1:0.1", f"{own} 0.2"
        ),
        Claim("a cut inside behind a spread choice, against the whole picture", "divprune 0.4 + pdrop@1:0.1", "whole"),
        Claim(
            "the same, against the output cut of about as much work in layers",
            "divprune 0.4 + pdrop@1:0.1",
            "divprune 0.2",
        ),
        Claim(
            "half of what an output cut of 0.2 keeps leaves before layer 1", f"{own} 0.2 + pdrop@1:0.1", f"{own} 0.2"
        ),
        Claim("the same behind a spread choice", "divprune 0.2 + pdrop@1:0.1", "divprune 0.2"),
        Claim("queries and keys of the next layer, against attention of the last", "pdrop@1:0.2", "fastv@1:0.2"),
        Claim("the same one layer later", "pdrop@2:0.2", "fastv@2:0.2"),
        Claim("all question rows ask, against the last one", "sparsevlm@1:0.2", "fastv@1:0.2"),
        Claim("the question's choice, against the encoder's order", "pdrop@1:0.2", "encoder@1:0.2"),
        Claim("the question's choice, against random rows", "pdrop@1:0.2", "random-rows@1:0.2"),
        Claim("random rows inside, against random tokens at the output", "random-rows@1:0.2", "random 0.2"),
        Claim("all rows gone behind three quarters of the layers", "drop-all@3:0", "whole"),
        Claim("all rows gone behind half of them", "drop-all@2:0", "whole"),
    ]
    if tower:
        behind = {
            "half of the tokens gone in the tower, against half gone behind it": f"{own} 0.5",
            "the same, then the output cut by the tower's own order": f"{own} 0.2",
            "the same, then a spread choice": "divprune 0.2",
            "the same, then the question's choice": f"{own} 0.5 + pdrop@1:0.2",
            "the same, then an output cut and the question's choice": f"{own} 0.4 + pdrop@1:0.1",
        }
        found += [Claim(says, f"{tower} + {plan}", f"{WHOLE_TOWER} + {plan}") for says, plan in behind.items()]
    return tuple(found)
