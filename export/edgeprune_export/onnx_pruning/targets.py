"""Operators whose target shape is computed from the batch, with a constant target instead: nothing computed holds their channels then."""

from __future__ import annotations

import numpy as np
import onnx

from edgeprune_export.onnx.folding import KnownValues
from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.program import Axis


def with_constant_target(
    node: onnx.NodeProto, known: KnownValues, symbolic: frozenset[Axis], constants: dict[str, np.ndarray]
) -> onnx.NodeProto:
    """A Reshape or Resize whose target is computed, with one among `constants`, which grows; other nodes as they are."""
    if node.domain:
        return node
    if node.op_type == "Reshape" and node.input[1] not in constants:
        return _reshape(node, known, symbolic, constants)
    if node.op_type == "Resize" and len(node.input) > 3 and node.input[3] and node.input[3] not in constants:
        return _resize(node, known, symbolic, constants)
    return node


def _reshape(
    node: onnx.NodeProto, known: KnownValues, symbolic: frozenset[Axis], constants: dict[str, np.ndarray]
) -> onnx.NodeProto:
    """-1 stands for the batch, where one axis at most depends on it."""
    shape = known.shape(node.output[0])
    free = [] if shape is None else [Axis(node.output[0], i) in symbolic for i in range(len(shape))]
    if shape is None or sum(free) > 1:
        return node
    name = f"{node.output[0]}_target"
    constants[name] = np.array([-1 if by_batch else size for size, by_batch in zip(shape, free, strict=True)], np.int64)
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[1] = name
    return copy


def _resize(
    node: onnx.NodeProto, known: KnownValues, symbolic: frozenset[Axis], constants: dict[str, np.ndarray]
) -> onnx.NodeProto:
    """By scales instead of sizes, which leave the batch open. Only where the scales give exactly these sizes."""
    before, after = known.shape(node.input[0]), known.shape(node.output[0])
    plain = attribute(node, "axes") is None and attribute(node, "keep_aspect_ratio_policy", b"stretch") == b"stretch"
    if before is None or after is None or not plain:
        return node
    lengths = np.array(before, np.float32)
    by_batch = [Axis(node.output[0], i) in symbolic for i in range(len(after))]
    scales = np.where(by_batch, np.float32(1), np.array(after, np.float32) / lengths)
    if not np.array_equal(np.floor(lengths * scales)[~np.array(by_batch)], np.array(after)[~np.array(by_batch)]):
        return node
    name = f"{node.output[0]}_scales"
    constants[name] = scales.astype(np.float32)
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[2:]
    copy.input.append(name)
    return copy
