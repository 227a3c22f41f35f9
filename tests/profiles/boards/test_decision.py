"""One answer: what to take, what is likely, what would have to give; with accuracy decided by its paired interval."""

from __future__ import annotations

from typing import Any

import pytest

from edgeprune_profiles.boards.decision.accuracy import (
    AccuracyNeed,
    BudgetAccuracy,
    accuracy_need,
    accuracy_of_budget,
    accurate_enough,
)
from edgeprune_profiles.boards.decision.decide import Decision, decide, one_per_board
from edgeprune_profiles.boards.decision.sentences import decision_sentences
from edgeprune_profiles.boards.device import Market, MarketPrice
from edgeprune_profiles.boards.memory_fit import MemoryFit
from edgeprune_profiles.boards.recommend import BoardOption, Needs, recommend
from edgeprune_profiles.record.profile import Accuracy, AccuracyRow
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import Interval, PairedDifference
from tests.profiles.made_boards import board

GIB = 1 << 30
FITS = MemoryFit(GIB, 0, GIB, 0, 0, 8 * GIB)
SOON, LATE = Interval(0.1, 0.2, 0.3), Interval(0.5, 0.9, 4.0)


def option(name: str, usd: float, ttft: Interval = SOON, **changes: Any) -> BoardOption:
    fields: dict[str, Any] = {
        "device": board(name, market=Market(MarketPrice(usd, "made", kind="kit", since="2024-12"))),
        "budget": "0.2",
        "keep_ratio": 0.2,
        "basis": "projected",
        "confidence": "low",
        "ttft_s": ttft,
        "tokens_per_s": Interval(5, 10, 20),
        "energy_j": None,
        "memory": FITS,
    }
    return BoardOption(**{**fields, **changes})


def decided(options: list[BoardOption], needs: Needs) -> tuple[Decision, tuple[str, ...]]:
    choices = recommend(options, needs)
    found = decide(choices, needs)
    return found, decision_sentences(found, needs, choices)


def lost(low: float, point: float, high: float, clusters: int = 40) -> BudgetAccuracy:
    return BudgetAccuracy(
        "exact_match", 0.9 + point, 0.9, PairedDifference(low, point, high, 400, clusters, not low <= 0 <= high)
    )


def test_what_is_sure_is_taken_and_what_is_likely_and_cheaper_is_named() -> None:
    found, said = decided([option("dear", 900), option("cheap", 249, LATE)], Needs(ttft_s=1.0))
    assert (found.verdict, found.choice and found.choice.candidate.device.name) == ("take", "dear")
    assert said[0].startswith("Take dear at budget 0.2: 200\N{NO-BREAK SPACE}ms to the first token (projected, ")
    assert "2.0 of 8\N{NO-BREAK SPACE}GiB" in said[0] and "900\N{NO-BREAK SPACE}USD (kit, 2024-12)" in said[0]
    assert said[1].startswith("What budget 0.2 costs in accuracy is not known here")
    assert said[2].startswith("Cheaper, if a measurement confirms it: cheap")
    assert found.measure is found.cheaper


def test_a_middle_that_meets_is_likely_and_says_to_measure() -> None:
    found, said = decided([option("cheap", 249, LATE)], Needs(ttft_s=1.0))
    assert found.verdict == "likely"
    assert "Nothing meets this for certain. Most likely take cheap" in said[0] and "Measure before you buy" in said[0]


def test_tight_memory_is_never_likely_and_too_little_is_said_with_numbers() -> None:
    tight, none = MemoryFit(7 * GIB, 0, GIB, 0, 0, 8 * GIB), MemoryFit(9 * GIB, 0, GIB, 0, 0, 8 * GIB)
    assert decided([option("a", 1, memory=tight)], Needs())[0].verdict == "unsure"
    found, said = decided([option("a", 1, memory=none)], Needs())
    assert (found.verdict, found.concede) == ("none", ())
    assert "at least 10.0\N{NO-BREAK SPACE}GiB are needed, most of them for weights" in said[0]


def test_where_nothing_fits_each_need_that_could_give_is_named_with_how_far() -> None:
    options = [option("slow", 200, LATE), option("quick", 649)]
    found, said = decided(options, Needs(ttft_s=0.4, price_usd=300))
    assert found.verdict == "none" and found.measure is None
    assert {(c.choice.candidate.device.name, c.relax[0].need) for c in found.concede} == {
        ("slow", "ttft"),
        ("quick", "price"),
    }
    text = " ".join(said)
    assert "--max-price 649 instead of 300: quick" in text and "--ttft 900ms instead of 400ms: slow" in text


