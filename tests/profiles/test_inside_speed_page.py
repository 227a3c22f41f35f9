"""The page about the speed of plans that cut inside: its arithmetic, and whether it says that an aim was missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.bench import inside_plans, inside_speed
from tools.bench.inside_plans import OUTPUT, PLANS, Cuts, Plan, Plans
from tools.bench.inside_tables import WHOLE, Measured, first, sections, targets
from tools.bench.rounds import Sample
from tools.bench.settings import Settings

TOKENS, LAYERS, PER_ROW = {"1.0": 2880, "0.4": 1152, "0.2": 576, "0.1": 288}, 24, 0.01


def facts_of(plan: Plan) -> dict[str, Any]:
    """No text, and runs of one row: what is computed is what is there."""
    edges = [0, *([int(n) for n in plan.cuts.language.split("@")[1].split(",")] if plan.cuts.language else []), LAYERS]
    shares = [1.0, *(plan.keep or [1.0] * (len(edges) - 2))]
    rows = [round(share * TOKENS[plan.budget]) for share in shares]
    stages = [
        {"layers": behind - first, "rows": n, "computed": n, "visual": n}
        for first, behind, n in zip(edges, edges[1:], rows, strict=False)
    ]
    return {"stages": stages, "second": [0, 0], "tower_macs": 50 if plan.cuts.tower else 100}


def as_projected(plan: Plan, tower_s: float) -> list[Sample]:
    facts = facts_of(plan)
    prefill = sum(stage["layers"] / LAYERS * stage["rows"] * PER_ROW for stage in facts["stages"])
    tower = tower_s * facts["tower_macs"] / 100
    each = {"preprocess": 0.1, "tower": tower, "select": 0.1, "prefill": prefill}
    sample = {f"first {stage}": [s, s] for stage, s in each.items()}
    sample |= {f"second {stage}": [s / 2, s / 2] for stage, s in each.items()}
    return [sample | {"decode": [0.1, 0.1]}] * 6


def measured(tower_s: float) -> Measured:
    plans = PLANS["0.5b"]
    facts = {plan.name: facts_of(plan) for plan in plans.all}
    return Measured("fp32", plans, {plan.name: as_projected(plan, tower_s) for plan in plans.all}, facts)


def test_where_a_machine_follows_the_arithmetic_measured_is_projected() -> None:
    found = measured(6.0)
    for plan in found.plans.all:
        assert found.projected(plan.name) == pytest.approx(found.seconds(plan.name, *first()))


def test_the_plan_of_the_aim_keeps_a_tenth_of_the_tokens() -> None:
    found = measured(6.0)
    assert found.kept(WHOLE) == 1
    assert found.kept(found.plans.aimed.name) == pytest.approx(0.0992, abs=1e-3)


def test_an_aim_that_was_missed_is_called_missed() -> None:
    """Half of a tower that takes as long as the whole prefill leaves no room for five times."""
    slow, fast = targets(measured(28.8)), targets(measured(2.0))
    assert [target.met for target in slow[:2]] == [False, False]
    assert [target.met for target in fast[:2]] == [True, True]
    assert all(target.met for target in slow[2:])  # stages, rankings and cuts cost nothing here


def test_projected_and_measured_stand_in_columns_of_their_own() -> None:
    (against,) = [section for section in sections(measured(6.0)) if "times faster" in section.title]
    assert {"TTFT, projected", "TTFT, processor time", "TTFT, wall time"} <= set(against.head)


class FewPlans(Plans):
    """As many as show every table."""

    @property
    def language(self) -> tuple[Plan, ...]:
        return (*map(Plan, OUTPUT), Plan("0.2", Cuts("pdrop@2"), (0.45,)))

    @property
    def cost(self) -> tuple[Plan, ...]:
        return (Plan("0.2", Cuts("drop-all@12", chunk=128)),)


@pytest.mark.slow
def test_the_command_measures_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(inside_plans.PLANS, "tiny", FewPlans(("topk@0:0.7", "topk@0:0.5")))
    monkeypatch.setattr(inside_speed, "PRECISIONS", ("fp32",))
    page = inside_speed.measure(Settings(tmp_path, quick=True, threads=1, size="tiny", layers=24))
    assert [section.title.split(": ")[1].split(",")[0] for section in page.sections] == [
        "time to the first token by stage",
        "time to the first token by stage",
        "times faster than the whole picture",
        "what a stage",
    ]
    assert all(target.met is not None for target in page.targets)
    weights = [folder / "weights.bin" for folder in tmp_path.glob("bundle-*")]
    assert len({file.stat().st_ino for file in weights}) < len(weights)  # equal weights are one file
