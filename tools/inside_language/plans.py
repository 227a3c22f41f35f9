"""Which cuts are compared: at the output of the tower, before layers of the language model, and both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BUDGETS = ("1.0", "0.4", "0.2", "0.1")
QUESTION_AWARE = ("fastv", "pdrop")
CONTROLS = ("encoder", "random-rows", "uniform-rows")


@dataclass(frozen=True)
class Cuts:
    """Method and layers of a bundle's cuts inside the language model; one bundle serves all counts there. No method: no cuts."""

    method: str = ""
    layers: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.method}-{'-'.join(map(str, self.layers))}" if self.method else "plain"


@dataclass(frozen=True)
class RowPlan:
    """One way for visual rows to leave. keep: what stays at each cut, as a share of the visual tokens of a picture that fills all tiles."""

    method: str | None = None
    budget: str = "1.0"
    cuts: Cuts = Cuts()
    keep: tuple[float, ...] = ()

    def counts(self, tokens: int) -> tuple[int, ...]:
        """Visual rows that stay at each cut, for a model with so many visual tokens at most."""
        return tuple(round(share * tokens) for share in self.keep)

    @property
    def where(self) -> str:
        if not self.cuts.method:
            return "whole" if self.method is None else "output"
        return "inside" if self.method is None else "both"

    @property
    def name(self) -> str:
        """As in the tables: `hired 0.4 + pdrop@1:0.1`, shares of the whole picture."""
        shown = ",".join(f"{share:g}" for share in self.keep)
        inside = f"{self.cuts.method}@{','.join(map(str, self.cuts.layers))}:{shown}" if self.cuts.method else ""
        output = "" if self.method is None else f"{self.method} {self.budget}"
        return " + ".join(part for part in (output, inside) if part) or "whole"


def plans(own: str) -> tuple[RowPlan, ...]:
    """All that are compared. own: the method of the model that follows the tower's attention; the decoder has four layers."""
    found = [RowPlan()]
    found += [RowPlan(m, b) for m in (own, "divprune", "random", "uniform") for b in BUDGETS[1:]]
    found += _inside()
    for method in (own, "divprune"):
        found += _both(method)
    return tuple(found)


def _inside() -> Iterator[RowPlan]:
    for name in (*QUESTION_AWARE, *CONTROLS):
        yield RowPlan(cuts=Cuts(name, (1,)), keep=(0.2,))
        yield RowPlan(cuts=Cuts(name, (2,)), keep=(0.2,))
        yield RowPlan(cuts=Cuts(name, (1, 2)), keep=(0.2, 0.05))
    for name in QUESTION_AWARE:
        yield RowPlan(cuts=Cuts(name, (1,)), keep=(0.1,))
        yield RowPlan(cuts=Cuts(name, (1,)), keep=(0.05,))
    for layer in (2, 3):
        yield RowPlan(cuts=Cuts("drop-all", (layer,)), keep=(0.0,))


def _both(method: str) -> Iterator[RowPlan]:
    for name in (*QUESTION_AWARE, "random-rows"):
        yield RowPlan(method, "0.4", Cuts(name, (1,)), (0.1,))
    for name in QUESTION_AWARE:
        yield RowPlan(method, "0.4", Cuts(name, (1, 2)), (0.2, 0.05))
        yield RowPlan(method, "0.2", Cuts(name, (1,)), (0.1,))
    yield RowPlan(method, "0.4", Cuts("drop-all", (3,)), (0.0,))


@dataclass(frozen=True)
class Claim:
    """What is asked of both models: does `plan` answer better than `other`?"""

    says: str
    plan: str
    other: str


def claims(own: str) -> tuple[Claim, ...]:
    """Comparisons by which a plan would be chosen; `own` as for `plans`."""
    return (
        Claim("all tokens in, the question's choice before layer 1: against the output cut of as many", "pdrop@1:0.2", "divprune 0.2"),
        Claim("the same by attention of the first layer", "fastv@1:0.2", "divprune 0.2"),
        Claim("two cuts inside, fewer MACs than half an output cut", "pdrop@1,2:0.2,0.05", "divprune 0.4"),
        Claim("a cut inside behind the output cut, against the whole picture", f"{own} 0.4 + pdrop@1:0.1", "whole"),
        Claim("the same, against the output cut of about its MACs", f"{own} 0.4 + pdrop@1:0.1", f"{own} 0.2"),
        Claim("the same behind a spread choice", "divprune 0.4 + pdrop@1:0.1", "divprune 0.2"),
        Claim("half of what an output cut of 0.2 keeps leaves before layer 1", f"{own} 0.2 + pdrop@1:0.1", f"{own} 0.2"),
        Claim("the same behind a spread choice ", "divprune 0.2 + pdrop@1:0.1", "divprune 0.2"),
        Claim("two cuts inside against none", "pdrop@1,2:0.2,0.05", "whole"),
        Claim("queries and keys of the next layer, against attention of the last", "pdrop@1:0.2", "fastv@1:0.2"),
        Claim("the same one layer later", "pdrop@2:0.2", "fastv@2:0.2"),
        Claim("the question's choice, against the encoder's order", "pdrop@1:0.2", "encoder@1:0.2"),
        Claim("the question's choice, against random rows", "pdrop@1:0.2", "random-rows@1:0.2"),
        Claim("random rows inside, against random tokens at the output", "random-rows@1:0.2", "random 0.2"),
        Claim("all rows gone behind three quarters of the layers", "drop-all@3:0", "whole"),
        Claim("all rows gone behind half of them", "drop-all@2:0", "whole"),
    )
