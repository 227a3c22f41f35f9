"""Axes that are one and the same dimension, and unions of single elements across such dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeprune_export.onnx_pruning.program import Axis
from edgeprune_export.onnx_pruning.rules.relations import Same


@dataclass(frozen=True)
class Classes:
    """Dimensions, each with a run of cells: one cell per element.

    of       axis -> its dimension
    offsets  [D + 1] first cell of every dimension
    """

    of: Mapping[Axis, int]
    offsets: np.ndarray

    def cells(self, axis: Axis) -> np.ndarray:
        """Cells of all elements of the axis, in order."""
        dimension = self.of[axis]
        return np.arange(self.offsets[dimension], self.offsets[dimension + 1])

    @property
    def count(self) -> int:
        return int(self.offsets[-1])


def classes(sizes: Mapping[Axis, int], same: Iterable[Same]) -> Classes:
    """Join axes that are said to be the same."""
    parent = {axis: axis for axis in sizes}

    def root(axis: Axis) -> Axis:
        while parent[axis] != axis:
            parent[axis] = parent[parent[axis]]
            axis = parent[axis]
        return axis

    for one, other in same:
        parent[root(other)] = root(one)
    numbers: dict[Axis, int] = {}
    of = {axis: numbers.setdefault(root(axis), len(numbers)) for axis in sizes}
    return Classes(of, np.concatenate([[0], np.cumsum([sizes[axis] for axis in numbers], dtype=np.int64)]))


def components(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[count] the smallest cell that is joined with each cell, given edges one[i] - other[i]."""
    label = np.arange(count)
    while len(one):
        low = np.minimum(label[one], label[other])
        joined = label.copy()
        np.minimum.at(joined, label[one], low)
        np.minimum.at(joined, label[other], low)
        while not np.array_equal(joined, joined[joined]):
            joined = joined[joined]
        if np.array_equal(joined, label):
            break
        label = joined
    return label
