"""Difference of two scores on the same questions, with an interval that knows that questions share pictures.

Percentile bootstrap of the mean difference; whole pictures are resampled, because answers about one picture succeed or
fail together and would otherwise count as more evidence than they are. Below MIN_CLUSTERS pictures no difference is
called distinguishable: even if all agree in sign, chance does that in more than 5 % of cases (2 / 2^n).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune_runtime.errors import MeasurementError

MIN_CLUSTERS = 6
LEVEL = 0.95
_CHUNK = 1_000_000  # resampled values held at a time: 8 MB


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of a - b over `n` questions in `clusters` pictures, with its 95 % interval."""

    point: float
    low: float
    high: float
    n: int
    clusters: int
    distinguishable: bool


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    seed: int,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
) -> PairedDifference:
    """Mean of a[i] - b[i] with a bootstrap interval.

    a, b      scores of the same questions in the same order
    clusters  which picture each question is about; None = every question stands alone
    returns   the same numbers for the same seed
    """
    if len(a) != len(b) or not len(a) or (clusters is not None and len(clusters) != len(a)):
        counts = f"{len(a)} and {len(b)} scores" + ("" if clusters is None else f", {len(clusters)} clusters")
        raise MeasurementError(f"a paired difference needs as many values on both sides, got {counts}")
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    keys = range(len(a)) if clusters is None else clusters
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    member = np.array([number[key] for key in keys])
    sums = np.bincount(member, weights=difference)
    sizes = np.bincount(member)

    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // sums.size)
    means = []
    for start in range(0, resamples, rows):
        index = generator.integers(0, sums.size, size=(min(rows, resamples - start), sums.size))
        means.append(sums[index].sum(axis=1) / sizes[index].sum(axis=1))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    apart = sums.size >= MIN_CLUSTERS and not low <= 0 <= high
    return PairedDifference(
        float(difference.mean()), float(low), float(high), int(difference.size), int(sums.size), bool(apart)
    )
