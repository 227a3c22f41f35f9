"""What the sampling process is told, and the lines that it writes: JSON, one message a line."""

from __future__ import annotations

import msgspec

from edgeprune_runtime.meters.clocks import BoardState
from edgeprune_runtime.meters.power.base import Tick


class Order(msgspec.Struct, frozen=True):
    """What the process is told, as JSON in its one argument. `period_s` None = what suits the source."""

    kind: str
    root: str
    why: str
    period_s: float | None = None


class Opening(msgspec.Struct, frozen=True, tag="opening"):
    """First line: what is read."""

    source: str
    covers: str
    averaging_s: float | None
    period_s: float
    parts: tuple[str, ...]


class SensorReading(msgspec.Struct, frozen=True, tag="reading"):
    """One look at the source."""

    t_ns: int
    wall_ns: int
    boot_ns: int
    tick: Tick


class State(msgspec.Struct, frozen=True, tag="state"):
    """One look at the board; its time in nanoseconds, as in `SensorReading`."""

    t_ns: int
    state: BoardState


class Closing(msgspec.Struct, frozen=True, tag="closing"):
    """Last line: processor and wall seconds of the process between its first and its last reading."""

    cpu_s: float
    wall_s: float


TraceLine = Opening | SensorReading | State | Closing
