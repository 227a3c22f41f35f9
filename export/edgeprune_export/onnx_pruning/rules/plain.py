"""Rules of operators that compute element by element, normalise, or reduce."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.program import Axis, Program, axes_given
from edgeprune_export.onnx_pruning.rules.relations import (
    Frozen,
    Relation,
    RelationRule,
    Same,
    broadcast,
    freeze,
    linked,
    positive,
)

# fmt: off
ELEMENTWISE = (
    "Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast",
    "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual",
    "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan",
    "Tanh", "ThresholdedRelu", "Where", "Xor",
)
# fmt: on
REDUCTIONS = [
    f"Reduce{k}" for k in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
]


def elementwise(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Same index everywhere; a second output (the mask of a Dropout) has the shape of the first."""
    for name in [n for n in (*node.input, *node.output[1:]) if n]:
        yield from broadcast(program, name, node.output[0])


def cast_like(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Of the second input only the type matters."""
    yield from linked(program, node.input[0], node.output[0])


def batch_normalization(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Statistics of a channel are its own, so channels can leave. Training mode (more outputs) is not known."""
    if len([name for name in node.output if name]) > 1:
        yield from freeze(node, program)
        return
    yield from _per_channel(node, program)


def instance_normalization(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Mean and variance over the places of one channel: places stay, channels can leave."""
    yield from _per_channel(node, program)
    for axis in program.axes(node.input[0])[2:]:
        yield Frozen(axis, node.op_type)


def _per_channel(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    yield from linked(program, node.input[0], node.output[0])
    for name in node.input[1:]:
        yield Same(Axis(name, 0), Axis(node.output[0], 1))


def layer_normalization(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """What is normalised over stays: without some of its elements the mean and the variance of the others would differ."""
    yield from linked(program, node.input[0], node.output[0])
    for name in node.input[1:]:
        if name:
            yield from broadcast(program, name, node.output[0])
    rank = len(program.shapes[node.input[0]])
    for i in range(positive(attribute(node, "axis", -1), rank), rank):
        yield Frozen(Axis(node.input[0], i), node.op_type)
    for name in node.output[1:]:  # statistics, which some later node reads
        for axis in program.axes(name):
            yield Frozen(axis, node.op_type)


def softmax(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Before opset 13 all axes from `axis` on were one."""
    yield from linked(program, node.input[0], node.output[0])
    rank = len(program.shapes[node.input[0]])
    first = positive(attribute(node, "axis", -1 if program.opset >= 13 else 1), rank)
    for i in range(first, first + 1 if program.opset >= 13 else rank):
        yield Frozen(Axis(node.input[0], i), node.op_type)


def reduction(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Reduced axes stay, the others keep their index."""
    rank = len(program.shapes[node.input[0]])
    named = axes_given(node, program, 1)
    if named is None and len(node.input) > 1 and node.input[1]:
        yield from freeze(node, program)  # computed axes
        return
    if not named:
        named = [] if attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    reduced = {positive(axis, rank) for axis in named}
    place = 0
    for i in range(rank):
        if i in reduced:
            yield Frozen(Axis(node.input[0], i), node.op_type)
            place += attribute(node, "keepdims", 1)
        else:
            yield Same(Axis(node.input[0], i), Axis(node.output[0], place))
            place += 1


def pool(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Batch and channel keep their index, places stay. Indices of maxima count through all channels, so they are not known."""
    if any(node.output[1:]):
        yield from freeze(node, program)
        return
    for i in (0, 1):
        yield Same(Axis(node.input[0], i), Axis(node.output[0], i))
    for name in (node.input[0], node.output[0]):
        for axis in program.axes(name)[2:]:
            yield Frozen(axis, node.op_type)


RULES: dict[str, RelationRule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_normalization),
    "CastLike": cast_like,
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
}
CONTRIB_RULES: dict[str, RelationRule] = dict.fromkeys(("Gelu", "FastGelu", "QuickGelu", "BiasGelu"), elementwise)
