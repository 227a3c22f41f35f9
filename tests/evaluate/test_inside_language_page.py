"""The page about rows that leave inside the language model says what was measured: from made answers and times, no model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune_runtime.statistics import PairedDifference, paired_difference
from tools.inside_language.bundles import REFERENCES, ReferenceModel, inside_words
from tools.inside_language.page import page, verdict
from tools.inside_language.plans import Cuts, RowPlan

QUESTIONS, PICTURES = 240, 24


def measured(model: ReferenceModel, right: dict[str, float]) -> dict[str, Any]:
    """Every plan answers as many questions as `right` says, others all; a request takes as long as its rows are many."""
    made = {}
    for plan in model.plans:
        answers = (np.random.default_rng(3).random(QUESTIONS) < right.get(plan.name, 1.0)).astype(int)
        inside = [int(n) for n in plan.counts(model.tokens) if n > 1]
        seconds = 0.01 + 1e-5 * sum(inside or [int(float(plan.budget) * model.tokens)])
        made[plan.name] = {
            "right": "".join(map(str, answers)),
            "macs": int(1e6 * seconds),
            "rank_macs": 0,
            "tower_macs": 5_000_000,
            "rows": model.tokens + 20,
            "visual": model.tokens,
            "inside": inside,
            "ttft": [[seconds, seconds]] * 8,
            "prefill": [[seconds, seconds]] * 8,
        }
    return made


def state(**right: dict[str, float]) -> dict[str, Any]:
    return {
        "created": "2026-01-01T00:00:00+00:00",
        "processor": "some processor",
        "scenes": PICTURES,
        "pictures": [i // 10 for i in range(QUESTIONS)],
        "kinds": ["number" if i % 2 else "word" for i in range(QUESTIONS)],
        "load": [1.0, 1.0],
        "models": {model.name: measured(model, right.get(model.name, {})) for model in REFERENCES},
    }


def test_every_plan_is_on_the_page_losers_too() -> None:
    text = page(state())
    for model in REFERENCES:
        for plan in model.plans:
            assert f"| `{plan.name}` |" in text


def test_a_loss_on_one_model_is_no_verdict_for_both() -> None:
    lines = page(state(tiles={"pdrop@1,2:0.2,0.05": 0.5})).splitlines()
    (asked,) = [line for line in lines if line.startswith("| two cuts inside against none |")]
    assert asked.endswith("| models differ |")


def test_a_loss_on_both_models_is_worse() -> None:
    lost = {"drop-all@2:0": 0.4}
    lines = page(state(tiles=lost, merged=lost)).splitlines()
    (asked,) = [line for line in lines if line.startswith("| all rows gone behind half of them |")]
    assert asked.endswith("| worse |")


@pytest.mark.parametrize(("points", "said"), [((1.0, 1.0), "no loss seen"), ((0.93, 0.99), "open")])
def test_what_no_interval_shows_is_not_called_equal(points: tuple[float, float], said: str) -> None:
    """A difference of several points that six pictures cannot tell from nothing stays open."""
    found: list[PairedDifference] = []
    for point in points:
        right = np.ones(40)
        right[: round(40 * (1 - point))] = 0  # all on one picture
        found.append(paired_difference(right, np.ones(40), seed=0, clusters=[i // 8 for i in range(40)]))
    assert verdict(found) == said


def test_one_bundle_serves_every_plan_of_a_ranking() -> None:
    """Where a plan has no cut, all rows that arrive pass."""
    late, early = RowPlan(cuts=Cuts("pdrop", (2,)), keep=(0.2,)), RowPlan(cuts=Cuts("pdrop", (1,)), keep=(0.2,))
    assert late.cuts.held == early.cuts.held == Cuts("pdrop", (1, 2))
    assert late.counts(320) == (1.0, 64)
    assert early.counts(320) == (64, 64)


def test_a_cut_of_the_tower_is_said_as_the_command_line_has_it() -> None:
    words = inside_words(Cuts("pdrop", (1,), "topk@1:0.5").held)
    assert words == ["--budget-of", "picture", "--inside", "topk@1:0.5", "--inside", "pdrop@1,2:0.5"]
