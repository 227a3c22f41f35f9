"""The sampling process: `python -m edgeprune_runtime.meters.power.sampler`, started by `power_recorder.py`.

A process of its own, because a thread would wait for the interpreter's lock of the process that it measures, and take
time from it. It reads one source every `period_s` and the board's state every `STATE_S`, writes one JSON line for each
at once (so a killed sampler leaves what it saw), and ends, with a line about its own cost, when its standard input is
closed: also when whoever started it dies. Times are those of CLOCK_MONOTONIC, which all processes share. Each line
holds two more clocks: the wall clock, to see that somebody set it, and the boot clock, which alone runs during sleep.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgeprune_runtime.meters.boards.nvml import NvmlGpu
from edgeprune_runtime.meters.clocks import BoardState, board_state
from edgeprune_runtime.meters.power.base import PowerSource, period_for
from edgeprune_runtime.meters.power.lines import Closing, Opening, Order, SensorReading, State, TraceLine
from edgeprune_runtime.meters.power.sources import open_source

STATE_S = 0.5


def sample(
    source: PowerSource,
    look: Callable[[], BoardState],
    period_s: float,
    write: Callable[[TraceLine], None],
    stopped: Callable[[float], bool],
) -> None:
    """Read until `stopped`, which waits for as long as it is told, says so; then once more, so that the end is covered."""
    start_ns, start_cpu_ns = time.monotonic_ns(), time.process_time_ns()
    due_s, state_due_s, last = start_ns / 1e9, 0.0, False
    while True:
        tick = source.read()
        now_ns, boot_ns = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        write(SensorReading(now_ns, time.time_ns(), boot_ns, tick))
        if now_ns / 1e9 >= state_due_s or last:
            write(State(now_ns, look()))
            state_due_s = now_ns / 1e9 + STATE_S
        if last:
            break
        due_s = max(due_s + period_s, time.monotonic_ns() / 1e9)
        last = stopped(due_s - time.monotonic_ns() / 1e9)
    cpu_s = (time.process_time_ns() - start_cpu_ns) / 1e9
    write(Closing(cpu_s, (time.monotonic_ns() - start_ns) / 1e9))


def main() -> None:
    order = msgspec.json.decode(sys.argv[1], type=Order)
    root = Path(order.root)
    source = open_source(order.kind, root, order.why)
    period_s = order.period_s or period_for(source.averaging_s)
    encode = msgspec.json.Encoder().encode

    def write(line: TraceLine) -> None:
        sys.stdout.buffer.write(encode(line) + b"\n")
        sys.stdout.buffer.flush()

    gpu = source if isinstance(source, NvmlGpu) else None
    write(Opening(source.name, source.covers, source.averaging_s, period_s, source.parts))
    sample(source, lambda: board_state(root, 0.0, gpu), period_s, write, _input_ends)


def _input_ends(timeout_s: float) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], max(0.0, timeout_s))
    return bool(readable)


if __name__ == "__main__":
    main()
