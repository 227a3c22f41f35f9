"""Exact totals of a graph whose groups shrink, without writing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgeprune_export.onnx_pruning.count import Product
from edgeprune_export.onnx_pruning.groups.find import Coupling
from edgeprune_export.onnx_pruning.program import Axis, Program


class Tally:
    """The counted total of a graph while groups shrink; a step recomputes only what it touches."""

    def __init__(self, program: Program, coupling: Coupling, products: Sequence[Product]) -> None:
        self.kept = [group.count for group in coupling.groups]
        axes = {axis for product in products for axis in product}
        self._shrinks = {axis: _per_unit(coupling, axis) for axis in axes}
        self._full = {axis: program.size(axis) for axis in axes}
        self._groups = coupling.groups
        # Products of equal lengths now and ever are counted once.
        same: Counter[tuple[tuple[int, tuple[tuple[int, int], ...]], ...]] = Counter()
        for product in products:
            same[tuple(sorted((self._full[axis], self._shrinks[axis]) for axis in product))] += 1
        self._terms = list(same.items())
        self._touched = [
            [i for i, (term, _) in enumerate(self._terms) if any(g == group for _, parts in term for g, _ in parts)]
            for group in range(len(coupling.groups))
        ]
        self.total = sum(self._term(i) for i in range(len(self._terms)))

    def after(self, group: int, kept: int) -> int:
        """The total if the group had so many units."""
        before = sum(self._term(i) for i in self._touched[group])
        held, self.kept[group] = self.kept[group], kept
        change = sum(self._term(i) for i in self._touched[group]) - before
        self.kept[group] = held
        return self.total + change

    def take(self, group: int, kept: int) -> None:
        self.total = self.after(group, kept)
        self.kept[group] = kept

    def _term(self, i: int) -> int:
        term, times = self._terms[i]
        for full, parts in term:
            times *= full - sum(each * (self._groups[group].count - self.kept[group]) for group, each in parts)
        return times


def _per_unit(coupling: Coupling, axis: Axis) -> tuple[tuple[int, int], ...]:
    """(group, elements of the axis that each of its units takes), of all groups on the axis."""
    if axis not in coupling.labels:
        return ()
    labels = coupling.labels[axis]
    starts = [group.start for group in coupling.groups]
    group_of = np.searchsorted(starts, labels[labels >= 0], side="right") - 1
    counts = enumerate(np.bincount(group_of, minlength=len(starts)).tolist())
    return tuple((i, count // coupling.groups[i].count) for i, count in counts if count)
