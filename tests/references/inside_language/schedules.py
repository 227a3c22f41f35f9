"""G-Search and P-Sigmoid: one order of the visual rows, a count per layer, every layer's rows a prefix of the order.

Abstract only, no code found; what goes beyond it is a reconstruction and is marked so. The order is any question-aware
one of a layer behind the first (ranks agree in all layers but the first): FastV's before layer 2, say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .rows import Order, average_kept, kept


def prefixes(order: Order, counts: Sequence[int]) -> list[list[int]]:
    """Visual rows of every layer or stage; ascending. Counts never rise, so every list lies inside the one before."""
    if any(after > before for before, after in zip(counts, counts[1:], strict=False)):
        raise ValueError(f"counts rise: {list(counts)}")
    return [kept(order, count) for count in counts]


def gsearch(cost: Callable[[list[int]], float], entering: int, layers: int, tolerance: float) -> list[int]:
    """Counts per layer: from shallow to deep, the least count that costs no more than `tolerance`.

    `cost` takes the counts of all layers (loss against the uncut model on calibration pictures). For layer l all later
    layers have layer l's count at most: while it is searched they have that very count. Reconstructed: bisection in
    [1, n of the layer before], which takes cost to fall as the count grows; the count before it is the fallback.
    Left open: whether later layers are uncut or cut alike while a layer is searched. Cut alike is the stricter reading:
    uncut later layers would be rows coming back.
    """
    counts: list[int] = []
    for layer in range(layers):
        low, high = 1, counts[-1] if counts else entering
        while low < high:
            middle = (low + high) // 2
            if cost(counts + [middle] * (layers - layer)) <= tolerance:
                high = middle
            else:
                low = middle + 1
        counts.append(low)
    return counts


def sigmoid(entering: int, layers: int, slope: float, middle: float) -> list[float]:
    """P-Sigmoid, before rounding: n_l = N / (1 + exp(a * (l - b))) for layers l = 0, 1, ... (from 1: b is one higher)."""
    found = []
    for layer in range(layers):
        exponent = slope * (layer - middle)
        found.append(entering / (1 + math.exp(exponent)) if exponent < 700 else 0.0)
    return found


def middle_for(entering: int, layers: int, slope: float, budget: float) -> float:
    """b for which the mean share over layers is `budget`, by bisection (the mean grows with b)."""
    if not (slope > 0 and 0 < budget < 1):
        raise ValueError(f"slope above 0 and budget between 0 and 1, not {slope} and {budget}")
    low, high = -1000.0 / slope - layers, 1000.0 / slope + 2 * layers
    for _ in range(200):
        middle = (low + high) / 2
        if average_kept(entering, sigmoid(entering, layers, slope, middle)) < budget:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def psigmoid(entering: int, layers: int, slope: float, budget: float, least: int = 0) -> list[int]:
    """Counts per layer. Left open: rounding (here to the nearest, halves to the even one) and a least count (given)."""
    middle = middle_for(entering, layers, slope, budget)
    return [max(round(n), least) for n in sigmoid(entering, layers, slope, middle)]


def runs(counts: Sequence[int]) -> list[tuple[int, int]]:
    """(first layer, count) of every run of equal counts: what stages a schedule needs, exactly."""
    found: list[tuple[int, int]] = []
    for layer, count in enumerate(counts):
        if not found or found[-1][1] != count:
            found.append((layer, count))
    return found


def stage_counts(counts: Sequence[float], first: Sequence[int]) -> list[int]:
    """One count per stage that starts at these layers: the mean over its layers, so that the sum stays about the same.

    Left open in the source ("a few stages"): how counts that differ become one. Means of what never rises never rise.
    """
    ends = [*first[1:], len(counts)]
    return [round(math.fsum(counts[a:b]) / (b - a)) for a, b in zip(first, ends, strict=True)]
