"""What an ONNX file says of itself, found without the onnx package: its inputs and outputs, and where it reads its weights from.

Only the fields on the way to them are walked (onnx.proto3 of the format's specification gives their numbers), everything else is skipped
by its length. Nothing is copied and nothing recurses, so that a stranger's file costs no more than its size.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeprune_runtime.backends.protobuf import fields, signed, varints
from edgeprune_runtime.errors import BundleError
from edgeprune_runtime.spec import TensorSpec

#: By kind of message: field number -> kind of the message in it. Subgraphs of control flow lie in attributes.
_WITHIN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_ENTRY = 13  # of a tensor: a key and a value of its external data
#: TensorProto.DataType: name and bits. Texts (8) cannot lie in a file of weights.
_TYPES = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8e4m3fn", 8),
    18: ("float8e4m3fnuz", 8),
    19: ("float8e5m2", 8),
    20: ("float8e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4e2m1", 4),
}
_LONGEST_NUMBER = 20  # digits of an offset


@dataclass(frozen=True)
class ExternalTensor:
    """Where a tensor lies in a file beside the graph. size: bytes that its type and shape take, None where they cannot be known."""

    location: str
    offset: int
    length: int | None
    size: int | None

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.offset + (self.length if self.length is not None else self.size or 0)


@dataclass(frozen=True)
class GraphFile:
    """inputs, outputs: by name; a size that is no number is -1. external: tensors whose values lie in other files."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    external: tuple[ExternalTensor, ...]


def read_graph_file(path: Path) -> GraphFile:
    """Raises BundleError for a file that is no ONNX graph."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            inputs, outputs = _interface(data)
            return GraphFile(inputs, outputs, tuple(_external(data)))
    except (OSError, ValueError) as error:  # ValueError: an empty file, a broken message, text that is not UTF-8
        raise BundleError(f"{path} is not an ONNX graph ({error}); export the bundle again") from error


def _external(data: mmap.mmap) -> Iterator[ExternalTensor]:
    waiting, graphs = [("model", 0, len(data))], 0
    while waiting:
        kind, start, end = waiting.pop()
        if kind == "tensor":
            if (found := _tensor(data, start, end)) is not None:
                yield found
            continue
        within = _WITHIN[kind]
        for number, at, stop in fields(data, start, end):
            if stop is not None and number in within:
                inner = within[number]
                graphs += inner == "graph"
                waiting.append((inner, at, stop))
    if not graphs:
        raise ValueError("it holds no graph")


def _tensor(data: mmap.mmap, start: int, end: int) -> ExternalTensor | None:
    """A TensorProto whose values lie elsewhere."""
    entries: dict[bytes, bytes] = {}
    code = 0
    dims: list[int] = []
    for field in fields(data, start, end):
        number, at, stop = field
        if number == _ENTRY and stop is not None:
            pair = {key: data[first:last] for key, first, last in fields(data, at, stop) if last is not None}
            entries[pair.get(1, b"")] = pair.get(2, b"")
        elif number == 1:
            dims += varints(data, field)
        elif number == 2:
            code = at
    if b"location" not in entries:
        return None
    known = code in _TYPES and all(size >= 0 for size in dims)
    size = (math.prod(dims) * _TYPES[code][1] + 7) // 8 if known else None
    length = _number(entries, b"length") if b"length" in entries else None
    return ExternalTensor(entries[b"location"].decode(), _number(entries, b"offset"), length, size)


def _number(entries: dict[bytes, bytes], key: bytes) -> int:
    text = entries.get(key, b"0")
    if len(text) > _LONGEST_NUMBER or not text.isdigit():
        raise ValueError(f"a tensor whose {key.decode()} is {text[:_LONGEST_NUMBER]!r}")
    return int(text)


def _interface(data: mmap.mmap) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs, without those that have a value in the file, and outputs."""
    inputs, outputs = [], []
    held: set[str] = set()
    for start, end in _within(data, 0, len(data), 7):
        for number, at, stop in fields(data, start, end):
            if stop is None:
                continue
            if number == 5:
                held.update(data[first:last].decode() for first, last in _within(data, at, stop, 8))
            elif number == 11:
                inputs.append(_value(data, at, stop))
            elif number == 12:
                outputs.append(_value(data, at, stop))
    return tuple(value for value in inputs if value.name not in held), tuple(outputs)


def _value(data: mmap.mmap, start: int, end: int) -> TensorSpec:
    """A ValueInfoProto."""
    name, kind, shape = "", "unknown", []
    for first, last in _within(data, start, end, 1):
        name = data[first:last].decode()
    for outer in _within(data, start, end, 2):
        for tensor in _within(data, *outer, 1):
            for number, at, stop in fields(data, *tensor):
                if number == 1 and stop is None:
                    kind = _TYPES[at][0] if at in _TYPES else f"type {at}"
                elif number == 2 and stop is not None:
                    shape = [_dimension(data, *one) for one in _within(data, at, stop, 1)]
    return TensorSpec(name, kind, tuple(shape))


def _dimension(data: mmap.mmap, start: int, end: int) -> int:
    sizes = [signed(value) for number, value, stop in fields(data, start, end) if number == 1 and stop is None]
    return sizes[-1] if sizes else -1


def _within(data: mmap.mmap, start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Where contents with this number and a length begin and end."""
    return ((at, stop) for found, at, stop in fields(data, start, end) if found == number and stop is not None)
