"""What an operator says about its axes: which elements leave together, which can never leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import onnx

from edgeprune_export.onnx_pruning.program import Axis, Program


class Same(NamedTuple):
    """Element i of one axis is element i of the other."""

    one: Axis
    other: Axis


class Cells(NamedTuple):
    """Element at[i] of one axis leaves together with element to[i] of the other."""

    one: Axis
    at: np.ndarray
    other: Axis
    to: np.ndarray


class Frozen(NamedTuple):
    """No element of the axis may leave; `why` is the operator's name."""

    axis: Axis
    why: str


class Merged(NamedTuple):
    """The elements of `whole` are those of the product of `parts`, the last part running fastest (a reshape)."""

    whole: Axis
    parts: tuple[Axis, ...]


Relation = Same | Cells | Frozen | Merged
RelationRule = Callable[[onnx.NodeProto, Program], Iterator[Relation]]


def freeze(node: onnx.NodeProto, program: Program, because: str = "") -> Iterator[Relation]:
    """The rule for an operator that nobody knows: nothing it touches may change."""
    for name in (*node.input, *node.output):
        for axis in program.axes(name):
            yield Frozen(axis, node.op_type + because)


def linked(program: Program, one: str, other: str, *, skip: tuple[int, ...] = ()) -> Iterator[Relation]:
    """Equal axes of two values of one rank, except some."""
    for i in range(len(program.shapes[one])):
        if i not in skip:
            yield Same(Axis(one, i), Axis(other, i))


def broadcast(program: Program, name: str, output: str) -> Iterator[Relation]:
    """Axes of an operand, counted from the right, that are as long as the output's. The others are repeated."""
    shape, wide = program.shapes[name], program.shapes[output]
    for i, size in enumerate(shape):
        j = i + len(wide) - len(shape)
        if size == wide[j]:
            yield Same(Axis(name, i), Axis(output, j))


def positive(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis
