"""The time that a device cannot beat: arithmetic at its peak rate, or bytes at its full bandwidth, whichever is longer.

The roofline of Williams, Waterman and Patterson (2009), for each run of a graph on its own. Real software reaches a share of
it, its efficiency, which `fit` takes from recorded runs. A run whose arithmetic takes longer is compute-bound, else memory-bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgeprune_profiles.boards.device import Device, need_bandwidth, need_peak
from edgeprune_profiles.measure.work import Load, Stage

Bound = Literal["compute", "memory"]
#: Assumed overhead of launching one node at the slow end, where a board has no figure: a kernel launch from a small host processor.
UNKNOWN_LAUNCH_S = 20e-6


@dataclass(frozen=True)
class Ideal:
    """A stage at peak rates. `precision` is that of most of its arithmetic.

    launch_s       known overhead of launching its nodes, 0 where the board has no figure
    launch_most_s  the same, or what is assumed at most where there is none
    """

    stage: str
    seconds: float
    bound: Bound
    precision: str
    launch_s: float
    launch_most_s: float


def ideal(device: Device, stage: Stage) -> Ideal:
    """Raises MeasurementError naming the figure that is not known of the device."""
    compute = [times * _arithmetic_s(device, load) for times, load in stage.runs]
    memory = [times * load.moved_bytes / need_bandwidth(device) for times, load in stage.runs]
    seconds = sum(max(pair) for pair in zip(compute, memory, strict=True))
    bound: Bound = "compute" if sum(compute) >= sum(memory) else "memory"
    nodes = sum(times * load.nodes for times, load in stage.runs)
    known = device.launch_s.value if device.launch_s else None
    least, most = (0.0, UNKNOWN_LAUNCH_S) if known is None else (known, known)
    precision = _precision(load for _, load in stage.runs)
    return Ideal(stage.name, seconds, bound, precision, nodes * least, nodes * most)


def _arithmetic_s(device: Device, load: Load) -> float:
    return sum(2 * macs / need_peak(device, precision) for precision, macs in load.macs.items())


def _precision(loads: Iterable[Load]) -> str:
    total: dict[str, float] = {}
    for load in loads:
        for name, macs in load.macs.items():
            total[name] = total.get(name, 0.0) + macs
    return max(total, key=lambda name: total[name], default="fp32")
