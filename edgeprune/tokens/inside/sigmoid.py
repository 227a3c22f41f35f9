"""Counts of P-Sigmoid: how many visual rows each stage has when a share of all layers together is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeprune.errors import PlanError

_STEPS = 200  # halvings of the interval in which the middle lies


def sigmoid_counts(entering: int, layers: int, cuts: Sequence[int], slope: float, share: float) -> tuple[int, ...]:
    """Visual rows that stay at each cut, of `entering`, so that about `share` of them is kept over all layers.

    Layer l has entering / (1 + exp(slope (l - b))) rows, b solved from the share; a stage has the mean of its layers. cuts: layers before
    which rows leave, ascending. Raises PlanError for a slope or a share that no sigmoid has.
    """
    if not (slope > 0 and 0 < share < 1):
        raise PlanError(
            f"slope {slope:g} and share {share:g} make no sigmoid; give a slope above 0 and a share between 0 and 1"
        )
    low, high = -1000.0 / slope - layers, 1000.0 / slope + 2 * layers
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(_shares(layers, slope, middle)) < share * layers else (low, middle)
    shares = _shares(layers, slope, (low + high) / 2)
    ends = (*cuts[1:], layers)
    return tuple(
        round(entering * sum(shares[first:end]) / (end - first)) for first, end in zip(cuts, ends, strict=True)
    )


def _shares(layers: int, slope: float, middle: float) -> list[float]:
    exponents = [slope * (layer - middle) for layer in range(layers)]
    return [1 / (1 + math.exp(one)) if one < 700 else 0.0 for one in exponents]
