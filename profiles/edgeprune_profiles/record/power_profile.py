"""Joules of a request, of a picture and of a token: each piece of the work is repeated alone in a power window of its own.

Windows are long enough for the sensor (`edgeprune_runtime.meters.power.meter`), about 14 s each. What is stored is the raw recording;
joules, their error and what makes them doubtful are computed from it. A piece that takes less than `CALL_S` is repeated within a
call, so that a recording stays small. Pieces need not add up to the request: each keeps the device busy in its own way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from edgeprune_runtime.meters import PowerRun, SourceCandidate, joules, measure, powers_w
from edgeprune_runtime.statistics import Percentiles, percentiles

REQUEST = "request"
IMAGE = "image"
SELECT = "select"
PREFILL = "prefill"
DECODE = "decode"
#: In their order, and what their joules are per. An image is preprocessing, tower and selection; selection alone is a part of it.
PIECES = {
    REQUEST: "per request",
    IMAGE: "per image",
    SELECT: "selection alone",
    PREFILL: "prefill",
    DECODE: "per token",
}
CALL_S = 0.05

Work = Callable[[], object]


class PowerWindow(msgspec.Struct, frozen=True):
    """One piece of the work at one budget; `units_per_call` pieces (requests, pictures, tokens) in each call of the recording."""

    piece: str
    unit: str
    units_per_call: int
    run: PowerRun


@dataclass(frozen=True, slots=True)
class EnergyPiece:
    """Something to repeat: `work` does `units` of it. It can be called at any time and as often as one likes."""

    name: str
    unit: str
    units: int
    work: Work


@dataclass(frozen=True, slots=True)
class UnitEnergy:
    """Joules per unit, give or take the error of the method; None = unknown. `power_w`: of the readings while it ran.

    net_j   without idle power, which the device takes anyway
    flags   what makes this doubtful, as sentences
    """

    piece: str
    unit: str
    units: int
    source: str
    covers: str
    gross_j: float | None
    error_j: float | None
    net_j: float | None
    net_error_j: float | None
    idle_w: float | None
    power_w: Percentiles | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnergyRatio:
    """a/b, and how far the error of the method lets it be off. No interval of repeats: a window is one measurement."""

    point: float
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        return not self.low <= 1 <= self.high


def batched(work: Work, clock: Callable[[], float] = time.perf_counter) -> tuple[Work, int]:
    """The work, repeated so often that a call takes `CALL_S`, and how often. Runs it once to see how long it takes."""
    start_s = clock()
    work()
    times = max(1, math.ceil(CALL_S / max(clock() - start_s, 1e-6)))

    def call() -> None:
        for _ in range(times):
            work()

    return (work if times == 1 else call), times


def power_window(
    piece: EnergyPiece, chosen: SourceCandidate, run: Callable[[Work, SourceCandidate], PowerRun] = measure
) -> PowerWindow:
    """Measure one piece. Raises MeasurementError when the sampler does not start."""
    work, times = batched(piece.work)
    return PowerWindow(piece.name, piece.unit, times * piece.units, run(work, chosen))


def unit_energy(window: PowerWindow) -> UnitEnergy:
    found = joules(window.run)
    units = found.calls * window.units_per_call

    def each(value_j: float | None) -> float | None:
        return None if value_j is None or not units else value_j / units

    return UnitEnergy(
        piece=window.piece,
        unit=window.unit,
        units=units,
        source=found.source,
        covers=found.covers,
        gross_j=each(found.gross_j),
        error_j=each(found.error_j),
        net_j=each(found.net_j),
        net_error_j=each(found.net_error_j),
        idle_w=found.idle_w,
        power_w=percentiles(powers_w(window.run)),
        flags=found.flags,
    )


def unit_energies(windows: Sequence[PowerWindow]) -> dict[str, UnitEnergy]:
    """By piece, in the order in which they were measured."""
    return {window.piece: unit_energy(window) for window in windows}


def energy_ratio(a: UnitEnergy | None, b: UnitEnergy | None) -> EnergyRatio | None:
    """Gross joules of a over those of b; None where one is unknown, or the two cover different things."""
    if a is None or b is None or a.covers != b.covers or not a.gross_j or not b.gross_j:
        return None
    a_error, b_error = a.error_j or 0.0, b.error_j or 0.0
    low = max(0.0, a.gross_j - a_error) / (b.gross_j + b_error)
    high = math.inf if b_error >= b.gross_j else (a.gross_j + a_error) / (b.gross_j - b_error)
    return EnergyRatio(a.gross_j / b.gross_j, low, high)


def doubts(energies: Mapping[str, Mapping[str, UnitEnergy]]) -> dict[str, list[str]]:
    """Sentence -> where it applies, as "budget piece"; `energies` by budget and piece."""
    found: dict[str, list[str]] = {}
    for budget, pieces in energies.items():
        for piece, energy in pieces.items():
            for sentence in energy.flags:
                found.setdefault(sentence, []).append(f"{budget} {piece}")
    return found
