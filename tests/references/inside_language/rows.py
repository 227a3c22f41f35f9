"""Words that all references of this folder share: orders, lists of rows, counts, and the controls.

Every reference here is written from the description of its method only (paper or repository, named in its docstring),
in numpy and loops. Nothing is meant to be fast, nothing is shared with what is tested against it.

Terms. A prompt has L rows (text, newlines, visual rows) numbered 0..L-1; at a cut before layer j some of them have
*arrived*. `visual` are the numbers of the visual rows among them, ascending; every other row is fixed and always goes on.
An *order* names all visual rows, best first; ties fall to the lower row. A *list* names the rows that go on, ascending.
Buffers may be longer than the prompt: rows at and behind `length` hold garbage and are never read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Order = list[int]


def best_first(score: Mapping[int, float]) -> Order:
    """Rows by descending score, ties by the lower row. A score that is no number would make any order possible."""
    if any(math.isnan(value) for value in score.values()):
        raise ValueError(f"rows {[row for row in score if math.isnan(score[row])]} have no score")
    return sorted(score, key=lambda row: (-score[row], row))


def forced_first(order: Order, forced: Sequence[int]) -> Order:
    """The same order with the forced rows in front: what a large bonus on their scores does."""
    inside = set(forced)
    return [row for row in order if row in inside] + [row for row in order if row not in inside]


def kept(order: Order, count: int) -> list[int]:
    """The first `count` of an order, ascending; all of them where fewer arrived."""
    return sorted(order[: max(count, 0)])


def going_on(rows: Sequence[int], visual: Sequence[int], stay: Sequence[int]) -> list[int]:
    """The list behind a cut: every row that is not visual, and of the visual ones those that stay; ascending."""
    leaving = set(visual) - set(stay)
    if not set(stay) <= set(visual):
        raise ValueError(f"rows {sorted(set(stay) - set(visual))} are no visual rows")
    return sorted(row for row in rows if row not in leaving)


def share_of(keep: float, rows: int) -> int:
    """Count for a share (above 0 up to 1) or a count (whole, above 1) of some rows; 0 stays 0.

    Never more than there are, and a share leaves at least one. Shares are rounded to the nearest whole, halves to the
    even one, as budgets at the output are. FastV rounds alike; FEATHER and SparseVLM's lists cut off (`int`).
    """
    if keep == 0 or rows == 0:
        return 0
    if keep > 1:
        if keep != int(keep):
            raise ValueError(f"a count is a whole number: {keep}")
        return min(int(keep), rows)
    return min(max(round(keep * rows), 1), rows)


def planned_counts(entering: int, cuts: int, keep: Sequence[float]) -> list[int]:
    """Visual rows after each of several cuts in the language model.

    One value per cut: shares are of the rows that *enter the language model* (PyramidDrop's list 0.5, 0.25, 0.125). One
    value for several cuts: a share is of what *arrives* at each (0.5 three times is the same list); a count holds for all.
    Nothing comes back, so a count never exceeds the one before.
    """
    if len(keep) not in (1, cuts):
        raise ValueError(f"{len(keep)} values for {cuts} cuts")
    counts: list[int] = []
    there = entering
    for cut in range(cuts):
        of_all, of_arrived = share_of(keep[cut % len(keep)], entering), share_of(keep[0], there)
        there = of_arrived if len(keep) == 1 else min(of_all, there)
        counts.append(there)
    return counts


def counts_by_layer(entering: int, layers: int, at: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Visual rows in every layer, for cuts *before* layers `at` (from 0)."""
    found = []
    for layer in range(layers):
        there = entering
        for before, count in zip(at, counts, strict=True):
            if layer >= before:
                there = count
        found.append(there)
    return found


def average_kept(entering: int, by_layer: Sequence[float]) -> float:
    """Mean over layers of the share of visual rows: what papers quote as "kept"."""
    return math.fsum(by_layer) / (len(by_layer) * entering)


# controls -------------------------------------------------------------------------------------------------------------


def by_noise(noise: Array, visual: Sequence[int]) -> Order:
    """Control: rows by given noise [L], highest first. Which generator makes it and how it is seeded is left open."""
    return best_first({row: float(noise[row]) for row in visual})


def uniform(visual: Sequence[int], count: int) -> list[int]:
    """Control: visual rows number floor((i + 1/2) * n / count) of the n that arrive; all of them when n <= count.

    The middles of equal pieces, as the output method of this name takes them. No order has these sets as prefixes.
    """
    n = len(visual)
    if n <= count:
        return list(visual)
    return [visual[(2 * i + 1) * n // (2 * count)] for i in range(count)]


def by_encoder(score: Mapping[int, float]) -> Order:
    """Control, and VFlowOpt's later stages: visual rows by a score that the vision tower gave them, known before prefill.

    `score` maps a visual row to its token's score (class attention, or attention received where there is no class token).
    """
    return best_first(score)


def dropped_all(rows: Sequence[int], visual: Sequence[int]) -> list[int]:
    """Control, and YOPO's cut and ToDRE's second stage: every visual row leaves, every other one stays."""
    return going_on(rows, visual, [])
