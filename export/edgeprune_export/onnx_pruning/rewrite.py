"""Write the choice into the graph: weights sliced, and what operators state about lengths said anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import helper

from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.groups.find import Coupling
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.rules.layout import slices
from edgeprune_export.onnx_pruning.rules.recurrent import GATES
from edgeprune_export.onnx_pruning.rules.relations import positive


@dataclass
class Pruning:
    """One rewriting under way. keeps: axis -> [size] True where the element stays, for axes that lose some; constants grows."""

    program: Program
    keeps: Mapping[Axis, np.ndarray]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def changed(self, name: str) -> bool:
        return self.shapes.get(name) != self.program.shapes.get(name)

    def new(self, node: onnx.NodeProto, what: str, numbers: object) -> str:
        """Store integers that `node` reads under a name of its own."""
        name = f"{node.output[0]}_{what}"
        while name in self.constants or name in self.program.shapes:
            name += "_"
        self.constants[name] = np.asarray(numbers, np.int64)
        self.shapes[name] = self.constants[name].shape
        return name


def rewrite(program: Program, coupling: Coupling, removed: np.ndarray) -> Program:
    """removed [U]: True where a unit leaves."""
    gone = np.append(removed, False)  # label -1 reads the last element
    keeps = {axis: ~gone[labels] for axis, labels in coupling.labels.items() if gone[labels].any()}
    constants = dict(program.constants)
    for axis, kept in keeps.items():
        if axis.value in constants:
            constants[axis.value] = np.compress(kept, constants[axis.value], axis=axis.dim)
    shapes = {
        name: tuple(int(keeps[axis].sum()) if axis in keeps else program.size(axis) for axis in program.axes(name))
        for name in program.shapes
    }
    work = Pruning(program, keeps, constants, shapes)
    nodes = tuple(_rewritten(node, work) for node in program.nodes)
    read = {name for node in nodes for name in node.input} | program.captured() | set(program.outputs)
    left = {name: array for name, array in work.constants.items() if name in read}
    return replace(program, nodes=nodes, constants=left, shapes=work.shapes)


def _rewritten(node: onnx.NodeProto, work: Pruning) -> onnx.NodeProto:
    rule = _RULES.get(node.op_type)
    if rule is None or not any(work.changed(name) for name in (*node.input, *node.output)):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    rule(copy, work)
    return copy


def _reshape(node: onnx.NodeProto, work: Pruning) -> None:
    out = node.output[0]
    free = [Axis(out, i) in work.program.symbolic for i in range(len(work.shapes[out]))]
    node.input[1] = work.new(
        node, "target", [-1 if by_batch else size for size, by_batch in zip(work.shapes[out], free, strict=True)]
    )


def _expand(node: onnx.NodeProto, work: Pruning) -> None:
    """A symbolic batch has the length one here, which in a target means: as long as the operand's axis."""
    node.input[1] = work.new(node, "target", work.shapes[node.output[0]])


def _split(node: onnx.NodeProto, work: Pruning) -> None:
    axis = positive(attribute(node, "axis", 0), len(work.shapes[node.input[0]]))
    sizes = [work.shapes[name][axis] for name in node.output]
    _drop(node, "num_outputs", "split")
    if work.program.opset < 13:
        node.attribute.append(helper.make_attribute("split", sizes))
    else:
        del node.input[1:]
        node.input.append(work.new(node, "sizes", sizes))


def _slice(node: onnx.NodeProto, work: Pruning) -> None:
    """Bounds of a run: how many elements stay before them."""
    kept = slices(node, work.program) or {}
    starts, ends, steps = [], [], []
    for axis, places in kept.items():
        stays = work.keeps.get(Axis(node.input[0], axis))
        if stays is None:
            # Negative steps run past the front, which only a large negative bound can say.
            starts.append(places.start)
            ends.append(places.stop if places.stop >= 0 else -(1 << 62))
            steps.append(places.step)
        else:
            starts.append(int(stays[: places.start].sum()))
            ends.append(int(stays[: places.stop].sum()))
            steps.append(1)
    if work.program.opset < 10:
        _drop(node, "starts", "ends", "axes")
        for name, numbers in (("starts", starts), ("ends", ends), ("axes", list(kept))):
            node.attribute.append(helper.make_attribute(name, numbers))
        return
    del node.input[1:]
    for what, numbers in (("starts", starts), ("ends", ends), ("axes", list(kept)), ("steps", steps)):
        node.input.append(work.new(node, what, numbers))


def _gather(node: onnx.NodeProto, work: Pruning) -> None:
    axis = positive(attribute(node, "axis", 0), len(work.program.shapes[node.input[0]]))
    stays = work.keeps.get(Axis(node.input[0], axis))
    if stays is not None:
        node.input[1] = work.new(node, "indices", (np.cumsum(stays) - 1)[work.constants[node.input[1]]])


def _conv(node: onnx.NodeProto, work: Pruning) -> None:
    """Whole groups leave, so channels per group stay what they were."""
    groups = attribute(node, "group", 1)
    if groups > 1:
        each = work.program.shapes[node.input[0]][1] // groups
        _state(node, "group", work.shapes[node.input[0]][1] // each)


def _resize(node: onnx.NodeProto, work: Pruning) -> None:
    """By sizes the operator is told all lengths, or those of its `axes`."""
    if len(node.input) > 3 and node.input[3]:
        sizes = work.shapes[node.output[0]]
        axes = attribute(node, "axes", range(len(sizes)))
        node.input[3] = work.new(node, "sizes", [sizes[axis] for axis in axes])


def _recurrent(node: onnx.NodeProto, work: Pruning) -> None:
    _state(node, "hidden_size", work.shapes[node.input[2]][2])


def _attention(node: onnx.NodeProto, work: Pruning) -> None:
    """Of rank three the operator is told how many heads there are."""
    for name, position in (("q_num_heads", 0), ("kv_num_heads", 1), ("num_heads", 0)):
        heads = attribute(node, name)
        if heads:
            before, now = (table[node.input[position]][-1] for table in (work.program.shapes, work.shapes))
            if len(work.shapes[node.input[position]]) == 3:
                _state(node, name, heads * now // before)


def _drop(node: onnx.NodeProto, *names: str) -> None:
    kept = [a for a in node.attribute if a.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _state(node: onnx.NodeProto, name: str, number: int) -> None:
    _drop(node, name)
    node.attribute.append(helper.make_attribute(name, number))


_RULES: dict[str, Callable[[onnx.NodeProto, Pruning], None]] = {
    "Reshape": _reshape,
    "Expand": _expand,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Resize": _resize,
    **dict.fromkeys(GATES, _recurrent),
    "Attention": _attention,
    "MultiHeadAttention": _attention,
}
