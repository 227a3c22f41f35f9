"""Which files an ONNX graph reads its weights from: the locations of its external tensors, found without the onnx package.

An ONNX file is a protobuf message. Only the fields on the way to a tensor's `external_data` are walked (onnx.proto3 of the
format's specification gives their numbers), everything else is skipped by its length. Nothing is copied and nothing recurses.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgeprune_runtime.errors import BundleError

#: By kind of message: field number -> kind of the message in it. Subgraphs of control flow lie in attributes.
_WITHIN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def locations(path: Path) -> frozenset[str]:
    """Every location that a tensor of the graph names, as written. Raises BundleError for a file that is no ONNX graph."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return frozenset(_locations(data))
    except (OSError, ValueError) as error:  # ValueError: an empty file, a broken message, text that is not UTF-8
        raise BundleError(f"{path} is not an ONNX graph ({error}); export the bundle again") from error


def _locations(data: mmap.mmap) -> Iterator[str]:
    waiting, graphs = [("model", 0, len(data))], 0
    while waiting:
        kind, start, end = waiting.pop()
        if kind == "entry":
            fields = {number: data[at:stop] for number, at, stop in _fields(data, start, end)}
            if fields.get(_KEY) == b"location":
                yield fields.get(_VALUE, b"").decode()
            continue
        for number, at, stop in _fields(data, start, end):
            inner = _WITHIN[kind].get(number)
            if inner is not None:
                graphs += inner == "graph"
                waiting.append((inner, at, stop))
    if not graphs:
        raise ValueError("it holds no graph")


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Fields of a message that have a length: (number, where the content starts, where it ends)."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        elif wire == _LENGTH:
            size, at = _varint(data, at, end)
            if at + size > end:
                raise ValueError("a field reaches beyond its message")
            yield number, at, at + size
            at += size
        else:
            raise ValueError(f"a field of the unknown wire type {wire}")
    if at > end:
        raise ValueError("a field reaches beyond its message")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")
