"""Power windows over a made recording: the board is a waveform and the clock is ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import pytest

from edgeprune_runtime.meters.clocks import BoardState
from edgeprune_runtime.meters.power.joules import Joules, joules, powers_w
from edgeprune_runtime.meters.power.meter import Plan, PowerRun, measure
from edgeprune_runtime.meters.power.sources import SourceCandidate
from edgeprune_runtime.meters.power.trace import SamplerCost, Trace

SOURCE = SourceCandidate("fake", "fake:VDD_IN", "module", None)
CALL_S = 0.25
IDLE_W, BUSY_W = 4.0, 10.0


class Board:
    """A recording in made time: 4 W idle, 10 W while `work` runs; read every 50 ms, exactly."""

    def __init__(self, averaging_s: float | None = None, busy_w: Callable[[float], float] = lambda t: BUSY_W) -> None:
        self.averaging_s = averaging_s
        self.now = 0.0
        self._busy_w = busy_w
        self._busy: list[tuple[float, float]] = []

    def now_s(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def work(self, seconds: float = CALL_S) -> None:
        self._busy.append((self.now, self.now + seconds))
        self.now += seconds

    @contextmanager
    def record(self) -> Iterator[Board]:
        yield self

    def watts(self, t: float) -> float:
        return self._busy_w(t) if any(a <= t < b for a, b in self._busy) else IDLE_W

    def trace(self) -> Trace:
        times = tuple(number * 0.05 for number in range(int(self.now / 0.05) + 2))
        states = tuple(BoardState(float(t), {"gpu": 50.0}, {"gpu": 1e9}, (), {}) for t in range(int(self.now) + 1))
        power_w = tuple(self.watts(t) for t in times)
        return Trace(
            "fake:VDD_IN", "module", self.averaging_s, 0.05, times, power_w, (None,) * len(times),
            states=states, cost=SamplerCost(0.1, self.now),
        )  # fmt: skip


def run_on(board: Board, plan: Plan | None = None, work: Callable[[], object] | None = None) -> PowerRun:
    return measure(work or board.work, SOURCE, plan, recorder=board.record, sleep=board.sleep)


@pytest.fixture
def run() -> PowerRun:
    return run_on(Board())


def found(run: PowerRun, **changes) -> Joules:
    return joules(replace(run, trace=replace(run.trace, **changes)))


def test_work_is_repeated_for_five_seconds_after_the_ramp_and_whole_calls_count(run):
    # 4 calls of 0.25 s fill the second that is thrown away, 20 more make 5 s
    result = joules(run)
    assert (result.calls, result.duration_s) == (20, pytest.approx(5.0))
    assert len(run.calls_s) == 4 + 20 + 1


def test_gross_and_idle_subtracted_joules_are_those_of_the_waveform(run):
    result = joules(run)
    assert result.gross_j == pytest.approx(5.0 * BUSY_W, abs=result.error_j)
    assert result.idle_w == pytest.approx(IDLE_W, rel=0.01)
    assert result.net_j == pytest.approx(5.0 * (BUSY_W - IDLE_W), abs=result.net_error_j)
    assert result.error_j < 0.01 * result.gross_j
    assert (result.source, result.covers, result.flags) == ("fake:VDD_IN", "module", ())


def test_the_ramp_is_not_in_the_energy():
    board = Board(busy_w=lambda t: 30.0 if t < 3.9 else BUSY_W)  # the first 0.7 s of work
    assert joules(run_on(board)).gross_j == pytest.approx(50.0, rel=0.01)


def test_a_slow_sensor_gets_ten_averaging_times_and_a_longer_ramp():
    run = run_on(Board(averaging_s=1.0))
    assert (run.settle_s, joules(run).duration_s) == (2.0, pytest.approx(10.0))


def test_work_that_takes_longer_than_everything_is_still_counted_once():
    board = Board()
    run = run_on(board, work=lambda: board.work(20.0))
    assert (joules(run).calls, joules(run).duration_s) == (1, pytest.approx(20.0))
    assert joules(run).gross_j == pytest.approx(200.0, rel=0.01)


def test_powers_are_those_of_counted_calls_only(run):
    assert set(powers_w(run)) == {BUSY_W, IDLE_W}  # the last reading is that of the moment when work ended
    assert powers_w(run).count(IDLE_W) == 1
    assert len(powers_w(run)) == pytest.approx(101, abs=1)


def test_without_a_source_nothing_is_run_and_everything_is_unknown():
    def refuse():
        raise AssertionError("ran")

    run = measure(refuse, SourceCandidate("none", None, None, "no sensor here"))
    result = joules(run)
    assert result.source == "unknown: no sensor here"
    assert (result.gross_j, result.net_j, result.idle_w, result.calls) == (None, None, None, 0)
    assert powers_w(run) == ()


def test_a_run_is_data_that_survives_json(run):
    assert msgspec.json.decode(msgspec.json.encode(run), type=PowerRun) == run


def test_an_error_of_the_work_is_the_callers():
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_on(Board(), work=fail)


def counter_of(trace: Trace, factor: float = 1.0) -> tuple[float, ...]:
    total, counts = 0.0, [0.0]
    for power_w in trace.power_w[:-1]:
        total += power_w * 0.05 * factor
        counts.append(total)
    return tuple(counts)


def test_a_counter_and_the_integral_that_agree_are_not_marked(run):
    result = found(run, energy_j=counter_of(run.trace, 1.02))
    assert result.gross_j == result.counter_j == pytest.approx(51.0, rel=0.01)
    assert result.disagreement == pytest.approx(0.02, abs=0.01)
    assert result.flags == ()


def test_more_than_five_per_cent_between_counter_and_integral_is_shown(run):
    result = found(run, energy_j=counter_of(run.trace, 1.2))
    assert result.integral_j == pytest.approx(50.0, rel=0.01)
    assert result.disagreement == pytest.approx(1 / 6, abs=0.01)
    assert "differ by 16" in " ".join(result.flags) or "differ by 17" in " ".join(result.flags)


def test_a_counter_that_wrapped_is_marked(run):
    result = found(run, energy_j=counter_of(run.trace), wraps=2)
    assert "wrapped around 2 times" in " ".join(result.flags)


def window(run: PowerRun) -> tuple[float, float]:
    counted = [t for t in run.calls_s if t >= run.calls_s[0] + run.settle_s]
    return counted[0], counted[-1]


def test_throttling_during_the_run_is_marked(run):
    start_s, _ = window(run)
    states = [replace(s, throttle=("gpu-throttle-alert",) if s.t_s > start_s + 2 else ()) for s in run.trace.states]
    assert any(
        "throttled in" in flag and "gpu-throttle-alert" in flag for flag in found(run, states=tuple(states)).flags
    )


def test_throttling_before_the_run_is_not(run):
    start_s, _ = window(run)
    states = [replace(s, throttle=("gpu-throttle-alert",) if s.t_s < start_s else ()) for s in run.trace.states]
    assert found(run, states=tuple(states)).flags == ()


def test_throttle_events_that_nobody_saw_are_marked_by_their_counter(run):
    start_s, _ = window(run)
    states = [replace(s, events={"oc3 events": 5 if s.t_s > start_s + 2 else 2}) for s in run.trace.states]
    assert "throttle events during the run: oc3 events rose by 3" in found(run, states=tuple(states)).flags


def test_a_clock_that_falls_during_the_run_is_marked(run):
    start_s, end_s = window(run)
    middle_s = (start_s + end_s) / 2
    states = [replace(s, clock_hz={"gpu": 1e9 if s.t_s < middle_s else 6e8}) for s in run.trace.states]
    assert "the clock of gpu fell from 1000 to 600 MHz during the run" in found(run, states=tuple(states)).flags


def test_a_sensor_that_is_lost_in_mid_run_is_marked_and_energy_is_unknown(run):
    start_s, _ = window(run)
    power_w = tuple(None if t > start_s + 2 else w for t, w in zip(run.trace.t_s, run.trace.power_w, strict=True))
    result = found(run, power_w=power_w)
    assert (result.gross_j, result.net_j) == (None, None)
    assert any("did not answer in" in flag for flag in result.flags)


def test_one_lost_reading_is_marked_and_energy_is_known(run):
    start_s, _ = window(run)
    lost = next(number for number, t in enumerate(run.trace.t_s) if t > start_s + 2)
    power_w = tuple(None if number == lost else w for number, w in enumerate(run.trace.power_w))
    result = found(run, power_w=power_w)
    assert result.gross_j == pytest.approx(50.0, rel=0.01)
    assert any("did not answer in 1 of" in flag for flag in result.flags)


def test_a_sampler_that_was_stopped_for_a_while_is_marked_and_not_guessed(run):
    start_s, _ = window(run)
    keep = [number for number, t in enumerate(run.trace.t_s) if not start_s + 1 < t < start_s + 3]
    cut = {name: tuple(getattr(run.trace, name)[n] for n in keep) for name in ("t_s", "power_w", "energy_j")}
    result = found(run, **cut)
    assert result.gross_j is None
    assert any("the sampler was suspended" in flag for flag in result.flags)


def test_what_the_recorder_noticed_stays_with_the_energy(run):
    assert "the machine slept" in found(run, flags=("the machine slept",)).flags


def test_idle_power_that_changed_makes_the_subtraction_doubtful(run):
    end_s = run.calls_s[-1]
    power_w = tuple(6.0 if t > end_s + 0.5 else w for t, w in zip(run.trace.t_s, run.trace.power_w, strict=True))
    result = found(run, power_w=power_w)
    assert result.idle_w == pytest.approx(5.0, rel=0.01)
    assert any("idle power was 4.00 W before and 6.00 W after" in flag for flag in result.flags)


def test_a_run_that_takes_no_more_than_idling_is_marked():
    result = joules(run_on(Board(busy_w=lambda t: IDLE_W)))
    assert any("not more than idling" in flag for flag in result.flags)


def test_a_call_that_was_suspended_is_marked():
    board = Board()
    lengths = iter([CALL_S] * 12 + [3.0] + [CALL_S] * 100)
    result = joules(run_on(board, work=lambda: board.work(next(lengths))))
    assert any("one call took 3.0 s, the usual one 0.25 s" in flag for flag in result.flags)
