"""Layers with weights: which axis of a weight makes features, which reads them."""

from __future__ import annotations

from typing import NamedTuple

import onnx

from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.rules.recurrent import GATES


class Layer(NamedTuple):
    """A Conv, ConvTranspose, Gemm or MatMul with a constant weight: `made` is its axis of outputs, `read` its axis of inputs."""

    node: onnx.NodeProto
    weight: str
    made: Axis
    read: Axis


def layers(program: Program) -> list[Layer]:
    """All layers of the graph in order. Grouped convolutions are left out: there inputs and outputs leave together."""
    candidates = (_layer(node, program) for node in program.nodes)
    return [layer for layer in candidates if layer is not None]


def _layer(node: onnx.NodeProto, program: Program) -> Layer | None:
    weight = node.input[1] if len(node.input) > 1 else ""
    if weight not in program.constants or node.domain:
        return None
    rank = program.constants[weight].ndim
    if node.op_type == "Conv" and attribute(node, "group", 1) == 1:
        return Layer(node, weight, Axis(weight, 0), Axis(weight, 1))
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) == 1:
        return Layer(node, weight, Axis(weight, 1), Axis(weight, 0))
    if node.op_type == "Gemm":
        turned = attribute(node, "transB", 0)
        return Layer(node, weight, Axis(weight, 1 - turned), Axis(weight, turned))
    if node.op_type == "MatMul" and rank == 2:
        return Layer(node, weight, Axis(weight, 1), Axis(weight, 0))
    return None


def roles(program: Program) -> tuple[list[Axis], list[Axis]]:
    """Axes of weights that make features and axes that read them: of layers in order, then of recurrent ones."""
    ordered = layers(program)
    recurrent = [
        n.input[1] for n in program.nodes if n.op_type in GATES and not n.domain and n.input[1] in program.constants
    ]
    made = [*(layer.made for layer in ordered), *(Axis(weight, 1) for weight in recurrent)]
    return made, [*(layer.read for layer in ordered), *(Axis(weight, 2) for weight in recurrent)]
