"""Which axis of a merged dimension the units are: of [heads, width] in one axis the heads, of [channel, place, place] the channels."""

from __future__ import annotations

import numpy as np

from edgeprune_export.onnx_pruning.groups.classes import Classes, components
from edgeprune_export.onnx_pruning.program import Axis
from edgeprune_export.onnx_pruning.rules.relations import Merged

Held = dict[int, set[str]]
"""Cell -> operators that freeze it."""


def decided(dims: Classes, edges: list[tuple[np.ndarray, np.ndarray]], pending: list[Merged], held: Held) -> np.ndarray:
    """Labels of all cells, after choosing for every merged axis which of its parts the units are; the other parts are added to `held`."""
    chosen: set[int] = set()
    while True:
        label = components(dims.count, *(np.concatenate([np.empty(0, np.int64), *side]) for side in _sides(edges)))
        alive = ~np.isin(label, label[list(held)]) if held else np.ones(dims.count, bool)
        options = {m: [p for p in m.parts if alive[dims.cells(p)].any()] for m in pending}
        ready = [m for m in pending if len(options[m]) <= 1]
        if not pending:
            return label
        touched: set[int] = set()
        for merged in ready or pending:
            mine = {dims.of[axis] for axis in (merged.whole, *merged.parts)}
            if not ready and touched & mine:
                continue  # an earlier choice may have decided this one
            touched |= mine
            # Where several parts could be the units: the one that is elsewhere, then the outermost, as heads are stored.
            ranked = sorted(options[merged], key=lambda part: dims.of[part] not in chosen)
            unit = ranked[0] if ranked else None
            for axis in merged.parts if unit else (merged.whole, *merged.parts):
                if axis != unit:
                    for cell in dims.cells(axis):
                        held[int(cell)] |= {"Reshape"}
            if unit:
                chosen.add(dims.of[unit])
                edges.append((dims.cells(merged.whole), dims.cells(unit)[_index(merged, unit, dims)]))
            pending = [m for m in pending if m is not merged]


def _sides(edges: list[tuple[np.ndarray, np.ndarray]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [one for one, _ in edges], [other for _, other in edges]


def _index(merged: Merged, unit: Axis, dims: Classes) -> np.ndarray:
    """[size of the whole] index along the part `unit` of every element of the merged axis."""
    shape = [len(dims.cells(part)) for part in merged.parts]
    return np.unravel_index(np.arange(int(np.prod(shape))), shape)[merged.parts.index(unit)]
