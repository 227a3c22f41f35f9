"""Tiny ONNX graphs for measuring a processor, written as bytes: the base install has onnxruntime but not onnx.

Only what is needed of the ONNX protocol buffers (onnx.proto: ModelProto, GraphProto, NodeProto, ValueInfoProto): inputs of any
shape, no weights, operators of the default domain.
"""

from __future__ import annotations

from collections.abc import Sequence

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
Value = tuple[str, int, int]
"""Name, element type and rank; lengths are free."""

_OPSET, _IR = 17, 8


def matmul() -> bytes:
    """a [M, K] x b [K, N] -> y, float32."""
    return _model([_node("MatMul", ["a", "b"], "y")], [("a", FLOAT, 2), ("b", FLOAT, 2)], ("y", FLOAT, 2))


def matmul_integer() -> bytes:
    """a [M, K] uint8 x b [K, N] int8 -> y int32."""
    return _model([_node("MatMulInteger", ["a", "b"], "y")], [("a", UINT8, 2), ("b", INT8, 2)], ("y", INT32, 2))


def chain(length: int) -> bytes:
    """`length` nodes that each do next to nothing: a -> y, float32."""
    names = ["a", *(f"v{place}" for place in range(length - 1)), "y"]
    nodes = [_node("Cos", [before], after) for before, after in zip(names, names[1:], strict=False)]
    return _model(nodes, [("a", FLOAT, 1)], ("y", FLOAT, 1))


def _model(nodes: Sequence[bytes], inputs: Sequence[Value], output: Value) -> bytes:
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"micro")
    graph += b"".join(_field(11, _value(*each)) for each in inputs) + _field(12, _value(*output))
    return _number(1, _IR) + _field(7, graph) + _field(8, _number(2, _OPSET))


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    read = b"".join(_field(1, name.encode()) for name in inputs)
    return read + _field(2, output.encode()) + _field(4, operator.encode())


def _value(name: str, kind: int, rank: int) -> bytes:
    lengths = b"".join(_field(1, _field(2, f"{name}{axis}".encode())) for axis in range(rank))
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, kind) + _field(2, lengths)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
