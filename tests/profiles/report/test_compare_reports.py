"""Two reports side by side: paired where the requests are the same, unpaired or refused where they are not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgeprune_profiles.record.power_profile import PowerWindow
from edgeprune_profiles.record.profile import BackendUse, Report
from edgeprune_profiles.report.compare import FIRST, ComparisonLine, ReportComparison, compare
from edgeprune_profiles.report.compare_text import HEAD, cells, method, render_markdown
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import Ratio
from tests.profiles.conftest import full_report
from tests.profiles.powered import powered_report, window

replace = msgspec.structs.replace


def slower(report: Report, factor: float, stage: str = "prefill") -> Report:
    """The same requests, one stage of which takes `factor` as long, in the same rounds."""

    def changed(sample: Any) -> Any:
        wall = {
            name: tuple(t * (factor if name == stage else 1) for t in times) for name, times in sample.wall_s.items()
        }
        return replace(sample, wall_s=wall)

    results = [replace(result, samples=tuple(map(changed, result.samples))) for result in report.budgets]
    return replace(report, budgets=tuple(results))


def line(found: ReportComparison, budget: str, quantity: str) -> ComparisonLine:
    return next(one for one in found.lines if (one.budget, one.quantity) == (budget, quantity))


def test_a_report_is_not_distinguishable_from_itself(report: Report) -> None:
    found = compare(report, report)
    assert found.paired
    ratios = [one.ratio for one in found.lines if one.ratio is not None]
    assert len(ratios) == 4 * 7, "first token, its processor time, four stages, further token"
    assert all(isinstance(ratio, Ratio) and not ratio.distinguishable for ratio in ratios)
    assert all("not distinguishable" in sentence for sentence in found.verdict)
    assert len(found.verdict) == 4 * 2
    assert found.differs == (
        "pictures: not both reports hold their hashes, so equal names are taken for equal pictures",
    )


def test_pairs_find_the_stage_that_changed_and_no_other(report: Report) -> None:
    found = compare(slower(report, 2.0), report)
    prefill = line(found, "0.2", "prefill").ratio
    assert isinstance(prefill, Ratio)
    assert (prefill.point, prefill.low, prefill.high, prefill.n) == pytest.approx((2.0, 2.0, 2.0, 12))
    tower = line(found, "0.2", "tower").ratio
    assert isinstance(tower, Ratio)
    assert not tower.distinguishable
    assert "At budget 0.2 the time to the first token is 1.4" in found.verdict[4]
    assert "shorter in B" in found.verdict[4]


def test_swapping_the_reports_says_longer_with_the_inverse_interval(report: Report) -> None:
    there, back = compare(slower(report, 2.0), report), compare(report, slower(report, 2.0))
    one, other = line(there, "0.2", FIRST).ratio, line(back, "0.2", FIRST).ratio
    assert isinstance(one, Ratio) and isinstance(other, Ratio)
    assert (one.low, one.high) == pytest.approx((1 / other.high, 1 / other.low))
    assert "longer in B" in back.verdict[4]


def test_rounds_that_only_one_side_has_are_left_out_of_the_pairs(report: Report) -> None:
    half = replace(report, repetitions=7, budgets=tuple(replace(r, samples=r.samples[:7]) for r in report.budgets))
    found = compare(half, report)
    ratio = line(found, "0.2", FIRST).ratio
    assert isinstance(ratio, Ratio)
    assert (ratio.n, ratio.point) == (7, 1.0)
    assert "rounds: 7 in A, 12 in B" in found.differs


def test_too_few_requests_claim_nothing(report: Report) -> None:
    few = replace(report, budgets=tuple(replace(r, samples=r.samples[:3]) for r in report.budgets))
    found = compare(slower(few, 9.0), few)
    assert (
        found.verdict[0]
        == "At budget 1.0 the time to the first token is not distinguishable: 3 requests on a side, 6 are needed."
    )


@pytest.mark.parametrize("change", [{"cases": ("other.jpg",)}, {"question": "why?"}])
def test_other_requests_are_compared_unpaired_and_that_is_said(report: Report, change: dict[str, Any]) -> None:
    found = compare(report, replace(slower(report, 3.0), **change))
    assert not found.paired
    assert "unpaired" in method(found)
    ratio = line(found, "1.0", "prefill").ratio
    assert isinstance(ratio, Ratio)
    assert ratio.point == pytest.approx(1 / 3)
    assert ratio.low < 1 / 3 < ratio.high, "without pairs the noise of both sides is in the interval"
    assert any(sentence.startswith(next(iter(change)).replace("cases", "pictures")) for sentence in found.differs)


def test_equal_names_with_other_contents_are_other_pictures(report: Report) -> None:
    a, b = (replace(report, pictures_sha256=(digest * 64,)) for digest in "ab")
    assert not compare(a, b).paired
    assert "pictures: equal names, other files" in compare(a, b).differs
    assert compare(a, replace(b, pictures_sha256=a.pictures_sha256)).paired


def test_everything_that_is_not_the_same_is_named(report: Report) -> None:
    other = replace(
        report,
        bundle=replace(report.bundle, sha256="f" * 64),
        backend=BackendUse("tensorrt", "", "gpu"),
        threads=4,
        budgets=tuple(replace(r, budget=replace(r.budget, method="random")) for r in report.budgets),
    )
    said = compare(report, other).differs
    assert "bundle: demo-bundle (0123456789ab) in A, demo-bundle (ffffffffffff) in B" in said
    assert "backend: unknown in A, tensorrt in B" in said
    assert "threads: as the backend chooses in A, 4 in B" in said
    assert "method at 0.2: hired in A, random in B" in said


def test_energy_of_the_same_kind_is_compared_within_the_error_of_the_method() -> None:
    report = powered_report()
    double = _with_request_energy(report, 20.0)
    found = line(compare(double, report), "0.2", "energy per request")
    assert found.ratio is not None
    assert found.ratio.point == pytest.approx(2.0, rel=0.01)
    assert found.ratio.distinguishable
    assert not line(compare(report, report), "0.2", "energy per request").ratio.distinguishable  # type: ignore[union-attr]
    quantities = [one.quantity for one in compare(report, report).lines if one.unit == "J"]
    assert quantities[:5] == [
        f"energy {name}" for name in ("per request", "per image", "selection alone", "prefill", "per token")
    ]


def test_answers_of_another_length_have_no_ratio_of_their_energy() -> None:
    report = powered_report()
    found = line(compare(report, replace(report, max_tokens=16)), "0.2", "energy per request")
    assert (found.ratio, found.note) == (None, "answers differ in length")
    assert line(compare(report, replace(report, max_tokens=16)), "0.2", "energy per token").ratio is not None


def test_energy_of_a_module_is_not_held_against_that_of_a_graphics_board() -> None:
    report = powered_report()
    results = []
    for result in report.budgets:
        windows = [
            PowerWindow(w.piece, w.unit, w.units_per_call, msgspec.convert(_covering(w, "gpu"), type(w.run)))
            for w in result.power
        ]
        results.append(replace(result, power=tuple(windows)))
    found = line(compare(report, replace(report, budgets=tuple(results))), "0.2", "energy per request")
    assert (found.ratio, found.note) == (None, "one is of the module, the other of the graphics board only")


def test_doubtful_energy_is_marked() -> None:
    report = powered_report()
    doubtful = replace(report, budgets=tuple(replace(r, power=(_doubtful(r.power[0]),)) for r in report.budgets))
    assert line(compare(report, doubtful), "0.2", "energy per request").note == "doubtful"


def test_peaks_of_memory_are_shown_without_a_ratio(report: Report) -> None:
    found = line(compare(report, report), "0.2", "peak memory")
    assert (found.ratio, found.note) == (None, "one reading each")
    assert cells(found) == [
        "0.2",
        "peak memory",
        "1.68\N{NO-BREAK SPACE}GiB",
        "1.68\N{NO-BREAK SPACE}GiB",
        "",
        "one reading each",
    ]


def test_reports_without_a_common_budget_or_without_requests_are_refused(report: Report) -> None:
    first, *rest = report.budgets
    with pytest.raises(MeasurementError, match=r"no budget in common \(1.0 and 0.4, 0.2, 0.1\)"):
        compare(replace(report, budgets=(first,)), replace(report, budgets=tuple(rest)))
    with pytest.raises(MeasurementError, match="no requests"):
        compare(report, replace(report, budgets=(replace(first, samples=()),)))


def test_a_stage_that_ran_on_one_side_only_is_left_out(report: Report) -> None:
    bare = replace(
        report,
        budgets=tuple(replace(r, samples=tuple(_without(s, "select") for s in r.samples)) for r in report.budgets),
    )
    quantities = {one.quantity for one in compare(report, bare).lines}
    assert "select" not in quantities
    assert "tower" in quantities


def test_markdown_has_a_row_per_line_and_every_difference() -> None:
    a, b = full_report(), slower(full_report(), 2.0)
    found = compare(a, b)
    text = render_markdown(found, "a.json", "b.json")
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert len(rows) == 2 + len(found.lines)
    assert {row.count("|") for row in rows} == {len(HEAD) + 1}
    assert all(sentence in text for sentence in (*found.verdict, *found.differs))


def _with_request_energy(report: Report, busy_w: float) -> Report:
    results = []
    for result in report.budgets:
        prefill_s = 0.1 + 4.2 * result.budget.keep_ratio**1.15
        again = window("request", "request", 1, 0.26 + prefill_s + 1.27, busy_w)
        results.append(replace(result, power=(again, *result.power[1:])))
    return replace(report, budgets=tuple(results))


def _covering(found: PowerWindow, covers: str) -> dict[str, Any]:
    raw: dict[str, Any] = msgspec.to_builtins(found.run)
    raw["trace"]["covers"] = covers
    return raw


def _doubtful(found: PowerWindow) -> PowerWindow:
    raw: dict[str, Any] = msgspec.to_builtins(found.run)
    raw["trace"]["flags"] = ["the machine slept for 3.0 s"]
    return PowerWindow(found.piece, found.unit, found.units_per_call, msgspec.convert(raw, type(found.run)))


def _without(sample: Any, stage: str) -> Any:
    return replace(sample, wall_s={name: times for name, times in sample.wall_s.items() if name != stage})
