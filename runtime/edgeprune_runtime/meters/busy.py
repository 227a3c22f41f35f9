"""What else a machine does while something is timed: other programs, a host that takes time away, limits, throttling.

Sources: /proc/stat (processor time of the whole machine, `steal` of a virtual one), /proc/loadavg, this process' own time and that of its
children, `cpu.stat` of the cgroup, and what `clocks.py` reads of the board. What cannot be read is None, "unknown".
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeprune_runtime.meters.clocks import BoardState, Gpu, StateSummary, board_state, state_summary
from edgeprune_runtime.meters.power.flags import state_flags
from edgeprune_runtime.meters.sysfs import text

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_WORK = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq; idle, iowait and steal are no work of this machine
_STEAL = 7


@dataclass(frozen=True, slots=True)
class MachineLook:
    """One look: processor seconds since boot of the machine, and of this process with the children that it waited for.

    busy_s, stolen_s  summed over `cores` processors
    held_back_s       for which the cgroup's limit held threads back
    load              1-minute load average
    """

    board: BoardState
    cores: int | None
    busy_s: float | None
    stolen_s: float | None
    own_s: float
    held_back_s: float | None
    load: float | None
    gpu_load: float | None = None


@dataclass(frozen=True, slots=True)
class MachineUse:
    """What else went on in `seconds`. None = unknown.

    cores          processors that /proc/stat counts
    other_cores    how many of them other programs kept busy, on average
    stolen_share   of the processors' time, taken by the host of a virtual machine
    held_back_s    for which the cgroup's limit held threads back
    load           1-minute load average at the end
    gpu_load       share of the time in which the GPU worked, mean of the looks; this program's own work is in it
    flags          sentences about throttling and clocks that fell
    """

    seconds: float
    cores: int | None
    other_cores: float | None
    stolen_share: float | None
    held_back_s: float | None
    load: float | None
    board: StateSummary | None
    flags: tuple[str, ...] = ()
    gpu_load: float | None = None


class BusyGpu(Gpu, Protocol):
    """What a discrete GPU says of its work, besides its state; see `nvml.py`."""

    def load(self) -> float | None: ...


def look(root: Path = Path("/"), now_s: float | None = None, gpu: BusyGpu | None = None) -> MachineLook:
    """Look now, which takes well under a millisecond. `root` is where /proc and /sys are looked for; `gpu` is the one that works, if any."""
    cores, ticks = _processor_ticks(root)
    own = os.times()
    return MachineLook(
        board=board_state(root, time.monotonic() if now_s is None else now_s, gpu),
        cores=cores,
        busy_s=sum(ticks[i] for i in _WORK) / _TICKS_PER_S if ticks else None,
        stolen_s=ticks[_STEAL] / _TICKS_PER_S if ticks else None,
        own_s=own.user + own.system + own.children_user + own.children_system,
        held_back_s=_held_back_s(root),
        load=_load(root),
        gpu_load=gpu.load() if gpu else None,
    )


def machine_use(looks: Sequence[MachineLook]) -> MachineUse:
    """From the first look to the last, which may not be the same."""
    first, last = looks[0], looks[-1]
    start_s, end_s = first.board.t_s, last.board.t_s
    seconds = max(end_s - start_s, 1e-9)
    busy_s, stolen_s = _grown(first.busy_s, last.busy_s), _grown(first.stolen_s, last.stolen_s)
    states = [one.board for one in looks]
    gpu_loads = [one.gpu_load for one in looks if one.gpu_load is not None]
    return MachineUse(
        seconds=seconds,
        cores=last.cores,
        other_cores=None if busy_s is None else max(0.0, busy_s - (last.own_s - first.own_s)) / seconds,
        stolen_share=stolen_s / seconds / last.cores if stolen_s is not None and last.cores else None,
        held_back_s=_grown(first.held_back_s, last.held_back_s),
        load=last.load,
        board=state_summary(states, start_s, end_s),
        flags=tuple(state_flags(states, start_s, end_s)),
        gpu_load=sum(gpu_loads) / len(gpu_loads) if gpu_loads else None,
    )


def use_while_resting(look: Callable[[], MachineLook] = look, seconds: float = 0.5) -> MachineUse:
    """What goes on while this process does nothing for so long."""
    first = look()
    time.sleep(seconds)
    return machine_use([first, look()])


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _processor_ticks(root: Path) -> tuple[int | None, list[int]]:
    """(processors, the ten counters of the line `cpu`); (None, []) where they cannot be read."""
    lines = [line.split() for line in (text(root / "proc/stat") or "").splitlines() if line.startswith("cpu")]
    try:
        counters = [int(word) for word in next((line[1:] for line in lines if line[0] == "cpu"), [])]
    except ValueError:
        return None, []
    return (len(lines) - 1 or None, counters) if len(counters) > _STEAL else (None, [])


def _held_back_s(root: Path) -> float | None:
    for line in (text(root / "sys/fs/cgroup/cpu.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "throttled_usec" and value.isdigit():
            return int(value) / 1e6
    return None


def _load(root: Path) -> float | None:
    try:
        return float((text(root / "proc/loadavg") or "").split(" ")[0])
    except ValueError:
        return None
