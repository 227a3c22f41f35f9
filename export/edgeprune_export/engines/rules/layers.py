"""Rules for layers: linear maps, norms, activations, rotary positions."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir
from onnx import TensorProto

from edgeprune_export.engines.lower import Lowering
from edgeprune_export.onnx.walk import attributes


def linear(at: Lowering, node: onnx.NodeProto) -> None:
    """Gemm over a stored weight in the graph's kind, its sum in float32 again; any other Gemm is arithmetic of a method and is kept."""
    if not at.is_stored(node.input[1]):
        at.keep(node)
        return
    inputs = [at.half(name) for name in node.input]
    product = at.node(
        "Gemm", inputs, name=f"{node.output[0]}.product", transB=int(bool(attributes(node).get("transB")))
    )
    at.full(product, node.output[0])


def product(at: Lowering, node: onnx.NodeProto) -> None:
    """A product that the exporter wrote, such as that of class attention, in the graph's kind; a method's own arithmetic ("/") is kept."""
    if "/" in node.name:
        at.keep(node)
        return
    made = at.node("MatMul", [at.half(name) for name in node.input], name=f"{node.output[0]}.product")
    at.full(made, node.output[0])


def convolution(at: Lowering, node: onnx.NodeProto) -> None:
    """The patch embedding."""
    product = at.node(
        "Conv", [at.half(name) for name in node.input], name=f"{node.output[0]}.product", **attributes(node)
    )
    at.full(product, node.output[0])


def int8_linear(at: Lowering, node: onnx.NodeProto) -> None:
    """DynamicQuantizeMatMul(x, W int8 [in, out], scale [out], -, bias) with its weights as they are and x unquantised.

    Builders fold W * scale, or keep it as a weight-only product; either is at least as exact as quantised activations.
    """
    x, weight, scale, _, *bias = node.input
    dense = at.once(
        f"{weight}.dequantised",
        lambda name: at.node(
            "DequantizeLinear", [at.stored(weight, "int8"), at.stored(scale, at.kind)], name=name, axis=1
        ),
    )
    product = at.node("MatMul", [at.half(x), dense], name=f"{node.output[0]}.product")
    if bias and bias[0]:
        product = at.node("Add", [product, at.half(bias[0])], name=f"{node.output[0]}.biased")
    at.full(product, node.output[0])


def quick_gelu(at: Lowering, node: onnx.NodeProto) -> None:
    """x * sigmoid(alpha x)."""
    (x,), name = node.input, node.output[0]
    scaled = at.node("Mul", [x, at.scalar(float(attributes(node)["alpha"]), "float32")], name=f"{name}.scaled")
    at.node("Mul", [x, at.node("Sigmoid", [scaled], name=f"{name}.gate")], name=name)


def gelu(at: Lowering, node: onnx.NodeProto) -> None:
    """x (1 + erf(x / sqrt 2)) / 2, or its tanh approximation: TensorRT 10.3 has no Gelu operator."""
    (x,), name = node.input, node.output[0]
    half, one = at.scalar(0.5, "float32"), at.scalar(1.0, "float32")
    if attributes(node).get("approximate") == b"tanh":
        cube = at.node("Mul", [at.node("Mul", [x, x], name=f"{name}.square"), x], name=f"{name}.cube")
        bent = at.node("Mul", [cube, at.scalar(0.044715, "float32")], name=f"{name}.bent")
        inner = at.node("Add", [x, bent], name=f"{name}.inner")
        scaled = at.node("Mul", [inner, at.scalar(math.sqrt(2 / math.pi), "float32")], name=f"{name}.scaled")
        curve = at.node("Tanh", [scaled], name=f"{name}.curve")
    else:
        scaled = at.node("Mul", [x, at.scalar(math.sqrt(0.5), "float32")], name=f"{name}.scaled")
        curve = at.node("Erf", [scaled], name=f"{name}.curve")
    weight = at.node("Mul", [at.node("Add", [curve, one], name=f"{name}.shifted"), half], name=f"{name}.weight")
    at.node("Mul", [x, weight], name=name)


def rms_norm(at: Lowering, node: onnx.NodeProto) -> None:
    """x / sqrt(mean(x^2) + eps) * w, in float32."""
    x, weight = node.input
    name, epsilon = node.output[0], float(attributes(node)["epsilon"])
    square = at.node("Mul", [x, x], name=f"{name}.square")
    mean = at.node("ReduceMean", [square, at.integers(-1)], name=f"{name}.mean", keepdims=1)
    length = at.node(
        "Sqrt", [at.node("Add", [mean, at.scalar(epsilon, "float32")], name=f"{name}.more")], name=f"{name}.length"
    )
    unit = at.node("Div", [x, length], name=f"{name}.unit")
    at.node("Mul", [unit, at.stored(weight, "float32", weight)], name=name)


def rotary(at: Lowering, node: onnx.NodeProto) -> None:
    """x [1, R, n d] turned by position, halves against halves: (a cos - b sin, b cos + a sin).

    Tables have a row per position [P, d/2], or, without positions, that of every row of x [1, R, d/2].
    """
    x, *tables = node.input[:3]
    positions = node.input[3] if len(node.input) > 3 else None
    heads, name = int(attributes(node)["num_heads"]), node.output[0]
    width = at.width(x) // heads
    turns = [_of_every_head(at, table, positions) for table in tables]
    apart = at.node("Reshape", [x, at.integers(1, -1, heads, width)], name=f"{name}.heads")
    first = at.node("Split", [apart], name=f"{name}.a", outputs=2, axis=3, num_outputs=2)
    second = f"{first}_1"
    sides = []
    for sign, (one, other) in (("Sub", (first, second)), ("Add", (second, first))):
        straight = at.node("Mul", [one, turns[0]], name=f"{name}.{sign.lower()}.cos")
        across = at.node("Mul", [other, turns[1]], name=f"{name}.{sign.lower()}.sin")
        sides.append(at.node(sign, [straight, across], name=f"{name}.{sign.lower()}"))
    joined = at.node("Concat", sides, name=f"{name}.joined", axis=3)
    at.node("Reshape", [joined, at.integers(1, -1, heads * width)], name=name)


def _of_every_head(at: Lowering, table: str, positions: str | None) -> str:
    """Rows of a rotary table as [1, R, 1, d/2]."""

    def make(name: str) -> str:
        rows = at.stored(table, "float32", table) if at.is_stored(table) else table
        if positions is not None:
            rows = at.node("Gather", [rows, positions], axis=0)
        return at.node("Unsqueeze", [rows, at.integers(2)], name=name)

    return at.once(f"{table}.rows", make)


def running_sum(at: Lowering, node: onnx.NodeProto) -> None:
    """CumSum in float32, which TensorRT 10 asks for: counts of tokens are far below 2^24, where it stops being exact."""
    (x, axis), name = node.input, node.output[0]
    if at.element(x) != ir.DataType.INT64:
        at.keep(node)
        return
    wide = at.node("Cast", [x], name=f"{name}.wide", to=TensorProto.FLOAT)
    added = at.node("CumSum", [wide, axis], name=f"{name}.sum", **attributes(node))
    at.node("Cast", [added], name=name, to=TensorProto.INT64)


def cast(at: Lowering, node: onnx.NodeProto) -> None:
    """A ranking reads the cache as it is stored, a product its scales; any other cast stays."""
    if at.is_cast_of_stored(node):
        return
    if node.input[0].startswith(("past_key_", "past_value_")):
        at.cast_io(node.input[0])
    at.keep(node)