def test_where_one_need_is_not_enough_all_that_must_give_are_named_together() -> None:
    found, said = decided([option("a", 500, LATE)], Needs(ttft_s=0.4, price_usd=300))
    assert len(found.concede) == 1
    assert "--ttft 900ms instead of 400ms and --max-price 500 instead of 300" in said[0]


def test_one_line_per_board_is_its_best_over_budgets_and_modes() -> None:
    needs = Needs(ttft_s=1.0)
    options = [
        option("a", 100, Interval(0.9, 2.0, 4.0), budget="1.0", keep_ratio=1.0),
        option("a", 100, LATE),
        option("a@5W", 100, Interval(2, 3, 4)),
        option("b", 900),
    ]
    found = one_per_board(recommend(options, needs), needs)
    assert [(c.candidate.device.name, c.candidate.budget) for c in found] == [("b", "0.2"), ("a", "0.2")]


@pytest.mark.parametrize(
    ("text", "found", "word"),
    [
        ("-3", lost(-0.02, -0.01, 0.0), "yes"),
        ("-3", lost(-0.05, -0.01, 0.0), "open"),
        ("-3", lost(-0.09, -0.06, -0.04), "no"),
        ("-3", lost(-0.02, -0.01, 0.0, clusters=3), "open"),
        ("-3", None, "unknown"),
        ("88", lost(-0.015, -0.01, 0.0), "yes"),
        ("89.5", lost(-0.09, -0.06, -0.04), "no"),
        ("95", BudgetAccuracy("exact_match", 0.9, 0.9, None), "no"),
        ("0", BudgetAccuracy("exact_match", 0.9, 0.9, None), "yes"),
    ],
)
def test_accuracy_is_answered_by_the_paired_interval(text: str, found: BudgetAccuracy | None, word: str) -> None:
    assert accurate_enough(found, accuracy_need(text)) == word


@pytest.mark.parametrize("text", ["soon", "0.9", "-200", "101", "nan"])
def test_an_accuracy_that_could_mean_two_things_is_refused(text: str) -> None:
    with pytest.raises(MeasurementError, match="--accuracy is .*as -3.*as 85"):
        accuracy_need(text)


def test_board_budget_and_accuracy_are_decided_together() -> None:
    needs = Needs(ttft_s=1.0, accuracy=AccuracyNeed("-3", points=-0.03))
    small = option("cheap", 249, accuracy=lost(-0.09, -0.06, -0.04))
    half = option("cheap", 249, LATE, budget="0.5", keep_ratio=0.5, accuracy=lost(-0.02, -0.01, 0.0))
    other = option("dear", 900, budget="0.5", keep_ratio=0.5, accuracy=lost(-0.02, -0.01, 0.0))
    found, said = decided([small, half, other], needs)
    assert (found.verdict, found.choice and found.choice.candidate.device.name) == ("take", "dear")
    assert "Exact match 89.0\N{NO-BREAK SPACE}% (\N{MINUS SIGN}1.0 points [\N{MINUS SIGN}2.0, +0.0])" in said[0]
    assert found.cheaper is not None and found.cheaper.candidate.budget == "0.5", (
        "never the budget that is not accurate enough"
    )


def test_where_the_data_cannot_decide_it_is_said() -> None:
    needs = Needs(accuracy=AccuracyNeed("-3", points=-0.03))
    few = option("a", 249, accuracy=lost(-0.05, -0.01, 0.0, clusters=3))
    found, said = decided([few], needs)
    assert found.verdict == "unsure"
    assert "accuracy open: 3 of 6 pictures needed" in said[0]


def test_accuracy_is_found_by_keep_ratio_and_method_and_needs_the_full_budget() -> None:
    def row(name: str, method: str, ratio: float, **changes: Any) -> AccuracyRow:
        lead = {} if ratio == 1.0 else {"exact_match": PairedDifference(-0.2, -0.1, 0.0, 10, 10, True)}
        return AccuracyRow(name, method, ratio, 10, 0, {"exact_match": 0.5}, lead, **changes)

    rows = (row("full", "full", 1.0), row("a 0.2 on 2 tiles", "a", 0.2), row("a 0.2", "a", 0.2), row("b 0.2", "b", 0.2))
    accuracy = Accuracy("d", 10, 10, "exact_match", rows)
    found = accuracy_of_budget(accuracy, "b", 0.2)
    assert found is not None and found.lost == -0.1
    assert accuracy_of_budget(accuracy, "b", 0.5) is None
    whole = accuracy_of_budget(accuracy, "b", 1.0)
    assert whole is not None and whole.difference is None
    with pytest.raises(MeasurementError, match="no full budget"):
        accuracy_of_budget(Accuracy("d", 10, 10, "exact_match", rows[1:]), "b", 0.2)
