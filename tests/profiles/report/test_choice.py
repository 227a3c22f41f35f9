"""Which budget a report says to take: by hand-made times and scores whose right answer can be read off."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from edgeprune_profiles import render_html, render_markdown
from edgeprune_profiles.record.profile import Accuracy, AccuracyRow, BudgetRecord, BudgetResult, Report, RequestSample
from edgeprune_profiles.record.quantities import accuracy_shares
from edgeprune_profiles.report import units
from edgeprune_profiles.report.advice import advice, asked, choice_as_data, table
from edgeprune_profiles.report.chart_front import FrontChart, front
from edgeprune_profiles.report.chart_lines import accuracy
from edgeprune_profiles.report.choice import BudgetChoice, ReportNeeds, choose_budget
from edgeprune_profiles.report.summary import accuracy_of, summarise
from edgeprune_profiles.report.verdict import verdict
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters import MemoryReading
from edgeprune_runtime.statistics import PairedDifference
from tests.profiles.conftest import full_report

#: name -> (milliseconds of a request, score, half of the interval of the score, MB)
MADE: Mapping[str, tuple[float, float, float, int]] = {
    "1.0": (1000, 0.90, 0.0, 900),
    "0.4": (600, 0.89, 0.01, 700),
    "0.2": (400, 0.86, 0.01, 600),
    "dart@0.2": (401, 0.88, 0.01, 600),
    "0.1": (300, 0.70, 0.03, 500),
    "0.4 on one view": (200, 0.60, 0.03, 400),
}


def record(name: str) -> BudgetRecord:
    share = float(name.split("@")[-1].split(" ")[0])
    method = "full" if share == 1.0 else "dart" if "dart" in name else "hired"
    return BudgetRecord(name, method, None if share == 1.0 else int(share * 1000), share)


def made(**changes: tuple[float, float, float, int]) -> Report:
    results, rows = [], []
    for name, (ms, score, half, mb) in (MADE | changes).items():
        budget = record(name)
        wall = [{"prefill": (ms * (1 + 0.005 * (i % 3 - 1)) / 1e3,), "decode": (0.05,)} for i in range(12)]
        samples = tuple(
            RequestSample(i, 0, int(budget.keep_ratio * (300 if "view" in name else 1000)), 2, w, w, None)
            for i, w in enumerate(wall)
        )
        results.append(BudgetResult(budget, samples, MemoryReading("made", 0, mb * 10**6, None, None)))
        gap = score - MADE["1.0"][1]
        difference = PairedDifference(gap - half, gap, gap + half, 500, 100, gap + half < 0)
        tail = name.split("@")[-1] if budget.method == "full" else f"{budget.method}@{name.split('@')[-1]}"
        rows.append(
            AccuracyRow(
                tail, budget.method, budget.keep_ratio, 500, 0, {"exact_match": score},
                {} if name == "1.0" else {"exact_match": difference},
            )
        )  # fmt: skip
    scores = Accuracy("held-out.jsonl", 100, 500, "exact_match", tuple(rows))
    return msgspec.structs.replace(full_report(), budgets=tuple(results), accuracy=scores)


def chosen(needs: ReportNeeds, report: Report | None = None) -> BudgetChoice:
    return choose_budget(summarise(report or made()), needs)


def said(needs: ReportNeeds, report: Report | None = None) -> str:
    text = " ".join(advice(chosen(needs, report)))
    return text.replace(units.NBSP, " ").replace("\N{MINUS SIGN}", "-")


@pytest.mark.parametrize(
    ("needs", "name", "rule"),
    [
        (ReportNeeds(ttft_s=0.7), "0.4", "most accurate"),
        (ReportNeeds(ttft_s=2.0), "1.0", "most accurate"),
        (ReportNeeds(accuracy=-0.035), "dart@0.2", "fastest"),
        (ReportNeeds(accuracy=-0.025), "0.4", "fastest"),
        (ReportNeeds(accuracy=0.0), "1.0", "fastest"),
        (ReportNeeds(accuracy=-0.4, memory_bytes=450 * 10**6), "0.4 on one view", "fastest"),
        (ReportNeeds(tokens_per_s=19.0, ttft_s=0.35), "0.1", "most accurate"),
    ],
)
def test_the_budget_that_meets_the_needs_is_taken(needs: ReportNeeds, name: str, rule: str) -> None:
    found = chosen(needs)
    assert found.taken is not None
    assert (found.taken.name, found.rule) == (name, rule)
    assert f"Take budget {name}" in said(needs)


def test_of_two_that_are_as_fast_the_more_accurate_is_taken() -> None:
    """0.2 is a millisecond faster than dart@0.2, less than its own requests differ."""
    text = said(ReportNeeds(accuracy=-0.06))
    assert text.startswith("Take budget dart@0.2: first token after 401 ms, 88.0 % accuracy.")
    assert "It is the most accurate of the 4 of 6" in text and "as fast as the fastest" in text


def test_an_interval_that_crosses_the_limit_is_not_sure() -> None:
    found = chosen(ReportNeeds(ttft_s=0.5, accuracy=-0.02))
    assert found.taken is None and found.nearest is not None and found.nearest.name == "dart@0.2"
    text = said(ReportNeeds(ttft_s=0.5, accuracy=-0.02))
    assert "No budget is sure to meet what was asked; dart@0.2 may" in text
    assert "To be sure, evaluate more questions." in text
    assert "accuracy 88.0 %, -2.0 [-3.0, -1.0] points, at least -2.0 points, not sure" in text
    assert "Fails in time to first token: 1.0, 0.4." in text


def test_nothing_that_fits_is_said_with_what_fails() -> None:
    text = said(ReportNeeds(ttft_s=0.05))
    assert text.startswith("No profiled budget meets what was asked. Fails in time to first token: 1.0, 0.4")


def test_without_an_evaluation_the_one_that_keeps_most_is_taken_and_told_why() -> None:
    blind = msgspec.structs.replace(made(), accuracy=None)
    found = chosen(ReportNeeds(ttft_s=0.7), blind)
    assert found.taken is not None and (found.taken.name, found.rule) == ("0.4", "keeps most")
    assert "Accuracy is unknown: run `edgeprune eval" in said(ReportNeeds(ttft_s=0.7), blind)
    assert "accuracy unknown" in said(ReportNeeds(ttft_s=0.7), blind)


def test_a_need_of_which_nothing_was_measured_says_how_to_measure_it() -> None:
    assert "To be sure, profile with --power." in said(ReportNeeds(energy_j=5.0))
    assert "Not known in energy: " in said(ReportNeeds(energy_j=5.0))


def test_without_needs_nothing_is_chosen_and_the_words_are_named() -> None:
    found = chosen(ReportNeeds())
    assert found.taken is None and found.nearest is None
    assert "--ttft 500ms" in said(ReportNeeds())


def test_limits_are_repeated_as_they_were_asked() -> None:
    needs = ReportNeeds(ttft_s=2.0, accuracy=-0.03, memory_bytes=4 * 10**9, energy_j=5.0, tokens_per_s=10)
    assert [text.replace(units.NBSP, " ") for text in asked(needs).values()] == [
        "at most 2.00 s", "at least 10.0", "at least \N{MINUS SIGN}3.0 points", "at most 4 GB", "at most 5.00 J",
    ]  # fmt: skip


def test_the_front_holds_what_no_other_beats() -> None:
    held = {one.name for one in chosen(ReportNeeds()).budgets if one.front}
    assert held == {"1.0", "0.4", "0.2", "dart@0.2", "0.1", "0.4 on one view"}
    worse = made(**{"0.2": (700, 0.80, 0.01, 600)})
    assert {one.name for one in chosen(ReportNeeds(), worse).budgets if not one.front} == {"0.2"}


def test_accuracy_on_fewer_tiles_is_not_that_of_all() -> None:
    report = made()
    assert report.accuracy is not None
    for result in report.budgets:
        row = accuracy_of(report.accuracy, result.budget)
        assert row is not None and row.scores["exact_match"] == MADE[result.budget.name][1], result.budget.name


def chart(needs: ReportNeeds, report: Report | None = None) -> FrontChart:
    report = report or made()
    found = front(choose_budget(summarise(report), needs), report.accuracy)
    assert found is not None
    return found


def test_the_picture_has_a_point_with_intervals_for_every_budget_and_marks_the_taken_one() -> None:
    drawn = chart(ReportNeeds(accuracy=-0.035))
    assert len(drawn.points) == len(MADE)
    assert [point.title.partition(":")[0] for point in drawn.points if point.taken] == ["dart@0.2"]
    assert all(point.sides is not None for point in drawn.points)
    assert sum(point.ends is None for point in drawn.points) == 1, "full budget is what differences are against"
    assert len({point.colour for point in drawn.points}) == 3, "one for each method"
    labels = {point.label.text for point in drawn.points if point.label}
    assert "0.4 on one view" in labels and "0.2" in labels


def test_limits_that_were_asked_are_lines_with_their_words() -> None:
    drawn = chart(ReportNeeds(ttft_s=0.5, accuracy=-0.03))
    texts = [limit.label.text.replace(units.NBSP, " ") for limit in drawn.limits]
    assert texts == ["at most 500 ms", "\N{MINUS SIGN}3.0 points"]
    upright, level = drawn.limits
    assert upright.x1 == upright.x2 and level.y1 == level.y2
    assert drawn.beyond == ()
    (far,) = chart(ReportNeeds(ttft_s=60.0)).beyond
    assert far.replace(units.NBSP, " ") == "time: at most 60.0 s, right of the drawing"


def test_labels_meet_neither_points_nor_each_other() -> None:
    crowd = {f"0.{i}": (400.0 + i, 0.8 + 0.001 * i, 0.02, 100) for i in range(1, 10)}
    report = made(**crowd)
    boxes = []
    for label in [p.label for p in chart(ReportNeeds(), report).points if p.label]:
        width = 7.0 * len(label.text)
        left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
        boxes.append((left, label.y - 11, left + width, label.y + 3))
    assert len(boxes) >= 5
    for i, (a, b, c, d) in enumerate(boxes):
        assert not any(a < z and x < c and b < w and y < d for x, y, z, w in boxes[i + 1 :])


def test_a_method_has_one_colour_in_both_plots_of_accuracy() -> None:
    report = full_report()
    assert report.accuracy is not None
    lines = accuracy(report.accuracy)
    colours = {key.name: key.colour for key in lines.legend}
    assert {point.colour for point in chart(ReportNeeds(), report).points if "1.0" not in point.title} == {
        colours["hired"]
    }


def test_no_accuracy_no_picture() -> None:
    assert front(chosen(ReportNeeds()), None) is None


def test_every_form_begins_with_what_to_take() -> None:
    needs = ReportNeeds(ttft_s=0.7)
    page = render_html(made(), needs).replace(units.NBSP, " ")
    assert '<p class="lead">Take budget 0.4 (hired): first token after 600 ms, 89.0 % accuracy.</p>' in page
    assert 'id="plot-front"' in page and "at most 700 ms" in page
    assert "At budget 0.4 the first token comes" in page, "what was measured is told of the budget that is taken"
    assert render_markdown(made(), needs).startswith("Take budget 0.4 (hired)")
    assert choice_as_data(chosen(needs))["taken"] == "0.4"
    head, rows = table(chosen(needs))
    assert head == ["budget", "TTFT", "points", "memory", "meets", ""]
    assert [row[-2] for row in rows] == ["no: ttft", "taken", "yes", "yes", "yes", "yes"]


@pytest.mark.parametrize("text", ["few", "0.5", "-101", "nan", "101"])
def test_an_accuracy_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(MeasurementError, match=r"--accuracy is .*; expected points below the full budget"):
        accuracy_shares(text, "--accuracy")
    assert accuracy_shares("-3", "--accuracy") == (-0.03, None)
    assert accuracy_shares("85%", "--accuracy") == (None, 0.85)


def test_a_least_score_is_held_against_the_same_interval() -> None:
    assert said(ReportNeeds(score=0.865)).startswith("Take budget dart@0.2")
    found = chosen(ReportNeeds(score=0.89, ttft_s=0.7))
    assert found.taken is None and found.nearest is not None and found.nearest.name == "0.4"
    drawn = chart(ReportNeeds(score=0.85))
    assert [limit.label.text.replace(units.NBSP, " ") for limit in drawn.limits] == ["at least 85 %"]


def test_a_headline_that_is_not_the_ratio_of_its_medians_says_why() -> None:
    """Twelve rounds of which the machine was slow in five for one budget and in other five for the other."""
    report = made()
    full, small = report.budgets[0], report.budgets[-2]

    def slowed(result: BudgetResult, rounds: range, factor: float) -> BudgetResult:
        def one(s: RequestSample) -> RequestSample:
            wall = {**s.wall_s, "prefill": (s.wall_s["prefill"][0] * (factor if s.repetition in rounds else 1),)}
            return msgspec.structs.replace(s, wall_s=wall)

        return msgspec.structs.replace(result, samples=tuple(map(one, result.samples)))

    agreed = verdict(summarise(msgspec.structs.replace(report, budgets=(full, small))))[0]
    assert "The medians alone" not in agreed
    drifting = slowed(full, range(0, 12), 1.0), slowed(small, range(0, 12), 1.0)
    samples = [
        msgspec.structs.replace(r, samples=tuple(
            msgspec.structs.replace(s, wall_s={"prefill": (w * (1 + 9 * (s.repetition >= 6 - shift)),), "decode": (0.05,)})
            for s in r.samples)) for r, w, shift in ((drifting[0], 1.0, 1), (drifting[1], 0.3, 0))
    ]  # fmt: skip
    told = verdict(summarise(msgspec.structs.replace(report, budgets=tuple(samples))))[0]
    assert "The medians alone would say" in told and "pairs of requests" in told
