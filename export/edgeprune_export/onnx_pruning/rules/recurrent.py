"""Rules of recurrent layers: a unit of the hidden state leaves with its rows in all gates and its column in the recurrence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.rules.relations import Cells, Frozen, Relation, RelationRule, Same, freeze

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_LENGTHS = 4
"""Where the lengths of the sequences stand among the inputs."""


def recurrent(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """x [S, B, I], W [D, G H, I], R [D, G H, H], bias [D, 2 G H], states [D, B, H], peepholes [D, 3 H] -> [S, D, B, H], states.

    Both directions (D) lose the same units. The layout that puts the batch first is not known.
    """
    if attribute(node, "layout", 0):
        yield from freeze(node, program)
        return
    x, weight, recurrence = node.input[:3]
    hidden = Axis(recurrence, 2)
    yield Same(Axis(x, 2), Axis(weight, 2))
    yield Frozen(Axis(x, 0), node.op_type)
    for name in (weight, recurrence):
        yield Frozen(Axis(name, 0), node.op_type)
        yield from _blocks(program, Axis(name, 1), hidden)
    for position, name in enumerate(node.input[3:], 3):
        if not name:
            continue
        if position == _LENGTHS:
            yield Same(Axis(name, 0), Axis(x, 1))
            continue
        yield Frozen(Axis(name, 0), node.op_type)
        if len(program.shapes[name]) == 3:
            yield Same(Axis(name, 1), Axis(x, 1))
        yield from _blocks(program, program.axes(name)[-1], hidden)
    for name in [n for n in node.output if n]:
        *leading, batch, features = program.axes(name)
        yield Same(features, hidden)
        yield Same(batch, Axis(x, 1))
        for axis in leading:
            yield Frozen(axis, node.op_type)


def _blocks(program: Program, axis: Axis, hidden: Axis) -> Iterator[Relation]:
    """The axis holds the units of the hidden state once or several times in a row."""
    place = np.arange(program.size(axis))
    yield Cells(axis, place, hidden, place % program.size(hidden))


RULES: dict[str, RelationRule] = dict.fromkeys(GATES, recurrent)
