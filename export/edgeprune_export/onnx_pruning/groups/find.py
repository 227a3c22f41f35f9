"""Coupled groups: which elements of which axes leave together, found on the whole graph at once.

Every element of every axis is a cell. Operators join cells (`relations`) or freeze them; what is joined is one unit, which stays or
leaves as a whole. A reshape that merges axes is decided last: the elements of one of the merged axes become the units (heads), the
others lie inside a unit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeprune_export.onnx.graph import CONTRIB
from edgeprune_export.onnx_pruning.groups.classes import Classes, classes
from edgeprune_export.onnx_pruning.groups.merging import Held, decided
from edgeprune_export.onnx_pruning.layers import roles
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.rules import layers, layout, plain, recurrent, reshape
from edgeprune_export.onnx_pruning.rules.relations import Cells, Frozen, Merged, Relation, RelationRule, Same, freeze

RULES: dict[str, dict[str, RelationRule]] = {
    "": {**plain.RULES, **layers.RULES, **layout.RULES, **reshape.RULES, **recurrent.RULES},
    CONTRIB: {**plain.CONTRIB_RULES, **layers.CONTRIB_RULES},
}
"""Domain -> operator -> rule. Operators of one name in two domains have nothing in common."""


ONLY = "its only element"
"""Why an axis of length one stays where nothing else holds it."""


@dataclass(frozen=True)
class Group:
    """Units of one kind: channels of a layer, units of an MLP, heads of an attention.

    name   the first weight that makes them
    start  number of the first unit; units are numbered through all groups
    block  elements in a row that a unit has in the weights that make it: 1 for channels, the head's width for heads
    """

    name: str
    start: int
    count: int
    block: int


@dataclass(frozen=True)
class FrozenGroup:
    """A dimension between layers that cannot be pruned, and the operators (or 'graph input', 'graph output') that hold it."""

    name: str
    size: int
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Coupling:
    """labels: axis -> [size] number of the unit each element belongs to, -1 where it never leaves; axes without units are absent."""

    labels: Mapping[Axis, np.ndarray]
    groups: tuple[Group, ...]
    frozen: tuple[FrozenGroup, ...]

    @property
    def units(self) -> int:
        return sum(group.count for group in self.groups)


def couple(program: Program) -> Coupling:
    """All groups of a graph."""
    relations = list(_relations(program))
    sizes = {axis: program.size(axis) for value in program.shapes for axis in program.axes(value)}
    dims = classes(sizes, [r for r in relations if isinstance(r, Same)])
    held = _held(dims, relations)
    edges = [(dims.cells(r.one)[r.at], dims.cells(r.other)[r.to]) for r in relations if isinstance(r, Cells)]
    label = decided(dims, edges, [r for r in relations if isinstance(r, Merged)], held)
    why = _reasons(label, held)
    return _named(program, dims, label, why)


def _relations(program: Program) -> Iterable[Relation]:
    for name, why in [(n, "graph input") for n in program.inputs] + [(n, "graph output") for n in program.outputs]:
        for axis in program.axes(name):
            yield Frozen(axis, why)
    for name in program.captured():
        for axis in program.axes(name):
            yield Frozen(axis, "control flow")
    for node in program.nodes:
        rule = RULES.get(node.domain, {}).get(node.op_type)
        shaped = all(name in program.shapes for name in (*node.input, *node.output) if name)
        if rule is None:
            yield from freeze(node, program)
        elif not shaped:
            yield from freeze(node, program, " of unknown shape")
        else:
            yield from rule(node, program)


def _held(dims: Classes, relations: Iterable[Relation]) -> Held:
    held: Held = defaultdict(set)
    whole: dict[int, set[str]] = defaultdict(set)
    for relation in relations:
        if isinstance(relation, Frozen):
            whole[dims.of[relation.axis]].add(relation.why)
    for dimension, why in whole.items():
        for cell in range(dims.offsets[dimension], dims.offsets[dimension + 1]):
            held[cell] |= why
    # The only element of an axis: without it nothing would be left.
    for only in np.flatnonzero(np.diff(dims.offsets) == 1).tolist():
        held[int(dims.offsets[only])] |= set()
    return held


def _reasons(label: np.ndarray, held: Held) -> dict[int, set[str]]:
    """Component -> operators that freeze it; components without an entry are units."""
    why: dict[int, set[str]] = defaultdict(set)
    for cell, operators in held.items():
        why[int(label[cell])] |= operators
    return dict(why)


def _named(program: Program, dims: Classes, label: np.ndarray, why: Mapping[int, set[str]]) -> Coupling:
    """Number the units by group. Units are of one group when they take equally many elements of the same dimensions."""
    places: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for dimension in range(len(dims.offsets) - 1):
        here = label[dims.offsets[dimension] : dims.offsets[dimension + 1]]
        for unit, count in zip(*(part.tolist() for part in np.unique(here, return_counts=True)), strict=True):
            if unit not in why:
                places[unit].append((dimension, count))
    kinds: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for unit in sorted(places):
        kinds[tuple(places[unit])].append(unit)
    makers, readers = roles(program)
    candidates = []
    for kind, units in kinds.items():
        taken = {dimension for dimension, _ in kind}
        made = [i for i, axis in enumerate(makers) if dims.of[axis] in taken]
        if made:
            candidates.append((made[0], units, min(_run(label[dims.cells(makers[i])], units[0]) for i in made)))
    number = np.full(len(label), -1)
    groups: list[Group] = []
    start = 0
    for first, units, block in sorted(candidates):
        number[units] = np.arange(start, start + len(units))
        groups.append(Group(makers[first].value, start, len(units), block))
        start += len(units)
    labels = {axis: number[label[dims.cells(axis)]] for axis in dims.of}
    return Coupling(
        {axis: units for axis, units in labels.items() if (units >= 0).any()},
        tuple(groups),
        tuple(_frozen([*makers, *readers], program, dims, label, why)),
    )


def _run(labels: np.ndarray, unit: int) -> int:
    """Longest run of one label."""
    places = np.flatnonzero(labels == unit)
    return max(len(part) for part in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1))


def _frozen(
    layer_axes: Iterable[Axis], program: Program, dims: Classes, label: np.ndarray, why: Mapping[int, set[str]]
) -> Iterable[FrozenGroup]:
    """One entry per dimension of a layer's weight that is frozen throughout."""
    reported: set[int] = set()
    for axis in layer_axes:
        cells = label[dims.cells(axis)].tolist()
        if reported.issuperset(cells) or not all(cell in why for cell in cells):
            continue
        reported.update(cells)
        operators = sorted(set().union(*(why[cell] for cell in cells)))
        yield FrozenGroup(axis.value, program.size(axis), tuple(operators) or (ONLY,))
