"""What is doubtful in a device profile: figures that age and are old, that only repeat what others say, or that nobody gave.

Rates, memory and watts of a chip stay what they are; prices and software versions do not.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from edgeprune_profiles.boards.device import Device, Figure

#: Figures that another day may change.
AGEING = ("price", "TensorRT", "JetPack", "end of life")
_DATE = re.compile(r"(\d{4})(?:-(\d\d))?")


@dataclass(frozen=True)
class FigureDoubts:
    """Names of figures. `stale` says of when each is, `unknown` names what `recommend` would ask for."""

    device: str
    stale: dict[str, str]
    quoted: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def any(self) -> bool:
        return bool(self.stale or self.quoted or self.unknown)


def figure_doubts(device: Device, today: datetime.date, months: int) -> FigureDoubts:
    """`months`: from this age on, in months, a figure that ages is stale; one without a date always is."""
    figures = list(device.figures())
    dates = {name: device.dated(figure) for name, figure in figures if name in AGEING}
    return FigureDoubts(
        device.name,
        {name: date for name, date in dates.items() if _age_months(date, today) >= months},
        tuple(name for name, figure in figures if device.quoted(figure)),
        _unknown(device),
    )


def _age_months(date: str, today: datetime.date) -> float:
    """Whole months; of a year alone, from its last month on."""
    found = _DATE.match(date)
    if found is None:
        return float("inf")
    return (today.year - int(found[1])) * 12 + today.month - int(found[2] or 12)


def _unknown(device: Device) -> tuple[str, ...]:
    processor = device.kind == "cpu"
    wanted: dict[str, Figure | object | None] = {
        f"peak {'fp32' if processor else 'fp16'}": device.peak_per_s.get("fp32" if processor else "fp16"),
        "memory size": device.memory.size_bytes,
        "memory bandwidth": device.memory.bandwidth_bytes_per_s,
        "power": device.mode,
        "price": device.market.price_usd,
    }
    if device.kind == "jetson":
        wanted["TensorRT"] = device.software.tensorrt
    bare = [mode.name for mode in device.power_modes if not (mode.of_the_peaks or mode.bandwidth_bytes_per_s)]
    return (*(name for name, figure in wanted.items() if figure is None), *(f"rates in mode {name}" for name in bare))
