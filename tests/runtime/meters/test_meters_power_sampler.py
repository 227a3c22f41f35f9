"""The sampling process for real, on a made board; and what is made of its lines."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.clocks import BoardState
from edgeprune_runtime.meters.power.base import Tick, period_for
from edgeprune_runtime.meters.power.flags import sampling_flags
from edgeprune_runtime.meters.power.joules import joules
from edgeprune_runtime.meters.power.lines import Closing, Opening, SensorReading, State, TraceLine
from edgeprune_runtime.meters.power.meter import Plan, measure
from edgeprune_runtime.meters.power.recorder import assemble, record
from edgeprune_runtime.meters.power.sampler import sample
from edgeprune_runtime.meters.power.sources import SourceCandidate
from edgeprune_runtime.meters.power.trace import integral
from tools import fake_board

RAILS = SourceCandidate("jetson_rails", "ina3221:VDD_IN", "module", None)
CURRENT = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr1_input"
SECOND = 1_000_000_000


@pytest.fixture
def board(tmp_path: Path) -> Path:
    fake_board.build(fake_board.describe("orin_nano"), tmp_path)
    return tmp_path


def test_a_constant_rail_of_a_made_board_integrates_to_its_power_times_the_time(tmp_path):
    fake_board.build(fake_board.describe("nano"), tmp_path)
    run = measure(lambda: time.sleep(0.05), RAILS, Plan(shortest_s=0.2, ramp_s=0.1, idle_s=0.1), root=tmp_path)
    result = joules(run)
    assert result.gross_j == pytest.approx(2.4 * result.duration_s)
    assert result.net_j == pytest.approx(0.0, abs=1e-9)
    assert result.error_j == 0.0
    assert result.source == "ina3221x:POM_5V_IN"
    assert run.trace.parts_w["POM_5V_CPU"][0] == 0.5
    assert run.trace.states[0].temperature_c["CPU-therm"] == 27.0
    assert run.trace.cost.cpu_s > 0
    assert any("not more than idling" in flag for flag in result.flags)


def test_the_period_suits_the_sensor():
    assert period_for(None) == 0.05
    assert period_for(1.0) == 0.125


def test_a_sampler_that_is_stopped_and_continued_leaves_a_marked_hole(board):
    with record(RAILS, board, period_s=0.02) as recording:
        time.sleep(0.1)
        os.kill(recording.pid, signal.SIGSTOP)
        time.sleep(1.2)
        os.kill(recording.pid, signal.SIGCONT)
        time.sleep(0.1)
    trace = recording.trace()
    whole = trace.t_s[0], trace.t_s[-1]
    assert integral(trace, *whole) is None
    assert any("the sampler was suspended" in flag for flag in sampling_flags(trace, *whole))


def test_a_sampler_that_stays_stopped_is_ended_and_marked(board, monkeypatch):
    monkeypatch.setattr("edgeprune_runtime.meters.power.recorder.STOP_S", 0.2)
    with record(RAILS, board, period_s=0.02) as recording:
        os.kill(recording.pid, signal.SIGSTOP)
    assert "ended with signal 9" in " ".join(recording.trace().flags)


def test_steps_of_a_made_rail_are_integrated_by_the_real_sampler_within_the_stated_error(board):
    expected_j = unsure_j = 0.0
    with record(RAILS, board, period_s=0.02) as recording:
        level_w, start_s = 12.0, recording.now_s()
        since_s = start_s
        for milliamperes in (400, 3000, 1000):  # at 5000 mV: 2, 15 and 5 W
            time.sleep(0.3)
            before_s = recording.now_s()
            swap(board / CURRENT, milliamperes)
            after_s = recording.now_s()
            now_s = (before_s + after_s) / 2
            expected_j += level_w * (now_s - since_s)
            unsure_j += abs(milliamperes / 200 - level_w) * (after_s - before_s)
            level_w, since_s = milliamperes / 200, now_s
        time.sleep(0.3)
        end_s = recording.now_s()
        expected_j += level_w * (end_s - since_s)
    found = integral(recording.trace(), start_s, end_s)
    assert abs(found.joules - expected_j) <= found.error_j + unsure_j


def swap(file: Path, value: int) -> None:
    """Write at once, so that nobody reads half a number."""
    other = file.with_name("new")
    other.write_text(f"{value}\n")
    other.replace(file)


def test_a_sampler_that_is_killed_is_marked_and_keeps_what_it_saw(board):
    with record(RAILS, board, period_s=0.02) as recording:
        time.sleep(0.2)
        os.kill(recording.pid, signal.SIGKILL)
    trace = recording.trace()
    assert "ended with signal 9" in " ".join(trace.flags)
    assert trace.power_w[0] == 12.0
    assert trace.cost is None


def test_a_rail_that_disappears_in_mid_run_reads_unknown_from_then_on(board):
    with record(RAILS, board, period_s=0.02) as recording:
        time.sleep(0.1)
        (board / CURRENT).unlink()
        time.sleep(0.1)
    assert (recording.trace().power_w[0], recording.trace().power_w[-1]) == (12.0, None)


def test_without_a_power_sensor_the_state_of_the_board_is_sampled_all_the_same(board):
    with record(SourceCandidate("none", None, None, "no rails"), board) as recording:
        pass
    trace = recording.trace()
    assert trace.source == "unknown: no rails"
    assert set(trace.power_w) == {None}
    assert trace.states[-1].clock_hz["gpu"] == 612_000_000


def test_a_source_that_is_gone_when_the_sampler_opens_it_is_unknown_with_the_reason(tmp_path):
    with record(RAILS, tmp_path) as recording:
        pass
    assert "only Jetson boards have them" in recording.trace().source


def test_an_open_recording_has_no_trace(board):
    with record(RAILS, board) as recording, pytest.raises(RuntimeError, match="still running"):
        recording.trace()


def test_a_sampler_that_cannot_start_is_one_clear_error(board, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(MeasurementError, match="did not start .exit code 1"), record(RAILS, board):
        pass


class Source:
    name, covers, averaging_s, parts = "fake", "module", None, ()

    def read(self) -> Tick:
        return Tick(power_w=5.0)


def test_one_more_reading_is_taken_after_the_end_so_that_it_is_covered():
    written: list[TraceLine] = []
    waits = iter([False, False, True])
    sample(Source(), lambda: BoardState(0.0, {}, {}), 0.05, written.append, lambda seconds: next(waits))
    assert sum(isinstance(line, SensorReading) for line in written) == 4
    assert isinstance(written[-1], Closing)
    assert isinstance(written[-2], State)


OPENING = Opening("fake:VDD_IN", "module", None, 1.0, ("A", "B"))


def lines(count: int = 4, **changes) -> list[TraceLine]:
    """Readings at 1, 2, ... seconds after an origin of 100 s, 12 W each, made of 7 and 5."""
    out: list[TraceLine] = [OPENING]
    for number in range(1, count + 1):
        now = (100 + number) * SECOND
        tick = Tick(12.0, None, 0, (7.0, None if number == 2 else 5.0))
        out.append(SensorReading(now, 50 * SECOND + now, 9 * SECOND + now, tick))
    for number, change in changes.items():
        out[int(number[1:])] = replace_reading(out[int(number[1:])], **change)
    return [*out, Closing(0.01, 4.0)]


def replace_reading(line: TraceLine, **change) -> TraceLine:
    assert isinstance(line, SensorReading)
    fields = {name: getattr(line, name) for name in line.__struct_fields__}
    return SensorReading(**{**fields, **change})


def made(given: list[TraceLine], exit_code: int = 0):
    return assemble(given, 100 * SECOND, 5.0, exit_code)


def test_lines_become_a_trace_in_seconds_since_the_origin():
    trace = made(lines())
    assert trace.t_s == (1.0, 2.0, 3.0, 4.0)
    assert trace.parts_w == {"A": (7.0,) * 4, "B": (5.0, None, 5.0, 5.0)}
    assert (trace.flags, trace.cost.cpu_s) == ((), 0.01)


def test_states_get_their_time():
    given = lines()
    given.insert(2, State(102 * SECOND, BoardState(0.0, {"gpu": 50.0}, {})))
    assert made(given).states == (replace(BoardState(0.0, {"gpu": 50.0}, {}), t_s=2.0),)


def test_a_wall_clock_that_somebody_set_is_marked_and_times_stay():
    late = [{"wall_ns": (50 + 3600 + 100 + number) * SECOND} for number in (3, 4)]
    trace = made(lines(r3=late[0], r4=late[1]))
    assert trace.t_s == (1.0, 2.0, 3.0, 4.0)
    assert trace.flags == ("the wall clock jumped by +3600.0 s before 3.0 s; times here are of the monotonic clock",)


def test_a_machine_that_slept_is_marked_once():
    asleep = {"boot_ns": (9 + 20 + 104) * SECOND, "wall_ns": (50 + 20 + 104) * SECOND}
    assert made(lines(r4=asleep)).flags == ("the machine slept for 20.0 s before 4.0 s",)


def test_a_sampler_that_ended_early_says_when_it_read_last():
    flags = made(lines()[:-1], exit_code=-9).flags
    assert flags == (
        "the sampler ended with signal 9 before the recording did, at 5.0 s; its last reading is of 4.0 s",
    )


def test_sampling_that_takes_much_of_a_core_is_marked():
    assert "10% of one core" in " ".join(made([*lines()[:-1], Closing(0.4, 4.0)]).flags)


def test_wraps_are_counted():
    wrapped = {"tick": Tick(None, 5.0, 2)}
    assert made(lines(r4=wrapped)).wraps == 2
