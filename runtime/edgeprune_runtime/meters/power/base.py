"""What a source of power readings is: it is read now and again, and gives watts, or joules counted so far, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

PERIOD_S = 0.05
PERIODS_PER_AVERAGE = 8  # a mean over 430 ms is polled every 54 ms: often enough to see it change


@dataclass(frozen=True, slots=True)
class Tick:
    """One reading; None = the sensor did not answer, or has no such quantity.

    power_w    watts now, or averaged over the sensor's own time
    energy_j   joules counted since the source was opened, with wrap-arounds unrolled
    wraps      wrap-arounds unrolled so far
    parts_w    watts of each of the source's parts, in their order
    """

    power_w: float | None = None
    energy_j: float | None = None
    wraps: int = 0
    parts_w: tuple[float | None, ...] = ()


class PowerSource(Protocol):
    """An opened sensor.

    name         what it reads, for people: "ina3221:VDD_IN", "nvml:energy_counter (GPU 0, ...)"
    covers       what the watts are of: "module", "board", "gpu" or "cpu"
    averaging_s  time over which the sensor itself averages; None = it does not say
    parts        names of further readings that are not added up: rails
    """

    @property
    def name(self) -> str: ...
    @property
    def covers(self) -> str: ...
    @property
    def averaging_s(self) -> float | None: ...
    @property
    def parts(self) -> tuple[str, ...]: ...

    def read(self) -> Tick:
        """Never raises for a sensor that does not answer: that is None."""


def period_for(averaging_s: float | None) -> float:
    """How often to read a sensor that averages over `averaging_s`; None = it does not say."""
    return PERIOD_S if averaging_s is None else max(PERIOD_S, averaging_s / PERIODS_PER_AVERAGE)
