"""The page about rows that leave inside the language model, from what was measured: a function of its state alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from edgeprune_profiles.report import units
from edgeprune_runtime.statistics import PairedDifference, paired_difference, paired_ratio
from tools.bench.page import table
from tools.bench.rounds import CPU, WALL
from tools.inside_language.bundles import REFERENCES, ReferenceModel
from tools.inside_language.plans import Claim, RowPlan, claims

SEED = 0
_WHERE = {
    "whole": "Whole",
    "output": "At the output of the tower only",
    "inside": "Inside the language model only",
    "both": "At the output and inside",
    "tower": "In the tower, and behind it",
}


@dataclass(frozen=True)
class Measured:
    """One model's answers and requests. right: plan -> 0 or 1 for each question."""

    model: ReferenceModel
    kinds: Sequence[str]
    pictures: Sequence[int]
    plans: Mapping[str, Mapping[str, Any]]

    def right(self, plan: str, kind: str | None = None) -> list[float]:
        return [float(r) for r, k in zip(self.plans[plan]["right"], self.kinds, strict=True) if kind in (None, k)]

    def points(self, plan: str, kind: str | None = None) -> str:
        return f"{100 * np.mean(self.right(plan, kind)):.1f}"

    def against(self, plan: str, other: str, kind: str | None = None) -> PairedDifference:
        clusters = [p for p, k in zip(self.pictures, self.kinds, strict=True) if kind in (None, k)]
        return paired_difference(self.right(plan, kind), self.right(other, kind), seed=SEED, clusters=clusters)

    def times(self, plan: str, what: str, clock: int) -> list[float]:
        return [pair[clock] for pair in self.plans[plan][what]]


def page(state: Mapping[str, Any]) -> str:
    """Markdown."""
    models = [Measured(m, state["kinds"], state["pictures"], state["models"][m.name]) for m in REFERENCES]
    asked = {kind: list(state["kinds"]).count(kind) for kind in sorted(set(state["kinds"]))}
    rounds = len(models[0].plans["whole"]["ttft"])
    load = " ".join(f"{one:.1f}" for one in state["load"])
    waited = ", ".join(f"{_waited(one):.2f} ({one.model.name})" for one in models)
    return f"""# Rows that leave inside the language model

Printed by `python -m tools.inside_language --work build/inside --scenes {state["scenes"]}` (`make bench-inside`); measured
{state["created"][:10]} on {state["processor"]}, one thread. State: `inside-language.json`.

Both reference models ([tiles](../../tools/reference_vlm/README.md): LLaVA-NeXT, 320 visual tokens of five tiles;
[merged](../../tools/reference_smolvlm/README.md): SmolVLM, 80), exported and run as users do, fp32, positions kept, every bundle through
the parity gate. {state["scenes"]} held-out pictures, {len(state["kinds"])} questions
({", ".join(f"{kind} {n}" for kind, n in asked.items())}), exact match in points.

How to read a plan: `hired 0.4 + pdrop@1:0.1` keeps 40 % of the tokens at the output of the tower, and a tenth of the picture's tokens from
layer 1 (of 0 to 3) on. **All shares on this page are of a whole picture's tokens** (of 320 and 80), so that plans can be compared;
`--inside` on the command line counts shares of the rows that enter the language model. Cuts *inside* come behind a layer that has
seen all rows that enter: with four layers, one layer is a quarter of the model, and of a real model a small part.

Behind a cut of the tower, and in the plans `whole tower` that they are held against, budgets count from each picture's own tokens, as
small pictures have too few left for a share of the largest (`--budget-of picture`); 0.5 is all that a cut leaves.

Differences are to the whole picture on the same questions, with 95 % paired bootstrap intervals over pictures; `*`: the interval leaves out
zero. Multiply-accumulates (M): *layers* of the language model for a prompt with a picture that fills all tiles, by the rows that are there,
first token; *rankings*, over the whole room of the stage before, filled or not, which is much beside four small layers and little beside
real ones ([measured](inside-speed.md)); *tower*, all tiles. One bundle serves all plans of a ranking: a
plan with one cut ranks at the other too, where all pass. Times: whole requests on such pictures, {rounds} interleaved rounds, the whole
picture's time over the plan's. The machine did other work: load {load} (1, 5, 15 minutes) at the end, wall by processor time
{waited}.
These models are so small that fixed costs are most of a request: what a plan saves in time at real proportions is on
[another page](inside-speed.md).

Two small models, trained on pictures of the kind they are asked about, one seed each: what differs between them is shown below, and what
they agree on is no promise for a third.

## What holds on both models

{_agreement(models)}
{"".join(_model(one) for one in models)}"""


def _waited(one: Measured) -> float:
    """Wall by processor time of all requests, median."""
    pairs = [pair for plan in one.plans.values() for pair in plan["ttft"]]
    return float(np.median([pair[WALL] / pair[CPU] for pair in pairs]))


