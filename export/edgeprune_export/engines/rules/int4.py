"""Rules for MatMulNBits(x, W [out, blocks, bytes] of 4 bits, scale [out, blocks], -, -, bias): weights of 4 bits, activations unquantised."""

from __future__ import annotations

import numpy as np
import onnx

from edgeprune_export.engines.lower import Lowering
from edgeprune_export.onnx.graph import CONTRIB
from edgeprune_export.onnx.walk import attributes


def expanded(at: Lowering, node: onnx.NodeProto) -> None:
    """Weights as numbers of the graph's kind: before opset 21 ONNX has no scales by block."""
    _, weight, scale = node.input[:3]
    _product(at, node, at.expanded(weight, scale, attributes(node)["K"]))


def by_block(at: Lowering, node: onnx.NodeProto) -> None:
    """INT4 weights through DequantizeLinear by blocks along the input, which builders keep as they are."""
    _, weight, scale = node.input[:3]
    given = attributes(node)

    def dense(name: str) -> str:
        stored = [at.signed_int4(weight), at.stored(scale, at.kind)]
        whole = at.node("DequantizeLinear", stored, name=name, axis=1, block_size=given["block_size"])
        if given["K"] % given["block_size"] == 0:
            return whole
        ends = [
            at.constant(f"{name}.{key}", np.asarray([n], np.int64))
            for key, n in (("from", 0), ("to", given["K"]), ("axis", 1))
        ]
        return at.node("Slice", [whole, *ends], name=f"{name}.used")

    _product(at, node, at.once(f"{weight}.dequantised", dense))


def contributed(at: Lowering, node: onnx.NodeProto) -> None:
    """ONNX Runtime's own operator, in the graph's kind."""
    x, weight, scale, *rest = node.input
    inputs = [at.half(x), at.stored(weight, "uint8"), at.stored(scale, at.kind)]
    if len(rest) == 3:
        inputs += ["", "", at.half(rest[2])]
    given = {key: value for key, value in attributes(node).items() if key != "accuracy_level"}
    product = at.node("MatMulNBits", inputs, name=f"{node.output[0]}.product", domain=CONTRIB, **given)
    at.full(product, node.output[0])


def _product(at: Lowering, node: onnx.NodeProto, dense: str) -> None:
    """x [rows, in] with weights [out, in]."""
    bias = [at.half(node.input[5])] if len(node.input) == 6 else []
    product = at.node("Gemm", [at.half(node.input[0]), dense, *bias], name=f"{node.output[0]}.product", transB=1)
    at.full(product, node.output[0])
