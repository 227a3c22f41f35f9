"""A schedule as numbers: for each place where tokens can leave, the share of all of them that is left behind it.

Places are in the order in which a token meets them: blocks of the tower, the tower's output, layers of the language model. Shares never
grow along them; one that equals the one before lets nobody leave there, so that counts and places are searched together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

PlacePart = Literal["tower", "output", "language"]
Kept = tuple[float, ...]
#: The share of the whole model's price that a schedule costs; None where the model cannot do it.
PriceOf = Callable[[Kept], "float | None"]
_HALVINGS = 40
_STEEPEST = 700.0  # exponents beyond it overflow


@dataclass(frozen=True)
class SchedulePlace:
    """Where tokens can leave. layer: block of the tower or layer of the language model; depth: 0 to 1, how far into the model."""

    part: PlacePart
    layer: int
    depth: float


def falling(shares: Sequence[float]) -> Kept:
    """The same, none above the one before."""
    found: list[float] = []
    for share in shares:
        found.append(min(share, found[-1] if found else 1.0))
    return tuple(found)


def uniform(count: int, share: float) -> Kept:
    """The same share of what arrives stays at each of so many places."""
    return tuple(share ** (number + 1) for number in range(count))


def in_part(places: Sequence[SchedulePlace], part: PlacePart, share: float) -> Kept:
    """The same where tokens leave in one part only."""
    left, found = 1.0, []
    for place in places:
        left *= share if place.part == part else 1.0
        found.append(left)
    return tuple(found)


def sigmoid(places: Sequence[SchedulePlace], slope: float, floor: float, middle: float) -> Kept:
    """P-Sigmoid's shares (CVPR 2025, abstract) over the whole depth, above a floor: floor + (1 - floor) / (1 + exp(slope (d - middle)))."""
    return falling([floor + (1 - floor) * _logistic(slope * (middle - place.depth)) for place in places])


def powered(kept: Kept, exponent: float) -> Kept:
    """The same shape for another price: above 1 fewer stay everywhere, below 1 more."""
    return tuple(share**exponent for share in kept)


def dearest(family: Callable[[float], Kept], price: PriceOf, limit: float) -> Kept | None:
    """Of a family over 0 to 1 whose price rises, the last that costs no more than `limit`; None where none does and can be."""
    low, high, found = 0.0, 1.0, None
    whole = family(1.0)
    if (cost := price(whole)) is not None and cost <= limit:
        return whole
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        cost = price(kept := family(middle))
        if cost is None or cost <= limit:
            low = middle
            found = kept if cost is not None else found
        else:
            high = middle
    return found


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -_STEEPEST else 0.0
