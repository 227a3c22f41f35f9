"""A soak of a made board that throttles after 200 s: 2 requests a second before, 4/3 after."""

from __future__ import annotations

import pytest

from edgeprune_profiles.record.sustain import SLICES, Soak, soak_seconds, soak_summary, sustain
from edgeprune_profiles.report import chart_lines
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters import PowerRun, SourceCandidate
from tests.profiles.powered import RAILS, Board, soaked


@pytest.mark.parametrize(
    ("text", "seconds"), [("150s", 150), ("10m", 600), ("2min", 120), ("1h", 3600), ("1.5 h", 5400)]
)
def test_times_are_written_with_their_unit(text: str, seconds: float) -> None:
    assert soak_seconds(text) == seconds


@pytest.mark.parametrize("text", ["90s", "1m", "119 s"])
def test_less_than_a_first_and_a_last_minute_is_refused_before_anything_runs(text: str) -> None:
    with pytest.raises(MeasurementError, match="no first and last minute"):
        soak_seconds(text)


@pytest.mark.parametrize("text", ["", "ten", "150", "10x", "-5m", "0m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(MeasurementError, match="--sustain"):
        soak_seconds(text)


def test_the_first_minute_is_held_against_the_last() -> None:
    found = soak_summary(soaked(), seed=0)
    assert found.first.requests_per_s == pytest.approx(2.0)
    assert found.last.requests_per_s == pytest.approx(4 / 3)
    assert found.slowdown is not None
    assert (found.slowdown.point, found.slowdown.low, found.slowdown.high) == pytest.approx((1.5, 1.5, 1.5))
    assert found.slowdown.distinguishable
    assert found.first.stretch.power_w == pytest.approx(12.0)
    assert found.last.stretch.power_w == pytest.approx(9.0, rel=1e-3)
    assert any("gpu-throttle-alert" in sentence for sentence in found.flags)


def test_a_board_that_holds_its_speed_is_not_called_slower() -> None:
    found = soak_summary(soaked(warm_s=float("inf")), seed=0)
    assert found.slowdown is not None
    assert not found.slowdown.distinguishable
    assert found.flags == ()


def test_requests_of_one_call_are_counted() -> None:
    one = soaked()
    found = soak_summary(Soak(one.budget, 3, one.run), seed=0)
    assert found.first.requests_per_s == pytest.approx(6.0)


def test_without_a_sensor_the_rates_are_there_and_the_rest_is_unknown() -> None:
    found = soak_summary(soaked(sensor=False), seed=0)
    assert found.first.requests_per_s == pytest.approx(2.0)
    assert (found.first.stretch.power_w, found.first.stretch.board) == (None, None)
    assert [panel.title for panel in chart_lines.soak_panels(found)] == ["Requests per second"]


@pytest.mark.parametrize(("seconds", "slices"), [(120.0, 12), (600.0, 60), (1800.0, SLICES)])
def test_the_series_covers_the_whole_soak_in_equal_slices(seconds: float, slices: int) -> None:
    found = soak_summary(soaked(seconds=seconds), seed=0)
    assert len(found.series) == slices
    assert found.series[0].stretch.start_s == found.first.stretch.start_s
    assert found.series[-1].stretch.end_s == pytest.approx(found.last.stretch.end_s)
    done = sum(one.requests_per_s * (one.stretch.end_s - one.stretch.start_s) for one in found.series)
    assert done == pytest.approx(len(soaked(seconds=seconds).run.calls_s) - 1)


def test_panels_show_rate_power_temperature_and_clocks_inside_the_drawing() -> None:
    panels = chart_lines.soak_panels(soak_summary(soaked(), seed=0))
    assert [panel.title for panel in panels] == ["Requests per second", "Power, W", "Hottest, °C", "Clocks, GHz"]
    assert [key.name for key in panels[2].chart.legend] == ["tj-thermal", "gpu-thermal"]
    for panel in panels:
        points = [point for line in panel.chart.lines for point in line.points]
        assert all(panel.chart.left <= point.x <= panel.chart.right for point in points)
        assert all(10 <= point.y <= panel.chart.bottom for point in points)
        assert panel.chart.x_ticks[0][1] == "0"
    assert [panel.chart.y_ticks[0][1] for panel in panels] == ["0", "0", "40", "0"]


def test_the_soak_repeats_the_work_for_as_long_as_was_asked() -> None:
    board = Board(0.5, 12.0)
    asked: list[float] = []

    def recorded(work: object, chosen: SourceCandidate, seconds: float) -> PowerRun:
        asked.append(seconds)
        return soaked(seconds=seconds).run

    found = sustain("0.2", board.work, RAILS, 300.0, recorded)
    assert asked == [300.0]
    assert found.budget == "0.2"
    assert found.requests_per_call >= 1
