"""How warm the board is, how fast it runs and what holds it back, as a series: for thermal soak and to mark results.

`profile --sustain` compares the first minute with the last: `state_summary` sums up one stretch of the series. A clock that is
lower at the end while something throttles is the board's sustained speed; one that is lower with nothing throttling is
a governor that saw less to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeprune_runtime.meters.boards.jetson import emc_hz, gpu_hz
from edgeprune_runtime.meters.sysfs import number
from edgeprune_runtime.meters.thermal import slowed_by, temperatures_c, throttle_events


@dataclass(frozen=True, slots=True)
class BoardState:
    """At `t_s`: degrees and clocks by name, what slows the board down now (None = cannot be read), events since boot."""

    t_s: float
    temperature_c: dict[str, float]
    clock_hz: dict[str, float]
    throttle: tuple[str, ...] | None = None
    events: dict[str, int] | None = None


class Gpu(Protocol):
    """What a discrete GPU adds; see `nvml.py`."""

    def temperatures_c(self) -> dict[str, float]: ...
    def clocks_hz(self) -> dict[str, float]: ...
    def throttle_reasons(self) -> tuple[str, ...] | None: ...


@dataclass(frozen=True, slots=True)
class StateSummary:
    """One stretch of a series: hottest and mean by name, and the share of looks in which something throttled."""

    start_s: float
    end_s: float
    hottest_c: dict[str, float]
    mean_hz: dict[str, float]
    throttled_share: float | None
    throttle: tuple[str, ...]
    events: dict[str, int]


def board_state(root: Path, t_s: float, gpu: Gpu | None = None) -> BoardState:
    """Look now. Readings of the GPU's own driver come under names that begin with `nvml`."""
    reasons = [found for found in (slowed_by(root), gpu.throttle_reasons() if gpu else None) if found is not None]
    return BoardState(
        t_s=t_s,
        temperature_c=temperatures_c(root) | (gpu.temperatures_c() if gpu else {}),
        clock_hz=clocks_hz(root) | (gpu.clocks_hz() if gpu else {}),
        throttle=sum(reasons, ()) if reasons else None,
        events=throttle_events(root),
    )


def clocks_hz(root: Path) -> dict[str, float]:
    """Clocks of the fastest core, of a Jetson's GPU, and of its memory where that can be read.

    The fastest core, because idle cores slow down at once and say nothing about how fast work runs.
    """
    cores = [number(path) for path in root.glob("sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq")]
    fastest_khz = max((khz for khz in cores if khz is not None), default=None)
    asked = {"cpu": None if fastest_khz is None else fastest_khz * 1e3, "gpu": gpu_hz(root), "emc": emc_hz(root)}
    return {name: hertz for name, hertz in asked.items() if hertz is not None}


def state_summary(states: Sequence[BoardState], start_s: float, end_s: float) -> StateSummary | None:
    """Sum up what was read from `start_s` to `end_s`; None when nothing was."""
    inside = [state for state in states if start_s <= state.t_s <= end_s]
    if not inside:
        return None
    throttle = [state.throttle for state in inside if state.throttle is not None]
    speeds: dict[str, list[float]] = {}
    hottest: dict[str, float] = {}
    for state in inside:
        for name, hertz in state.clock_hz.items():
            speeds.setdefault(name, []).append(hertz)
        for name, degrees in state.temperature_c.items():
            hottest[name] = max(degrees, hottest.get(name, degrees))
    return StateSummary(
        start_s=start_s,
        end_s=end_s,
        hottest_c=hottest,
        mean_hz={name: sum(values) / len(values) for name, values in speeds.items()},
        throttled_share=sum(map(bool, throttle)) / len(throttle) if throttle else None,
        throttle=tuple(dict.fromkeys(reason for reasons in throttle for reason in reasons)),
        events=_grown(inside[0].events or {}, inside[-1].events or {}),
    )


def _grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in after.items() if name in before and count > before[name]}
