"""Run the sampling process beside some work, and make a trace of what it wrote.

The process writes to a file without a name, so it never waits for its reader, and what it wrote outlives it. What went
wrong while sampling becomes a sentence in the trace's `flags`: the sampler ended early, readings are missing, somebody
set the clock, the machine slept, a counter wrapped around, sampling took much processor time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import IO

import msgspec

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.power.lines import Closing, Opening, Order, SensorReading, State, TraceLine
from edgeprune_runtime.meters.power.sources import SourceCandidate
from edgeprune_runtime.meters.power.trace import SamplerCost, Trace

START_S = 30.0  # a small board needs seconds to start Python
STOP_S = 10.0
JUMP_S = 0.5
DEAR_SHARE = 0.05

_decode = msgspec.json.Decoder(TraceLine).decode


class Recording:
    """A recording that runs, or is over. Times are seconds since it was opened, on the monotonic clock."""

    def __init__(self, process: subprocess.Popen[bytes], written: IO[bytes], origin_ns: int) -> None:
        self._process = process
        self._written = written
        self._origin_ns = origin_ns
        self.opening = self._wait_for_a_reading()
        self._trace: Trace | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def averaging_s(self) -> float | None:
        return self.opening.averaging_s

    def now_s(self) -> float:
        return (time.monotonic_ns() - self._origin_ns) / 1e9

    def trace(self) -> Trace:
        if self._trace is None:
            raise RuntimeError("the recording is still running; leave its `with` block first")
        return self._trace

    def close(self) -> None:
        """Ask the process to end; one that does not, because it was stopped or hangs, is killed."""
        end_s = self.now_s()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._trace = assemble(self._lines(), self._origin_ns, end_s, code)

    def _lines(self) -> list[TraceLine]:
        file = self._written.fileno()  # pread, because both processes share one position in the file
        written = os.pread(file, os.fstat(file).st_size, 0)
        return [_decode(line) for line in written.splitlines(keepends=True) if line.endswith(b"\n")]

    def _wait_for_a_reading(self) -> Opening:
        while len(lines := self._lines()) < 2:  # the opening and a reading, so that what comes now is covered
            if self._process.poll() is not None or self.now_s() > START_S:
                self._process.kill()
                raise MeasurementError(
                    f"the power sampler did not start (exit code {self._process.wait()}); "
                    f"run `{sys.executable} -m edgeprune_runtime.meters.power.sampler` to see why"
                )
            time.sleep(0.01)
        assert isinstance(lines[0], Opening)
        return lines[0]


@contextmanager
def record(chosen: SourceCandidate, root: Path = Path("/"), period_s: float | None = None) -> Iterator[Recording]:
    """Sample `chosen` and the board's state until the block ends. Raises MeasurementError when the sampler does not start."""
    order = Order(chosen.kind, str(root), chosen.why_not or "", period_s)
    command = [sys.executable, "-m", "edgeprune_runtime.meters.power.sampler", msgspec.json.encode(order).decode()]
    with tempfile.TemporaryFile() as written:
        origin_ns = time.monotonic_ns()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=written, start_new_session=True) as process:
            recording = Recording(process, written, origin_ns)
            try:
                yield recording
            finally:
                recording.close()


def assemble(lines: Sequence[TraceLine], origin_ns: int, end_s: float, exit_code: int) -> Trace:
    """The trace that these lines make. `end_s` is when the recording was closed, `exit_code` the sampler's."""
    opening = next(line for line in lines if isinstance(line, Opening))
    readings = [line for line in lines if isinstance(line, SensorReading)]
    closing = next((line for line in lines if isinstance(line, Closing)), None)
    seconds = tuple((reading.t_ns - origin_ns) / 1e9 for reading in readings)
    ticks = [reading.tick for reading in readings]
    return Trace(
        source=opening.source,
        covers=opening.covers,
        averaging_s=opening.averaging_s,
        period_s=opening.period_s,
        t_s=seconds,
        power_w=tuple(tick.power_w for tick in ticks),
        energy_j=tuple(tick.energy_j for tick in ticks),
        wraps=max((tick.wraps for tick in ticks), default=0),
        parts_w={
            name: tuple(tick.parts_w[number] if tick.parts_w else None for tick in ticks)
            for number, name in enumerate(opening.parts)
        },
        states=tuple(replace(s.state, t_s=(s.t_ns - origin_ns) / 1e9) for s in lines if isinstance(s, State)),
        cost=None if closing is None else SamplerCost(closing.cpu_s, closing.wall_s),
        flags=(*_ended_early(closing, seconds, end_s, exit_code), *_clock_flags(readings, origin_ns), *_dear(closing)),
    )


def _ended_early(closing: Closing | None, seconds: Sequence[float], end_s: float, code: int) -> list[str]:
    if closing is not None:
        return []
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    last = f"its last reading is of {seconds[-1]:.1f} s" if seconds else "it read nothing"
    return [f"the sampler ended with {how} before the recording did, at {end_s:.1f} s; {last}"]


def _clock_flags(readings: Sequence[SensorReading], origin_ns: int) -> list[str]:
    flags = []
    for before, after in pairwise(readings):
        at_s = (after.t_ns - origin_ns) / 1e9
        passed = after.t_ns - before.t_ns
        slept_s = (after.boot_ns - before.boot_ns - passed) / 1e9
        if slept_s > JUMP_S:
            flags.append(f"the machine slept for {slept_s:.1f} s before {at_s:.1f} s")
        jumped_s = (after.wall_ns - before.wall_ns - passed) / 1e9 - max(0.0, slept_s)
        if abs(jumped_s) > JUMP_S:
            flags.append(
                f"the wall clock jumped by {jumped_s:+.1f} s before {at_s:.1f} s; times here are of the monotonic clock"
            )
    return flags


def _dear(closing: Closing | None) -> list[str]:
    if closing is None or closing.wall_s <= 0 or closing.cpu_s / closing.wall_s <= DEAR_SHARE:
        return []
    return [f"sampling took {closing.cpu_s / closing.wall_s:.0%} of one core, which is in the energy as well"]