def _agreement(models: Sequence[Measured]) -> str:
    """A row for each claim: differences on each model, and whether they say the same."""
    rows = []
    for asked in zip(*(_claims(one) for one in models), strict=True):
        found = [one.against(claim.plan, claim.other) for one, claim in zip(models, asked, strict=True)]
        numbers = [one.against(claim.plan, claim.other, "number") for one, claim in zip(models, asked, strict=True)]
        plan, other = (" / ".join(dict.fromkeys(getattr(claim, side) for claim in asked)) for side in ("plan", "other"))
        cells = [cell for pair in zip(found, numbers, strict=True) for cell in map(difference, pair)]
        rows.append([asked[0].says.strip(), f"`{plan}` - `{other}`", *cells, verdict(found)])
    head = ["question", "plan - other"]
    head += [f"{one.model.name}{kind}" for one in models for kind in ("", ", numbers")]
    text = (
        "Points of the first plan minus those of the other. *better* or *worse*: both intervals leave out zero on the same side; "
        "*no loss seen*: neither interval does, and both differences are above -1.5 points; *models differ*: their intervals leave out zero "
        "on one model only, or on different sides; *open*: the rest."
    )
    return f"{text}\n\n{table([*head, 'together'], rows)}\n"


def _claims(one: Measured) -> tuple[Claim, ...]:
    return claims(one.model.own, one.model.towers[0])


def verdict(found: Sequence[PairedDifference]) -> str:
    """What two models say together."""
    sides = [int(np.sign(one.point)) if one.distinguishable else 0 for one in found]
    if all(side > 0 for side in sides):
        return "better"
    if all(side < 0 for side in sides):
        return "worse"
    if any(sides):
        return "models differ"
    return "no loss seen" if all(one.point > -0.015 for one in found) else "open"


def difference(found: PairedDifference) -> str:
    bounds = f"{100 * found.point:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"{bounds}{' *' if found.distinguishable else ''}"


def _model(one: Measured) -> str:
    parts = [f"### {one.model.name}: the front\n\n{_front(one)}\n"]
    for where, title in _WHERE.items():
        wanted = _sorted(one, [plan for plan in one.model.plans if plan.where == where])
        if wanted:
            head = ["plan", "rows by stage", "layers", "rankings", "tower", "accuracy", "to whole"]
            head += ["prefill, CPU", "TTFT, CPU", "TTFT, wall"]
            rows = [_row(one, plan) for plan in wanted]
            parts.append(f"### {one.model.name}: {title[0].lower()}{title[1:]}\n\n{table(head, rows)}\n")
    parts.append(f"### {one.model.name}: by kind of question\n\n{_kinds(one)}\n")
    return f"\n## Model {one.model.name}\n\nSorted by accuracy; winners and losers as they came out.\n\n" + "\n".join(
        parts
    )


def _sorted(one: Measured, wanted: Sequence[RowPlan]) -> list[RowPlan]:
    return sorted(wanted, key=lambda plan: -sum(one.right(plan.name)))


def _front(one: Measured) -> str:
    """Plans that no other one beats in both, whole towers only: a tower's work is another currency."""
    plans = [plan for plan in one.model.plans if plan.where != "tower"]
    work = {plan.name: one.plans[plan.name]["macs"] for plan in plans}
    best: list[list[str]] = []
    most = -1.0
    for plan in sorted(plans, key=lambda plan: (work[plan.name], -sum(one.right(plan.name)))):
        if (right := sum(one.right(plan.name))) > most:
            most = right
            best.append([f"`{plan.name}`", f"{work[plan.name] / 1e6:.0f} M", one.points(plan.name)])
    text = (
        "No other plan with the whole tower has less work in layers of the language model and as many right answers. Neighbours here are often "
        "inside noise."
    )
    return f"{text}\n\n{table(['plan', 'layers', 'accuracy'], best)}"


def _kinds(one: Measured) -> str:
    kinds = sorted(set(one.kinds))
    rows = [["`whole`", *(one.points("whole", kind) for kind in kinds)]]
    for plan in _sorted(one, [plan for plan in one.model.plans if plan.where != "whole"]):
        rows.append([f"`{plan.name}`", *(_by_kind(one, plan.name, kind) for kind in kinds)])
    text = "Points of the whole picture, and differences to it."
    return f"{text}\n\n{table(['plan', *kinds], rows)}"


def _by_kind(one: Measured, plan: str, kind: str) -> str:
    found = one.against(plan, "whole", kind)
    bounds = f"{100 * found.point:+.0f} [{100 * found.low:+.0f}, {100 * found.high:+.0f}]"
    return f"{bounds}{' *' if found.distinguishable else ''}"


def _row(one: Measured, plan: RowPlan) -> list[str]:
    found = one.plans[plan.name]
    stages = [rows for rows, _ in groupby(found["rows"] - found["visual"] + stay for stay in found["inside"])]
    whole = plan.where == "whole"
    compared = "" if whole else difference(one.against(plan.name, "whole"))
    times = [_time(one, plan.name, what, clock) for what, clock in (("prefill", CPU), ("ttft", CPU), ("ttft", WALL))]
    return [
        f"`{plan.name}`",
        ", ".join(map(str, stages)),
        f"{found['macs'] / 1e6:.0f} M",
        f"{found['rank_macs'] / 1e6:.0f} M",
        f"{found['tower_macs'] / 1e6:.0f} M",
        one.points(plan.name),
        compared,
        *times,
    ]


def _time(one: Measured, plan: str, what: str, clock: int) -> str:
    mine, whole = one.times(plan, what, clock), one.times("whole", what, clock)
    if plan == "whole":
        return units.seconds(float(np.median(whole)))
    ratio = paired_ratio(whole, mine, seed=SEED)
    return f"{ratio.point:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"
