"""Parameters and multiply-accumulates of any ONNX graph, as products of axis lengths, so that a pruned graph can be counted unwritten."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edgeprune_export.onnx.graph import CONTRIB
from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.reading import read
from edgeprune_export.onnx_pruning.rules.recurrent import GATES

Product = tuple[Axis, ...]


@dataclass(frozen=True)
class Counted:
    """params: elements of all floating-point constants with axes; macs: of one run, with a batch of one where it is symbolic."""

    params: int
    macs: int


def count(model: onnx.ModelProto) -> Counted:
    """Count a model whose weights are loaded. A vector that an exporter shares between layers counts once for each."""
    return count_program(read(model))


def count_program(program: Program) -> Counted:
    return Counted(*(sum(_length(program, p) for p in products) for products in (parameters(program), macs(program))))


def parameters(program: Program) -> list[Product]:
    """Lengths whose product is the size of each weight."""
    return [tuple(program.axes(name)) for name in program.weights]


def macs(program: Program) -> list[Product]:
    """Lengths whose product is the multiply-accumulates of each convolution, matrix product, attention and recurrent layer."""
    return [product for node in program.nodes for product in _macs(node, program)]


def _macs(node: onnx.NodeProto, program: Program) -> list[Product]:
    if not all(name in program.shapes for name in (*node.input[:3], node.output[0]) if name):
        return []
    operator = "" if node.domain else node.op_type
    if operator == "Conv":
        return [(*program.axes(node.output[0]), *program.axes(node.input[1])[1:])]
    if operator == "ConvTranspose":
        return [(*program.axes(node.input[0]), *program.axes(node.input[1])[1:])]
    if operator == "Gemm":
        return [(*program.axes(node.output[0]), Axis(node.input[0], 1 - attribute(node, "transA", 0)))]
    if operator == "MatMul":
        return [(*program.axes(node.output[0]), program.axes(node.input[0])[-1])]
    if operator in GATES:
        steps = program.axes(node.input[0])[:2]
        return [(*steps, *program.axes(weight)) for weight in node.input[1:3]]
    if (node.domain, node.op_type) in (("", "Attention"), (CONTRIB, "MultiHeadAttention")):
        keys = program.axes(node.input[1])[-2]
        return [(*program.axes(node.input[0]), keys), (*program.axes(node.output[0]), keys)]
    return []


def _length(program: Program, product: Product) -> int:
    length = 1
    for axis in product:
        length *= program.size(axis)
    return length
