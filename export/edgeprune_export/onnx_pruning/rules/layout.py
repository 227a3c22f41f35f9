"""Rules of operators that pick elements or put them together: concatenate, split, slice, gather, pad, resize."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.program import Axis, Program, axes_given
from edgeprune_export.onnx_pruning.rules.relations import (
    Cells,
    Frozen,
    Relation,
    RelationRule,
    Same,
    freeze,
    linked,
    positive,
)


def concat(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    yield from _in_row(node, program, node.output[0], list(node.input))


def split(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    yield from _in_row(node, program, node.input[0], list(node.output))


def _in_row(node: onnx.NodeProto, program: Program, whole: str, parts: list[str]) -> Iterator[Relation]:
    """`whole` holds the `parts` one after the other along the node's axis."""
    axis = positive(attribute(node, "axis", 0), len(program.shapes[whole]))
    start = 0
    for name in parts:
        yield from linked(program, name, whole, skip=(axis,))
        place = np.arange(program.shapes[name][axis])
        if Axis(whole, axis) in program.symbolic:
            yield Frozen(Axis(name, axis), node.op_type)
        yield Cells(Axis(name, axis), place, Axis(whole, axis), place + start)
        start += len(place)


def slices(node: onnx.NodeProto, program: Program) -> dict[int, range] | None:
    """Axis -> indices that a Slice keeps; None where they are not constant."""
    given = [program.constant(node, i) for i in (1, 2, 3, 4)]
    if any(
        position < len(node.input) and node.input[position] and given[position - 1] is None for position in (1, 2, 3, 4)
    ):
        return None
    starts = attribute(node, "starts") if given[0] is None else given[0].tolist()
    ends = attribute(node, "ends") if given[1] is None else given[1].tolist()
    steps = [1] * len(starts) if given[3] is None else given[3].tolist()
    shape = program.shapes[node.input[0]]
    axes = axes_given(node, program, 3) or list(range(len(starts)))
    return {
        positive(axis, len(shape)): range(*slice(start, end, step).indices(shape[axis]))
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }


def cut(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Slice: what is kept of an axis is a run of it; with steps the axis stays whole."""
    kept = slices(node, program)
    if kept is None or any(Axis(node.input[0], axis) in program.symbolic for axis in kept):
        yield from freeze(node, program)
        return
    yield from linked(program, node.input[0], node.output[0], skip=tuple(kept))
    for axis, places in kept.items():
        one, other = Axis(node.input[0], axis), Axis(node.output[0], axis)
        if places.step == 1:
            yield Cells(one, np.array(places, np.int64), other, np.arange(len(places)))
        else:
            yield Frozen(one, node.op_type)
            yield Frozen(other, node.op_type)


def gather(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Constant indices in a row pick elements; one index, or computed ones, hold the axis."""
    data, index, out = node.input[0], node.input[1], node.output[0]
    shape, picked = program.shapes[data], program.shapes[index]
    axis = positive(attribute(node, "axis", 0), len(shape))
    for i in range(len(shape)):
        if i != axis:
            yield Same(Axis(data, i), Axis(out, i if i < axis else i - 1 + len(picked)))
    constant = program.constant(node, 1)
    if constant is not None and len(picked) == 1 and Axis(data, axis) not in program.symbolic:
        yield Cells(Axis(data, axis), constant, Axis(out, axis), np.arange(len(constant)))
        yield Same(Axis(index, 0), Axis(out, axis))
        return
    yield Frozen(Axis(data, axis), node.op_type)
    for i in range(len(picked)):
        yield Same(Axis(index, i), Axis(out, axis + i))
        yield Frozen(Axis(index, i), node.op_type)


def pad(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Padded axes stay, the others keep their index."""
    rank = len(program.shapes[node.input[0]])
    given = program.constant(node, 1)
    pads = attribute(node, "pads") if given is None else given.tolist()
    if pads is None or (len(node.input) > 3 and node.input[3] and program.constant(node, 3) is None):
        yield from freeze(node, program)
        return
    axes = [positive(axis, rank) for axis in axes_given(node, program, 3) or range(rank)]
    padded = {axis for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False) if before or after}
    yield from linked(program, node.input[0], node.output[0], skip=tuple(padded))
    for axis in padded:
        yield Frozen(Axis(node.input[0], axis), node.op_type)
        yield Frozen(Axis(node.output[0], axis), node.op_type)


def resize(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Axes that keep their length keep their index, by scales as by sizes, which must be constant."""
    if program.constant(node, len(node.input) - 1) is None or _is_cropped(node):
        yield from freeze(node, program)
        return
    for one, other in zip(program.axes(node.input[0]), program.axes(node.output[0]), strict=True):
        if program.size(one) == program.size(other):
            yield Same(one, other)
        else:
            yield Frozen(one, node.op_type)
            yield Frozen(other, node.op_type)


def _is_cropped(node: onnx.NodeProto) -> bool:
    """The region of interest scales too, or a policy decides on lengths."""
    mode: bytes = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    policy: bytes = attribute(node, "keep_aspect_ratio_policy", b"stretch")
    return mode == b"tf_crop_and_resize" or policy != b"stretch"


def shape_of(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """A Shape that depends on the batch, so that it is computed: every other axis it reads must keep its length."""
    axes = program.axes(node.input[0])
    for axis in axes[attribute(node, "start", 0) : attribute(node, "end", len(axes))]:
        if axis not in program.symbolic:
            yield Frozen(axis, node.op_type)


RULES: dict[str, RelationRule] = {
    "Concat": concat,
    "Split": split,
    "Slice": cut,
    "Gather": gather,
    "Pad": pad,
    "Resize": resize,
    "Shape": shape_of,
}
