"""The time that a device cannot beat: arithmetic at its peak rate, or bytes at its full bandwidth, whichever is longer.

The roofline of Williams, Waterman and Patterson (2009), for each run of a graph on its own. Real software reaches a share of
it, its efficiency, which `fit` takes from recorded runs. A run whose arithmetic takes longer is compute-bound, else memory-bound.
What was learned from small models, whose bytes caches hold, may say more than a share: `floor_s` is what no learning may undercut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgeprune_profiles.boards.device import Device, need_bandwidth, need_peak
from edgeprune_profiles.measure.work import Load, Stage

Bound = Literal["compute", "memory"]
#: Assumed overhead per node where a board has no figure: fused and replayed as one graph, launched one by one from a common host
#: processor, and from a small one.
LEAST_LAUNCH_S, LIKELY_LAUNCH_S, UNKNOWN_LAUNCH_S = 0.2e-6, 5e-6, 20e-6
#: More than the last-level cache of any board of a kind: what is streamed from end to end and is larger comes from memory every time.
CACHE_BYTES = {"jetson": 32 << 20, "gpu": 128 << 20, "cpu": 512 << 20}


@dataclass(frozen=True)
class Ideal:
    """A stage at peak rates. `precision` is that of most of its arithmetic.

    launch_s         known overhead of launching its nodes, 0 where the board has no figure
    launch_most_s    the same, or what is assumed at most where there is none
    launch_likely_s  what is assumed beside launch_s in the middle, 0 where there is a figure
    launch_least_s   and at the fast end
    floor_s          time that the board cannot beat whatever its caches hold, launches not counted
    """

    stage: str
    seconds: float
    bound: Bound
    precision: str
    launch_s: float
    launch_most_s: float
    launch_likely_s: float = 0.0
    launch_least_s: float = 0.0
    floor_s: float = 0.0


def ideal(device: Device, stage: Stage) -> Ideal:
    """Raises MeasurementError naming the figure that is not known of the device."""
    compute = [times * _arithmetic_s(device, load) for times, load in stage.runs]
    memory = [times * load.moved_bytes / need_bandwidth(device) for times, load in stage.runs]
    seconds = sum(max(pair) for pair in zip(compute, memory, strict=True))
    bound: Bound = "compute" if sum(compute) >= sum(memory) else "memory"
    nodes = sum(times * load.nodes for times, load in stage.runs)
    known = device.launch_s.value if device.launch_s else None
    given, most, likely, least = (
        (0.0, UNKNOWN_LAUNCH_S, LIKELY_LAUNCH_S, LEAST_LAUNCH_S) if known is None else (known, known, 0.0, 0.0)
    )
    precision = _precision(load for _, load in stage.runs)
    floor = sum(times * _floor_s(device, load) for times, load in stage.runs)
    return Ideal(
        stage.name, seconds, bound, precision, nodes * given, nodes * most, nodes * likely, nodes * least, floor
    )


def _floor_s(device: Device, load: Load) -> float:
    """Arithmetic at peak, on boards whose peak is the chip's and not one that was measured; and what no cache can hold."""
    arithmetic = 0.0 if device.kind == "cpu" else _arithmetic_s(device, load)
    streamed = load.streamed_bytes if load.streamed_bytes > CACHE_BYTES[device.kind] else 0.0
    return max(arithmetic, streamed / need_bandwidth(device))


def _arithmetic_s(device: Device, load: Load) -> float:
    return sum(2 * macs / need_peak(device, precision) for precision, macs in load.macs.items())


def _precision(loads: Iterable[Load]) -> str:
    total: dict[str, float] = {}
    for load in loads:
        for name, macs in load.macs.items():
            total[name] = total.get(name, 0.0) + macs
    return max(total, key=lambda name: total[name], default="fp32")
