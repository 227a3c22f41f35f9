"""Power and soak are put into a report that is there already."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgeprune_profiles.measure.power_and_soak import with_power, with_soak
from edgeprune_profiles.measure.stages import Case, NoEnergy, Run
from edgeprune_profiles.record.power_profile import EnergyPiece, PowerWindow
from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.record.sustain import Soak
from edgeprune_profiles.report.summary import summarise
from edgeprune_profiles.report.verdict import verdict
from edgeprune_runtime.meters import SourceCandidate
from tests.profiles.conftest import FakeRunner
from tests.profiles.powered import RAILS, soaked, window

CASE = Case(Path("/somewhere/a.png"), "what?")
NOTHING = SourceCandidate("none", None, None, "no power sensor for this work. rapl: not here")


class Pieces(FakeRunner):
    """Two pieces that do nothing."""

    def pieces(self, budget: str, image: Path, question: str, max_tokens: int) -> tuple[EnergyPiece, ...]:
        self.asked.append((budget, image.name))
        return EnergyPiece("request", "request", 1, lambda: None), EnergyPiece(
            "decode", "token", max_tokens - 1, lambda: None
        )


def measured(piece: EnergyPiece, chosen: SourceCandidate) -> PowerWindow:
    return window(piece.name, piece.unit, piece.units, 0.5, 10.0)


def test_every_budget_gets_a_window_for_each_piece(report: Report) -> None:
    runner, said = Pieces(), list[str]()
    found = with_power(report, runner, CASE, RAILS, progress=said.append, window=measured)
    assert found.power_source == "ina3221:VDD_IN"
    assert [[one.piece for one in result.power] for result in found.budgets] == [["request", "decode"]] * 4
    assert [one.units_per_call for one in found.budgets[0].power] == [1, report.max_tokens - 1]
    assert runner.asked == [(result.budget.name, "a.png") for result in report.budgets]
    assert said[0] == "power, budget 1.0, request"
    assert len(said) == 8


def test_without_a_sensor_nothing_runs_and_one_sentence_says_so(report: Report) -> None:
    runner = Pieces()
    found = with_power(report, runner, CASE, NOTHING, window=measured)
    assert runner.asked == []
    assert found.power_source == "unknown: no power sensor for this work. rapl: not here"
    assert all(result.power == () for result in found.budgets)
    assert "Energy is unknown: no power sensor could measure this work." in verdict(summarise(found))


def test_a_report_that_nobody_asked_for_power_says_nothing_about_it(report: Report) -> None:
    assert report.power_source is None
    assert not any("nergy" in sentence for sentence in verdict(summarise(report)))


def test_the_soak_asks_the_first_budget(report: Report) -> None:
    runner = Pieces()

    def once(budget: str, work: Callable[[], object], chosen: SourceCandidate, seconds: float) -> Soak:
        assert isinstance(work(), Run)
        return soaked(seconds=seconds)

    found = with_soak(report, runner, CASE, NOTHING, 150.0, once)
    assert runner.asked == [("1.0", "a.png")]
    assert found.soak is not None
    assert found.soak.run.calls_s[-1] >= 150.0


def test_counters_that_do_not_cover_the_work_are_not_read() -> None:
    meter = NoEnergy("the work runs on a GPU")
    with meter.window() as view:
        pass
    assert meter.why_unavailable() == "the work runs on a GPU"
    assert (view.reading().energy_j, view.reading().source) == (None, "unknown: the work runs on a GPU")


@pytest.mark.parametrize("busy_w", [6.0, 10.0])
def test_less_energy_is_called_less_and_what_differs_by_less_than_the_error_is_not(
    report: Report, busy_w: float
) -> None:
    full, *_, small = report.budgets
    pieces = iter([window("request", "request", 1, 0.5, 10.0), window("request", "request", 1, 0.5, busy_w)])
    two = with_power(_only(report, full, small), _OneRequest(), CASE, RAILS, window=lambda piece, chosen: next(pieces))
    said = next(sentence for sentence in verdict(summarise(two)) if "energy" in sentence)
    assert re.search(r"takes 1\.6\dx \[.*\] less energy" if busy_w == 6.0 else "not distinguishable", said), said
    assert "the module" in said


class _OneRequest(FakeRunner):
    def pieces(self, budget: str, image: Path, question: str, max_tokens: int) -> tuple[EnergyPiece, ...]:
        return (EnergyPiece("request", "request", 1, lambda: None),)


def _only(report: Report, *results: object) -> Report:
    return msgspec.structs.replace(report, budgets=results)
