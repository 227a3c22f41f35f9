"""Tables and targets of `inside-speed`: measured, and beside it what arithmetic says of the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune_profiles.report import units
from edgeprune_runtime.statistics import Ratio, paired_ratio
from tools.bench.inside_plans import OUTPUT, Plan, Plans
from tools.bench.page import Section, Target, at_least, brief
from tools.bench.rounds import CPU, SEED, WALL, Samples, column, median

WHOLE, PLAIN = Plan("1.0").name, Plan("0.2").name
STAGES = ("preprocess", "tower", "select", "prefill")
AIMS = {"fp32": 5.0, "int8": 6.0}
_CLOCKS = {"processor time": CPU, "wall time": WALL}
#: A stage, a ranking and a cut may cost so much of what they are in.
FREE = 1.05
HOW = (
    "*Kept* is the mean over all layers of the visual tokens that a layer sees, of the 2880. *Projected* is arithmetic, not a measurement: "
    "each layer takes a share of the measured prefill of the plans without cuts, at the rows that it computes (runs filled up), between and "
    "below the four measured budgets in proportion; the tower takes its measured time by multiply-accumulates. Targets are met or missed by "
    "the point; where the interval holds the limit, another run may say otherwise."
)


@dataclass(frozen=True)
class Measured:
    """Samples and facts of one precision, by name of the plan."""

    precision: str
    plans: Plans
    samples: Samples
    facts: Mapping[str, Any]

    def ratio(self, above: str, below: str, clock: int, *stages: str) -> Ratio:
        """Median over rounds of one plan's seconds in `stages` by another's."""
        a, b = (column(self.samples[name], clock, *stages) for name in (above, below))
        return paired_ratio(a, b, seed=SEED)

    def seconds(self, plan: str, *stages: str, clock: int = CPU) -> float:
        return median(self.samples[plan], clock, *stages)

    def ratio_of_clocks(self) -> float:
        """Wall by processor time of all first questions, median: how much else the machine did."""
        pairs = [column(taken, clock, *first()) for taken in self.samples.values() for clock in (WALL, CPU)]
        return float(np.median(np.concatenate(pairs[::2]) / np.concatenate(pairs[1::2])))

    def kept(self, plan: str) -> float:
        """Mean over layers, as a share of what the whole picture has."""
        whole = self.facts[WHOLE]["stages"][0]["visual"]
        stages = self.facts[plan]["stages"]
        return float(sum(s["layers"] * s["visual"] for s in stages) / sum(s["layers"] for s in stages) / whole)

    def projected(self, plan: str) -> float:
        """Seconds of processor time to the first token."""
        mine, whole = self.facts[plan], self.facts[WHOLE]
        plain = sorted((self.facts[b]["stages"][0]["computed"], self.seconds(b, "first prefill")) for b in OUTPUT)
        rows, seconds = [0, *(n for n, _ in plain)], [0.0, *(s for _, s in plain)]
        layers = sum(stage["layers"] for stage in mine["stages"])
        prefill = sum(s["layers"] / layers * np.interp(s["computed"], rows, seconds) for s in mine["stages"])
        tower = self.seconds(WHOLE, "first tower") * mine["tower_macs"] / whole["tower_macs"]
        rest = self.seconds(WHOLE, "first preprocess") + self.seconds(plan, "first select")
        return float(rest + tower + prefill)


def first() -> tuple[str, ...]:
    return tuple(f"first {stage}" for stage in STAGES)


def second() -> tuple[str, ...]:
    return tuple(f"second {stage}" for stage in STAGES)


def sections(found: Measured) -> list[Section]:
    return [*(_by_stage(found, clock, index) for clock, index in _CLOCKS.items()), _against_whole(found), _costs(found)]


def _by_stage(found: Measured, clock: str, index: int) -> Section:
    rows = []
    for plan in found.plans.all:
        stages = found.facts[plan.name]["stages"]
        rows.append(
            [
                f"`{plan.name}`",
                ", ".join(f"{s['rows']} x {s['layers']}" for s in stages),
                *(units.seconds(found.seconds(plan.name, f"first {stage}", clock=index)) for stage in STAGES),
                units.seconds(found.seconds(plan.name, *first(), clock=index)),
                units.seconds(found.seconds(plan.name, *second(), clock=index)),
                units.seconds(found.seconds(plan.name, "decode", clock=index)),
            ]
        )
    head = ["plan", "rows x layers", *STAGES, "TTFT", "TTFT of the second question", "next token"]
    waited = found.ratio_of_clocks()
    text = f"Medians. A request's wall time was {waited:.2f} of its processor time in the median: 1.00 is a machine that does nothing else."
    return Section(f"{found.precision}: time to the first token by stage, {clock}", text, head, rows)


def _against_whole(found: Measured) -> Section:
    rows = []
    for plan in sorted(found.plans.all, key=lambda plan: found.seconds(plan.name, *first())):
        if plan.name == WHOLE or plan in found.plans.cost:
            continue
        mean = found.kept(plan.name)
        ratios = [found.ratio(WHOLE, plan.name, clock, *first()) for clock in (CPU, WALL)]
        projected = found.seconds(WHOLE, *first()) / found.projected(plan.name)
        rows.append(
            [
                f"`{plan.name}`",
                units.percent(mean),
                f"{projected:.1f}",
                *map(brief, ratios),
                f"{100 * (ratios[0].point / projected - 1):+.0f} %",
                brief(found.ratio(WHOLE, plan.name, CPU, "first prefill")),
                brief(found.ratio(WHOLE, plan.name, CPU, *second())),
                brief(found.ratio(PLAIN, plan.name, CPU, *first())) if plan.name != PLAIN else "",
            ]
        )
    head = [
        "whole / this",
        "kept",
        "TTFT, projected",
        "TTFT, processor time",
        "TTFT, wall time",
        "measured to projected",
        "prefill, processor time",
        "second question, processor time",
        "output 0.2 / this, TTFT",
    ]
    text = f"{len(found.samples[WHOLE])} rounds; the fastest first."
    return Section(f"{found.precision}: times faster than the whole picture", text, head, rows)


def _costs(found: Measured) -> Section:
    """This over nothing."""
    rows = []
    for plan in found.plans.cost:
        for what, stages in (("prefill", ("first prefill",)), ("next token", ("decode",))):
            cells = [brief(found.ratio(plan.name, PLAIN, clock, *stages)) for clock in _CLOCKS.values()]
            rows.append([f"{what} of `{plan.name}` / of `{PLAIN}`", *cells])
    short = _with(found, found.plans.towers[-1])
    cells = [brief(found.ratio(short, PLAIN, clock, "first prefill")) for clock in _CLOCKS.values()]
    rows.append([f"prefill of `{short}` / of `{PLAIN}`: runs of 64 behind the cut", *cells])
    for tower in found.plans.towers:
        cells = [brief(_of_cut(found, tower, clock)) for clock in _CLOCKS.values()]
        faster = found.facts[WHOLE]["tower_macs"] / found.facts[_with(found, tower)]["tower_macs"]
        rows.append([f"tower of `{tower}` / its share of multiply-accumulates ({faster:.2f} x fewer)", *cells])
    text = (
        "The same rows in every layer: in runs of as many rows, through two stages with one ranking and three with two; then in the shorter "
        "runs that a stage behind a cut has by default (`export --stage-chunk`), which are for few rows. "
        "A cut in the tower is held against the whole tower's time by multiply-accumulates: above 1, the cut itself costs something."
    )
    return Section(
        f"{found.precision}: what a stage, a ranking and a cut cost", text, ["this / nothing", *_CLOCKS], rows
    )


def _with(found: Measured, tower: str) -> str:
    return next(plan.name for plan in found.plans.tower if plan.cuts.tower == tower)


def _of_cut(found: Measured, tower: str, clock: int) -> Ratio:
    name = _with(found, tower)
    share = found.facts[name]["tower_macs"] / found.facts[WHOLE]["tower_macs"]
    mine, whole = (column(found.samples[one], clock, "first tower") for one in (name, WHOLE))
    return paired_ratio(mine, [share * seconds for seconds in whole], seed=SEED)


def targets(found: Measured) -> list[Target]:
    """Aims, judged by the point, with the interval beside it."""
    aim, name = AIMS[found.precision], found.plans.aimed.name
    made = []
    for clock, index in _CLOCKS.items():
        ratio = found.ratio(WHOLE, name, index, *first())
        asked = f"TTFT of `{name}` ({units.percent(found.kept(name))} kept) >= {aim:g} x faster than the whole picture"
        promise = f"{found.precision}: {asked}, {clock}"
        made.append(at_least(promise, ratio, aim))
    for plan in found.plans.cost:
        for what, stages in (("prefill", ("first prefill",)), ("next token", ("decode",))):
            ratio = found.ratio(plan.name, PLAIN, CPU, *stages)
            made.append(_costs_little(f"{found.precision}: {what} of `{plan.name}`", ratio))
    for tower in found.plans.towers:
        made.append(_costs_little(f"{found.precision}: `{tower}` in the tower", _of_cut(found, tower, CPU)))
    return made


def _costs_little(what: str, ratio: Ratio) -> Target:
    return Target(f"{what} <= {FREE:g} x nothing, processor time", brief(ratio), ratio.point <= FREE)
