"""Fields of a protobuf message, walked without copies, recursion or a schema: enough to look into a file before it is opened."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SIGN = 1 << 63


#: One field of a message: its number; the value of a number, or where a content with a length begins; where that ends, None for a number.
Field = tuple[int, int, int | None]


def fields(data: mmap.mmap, at: int, end: int) -> Iterator[Field]:
    """Numbers and contents with a length of the message between `at` and `end`. Raises ValueError for a broken one."""
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:  # most tags and lengths are one byte: only others take the long way
            tag, at = varint(data, at - 1, end)
        wire = tag & 7
        if wire == _LENGTH and at < end:
            size = data[at]
            at += 1
            if size >= 0x80:
                size, at = varint(data, at - 1, end)
            stop = at + size
            if stop > end:
                raise ValueError("a field reaches beyond its message")
            yield tag >> 3, at, stop
            at = stop
        elif wire == _VARINT:
            value, at = varint(data, at, end)
            yield tag >> 3, value, None
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"a field of the wire type {wire} that breaks off or is unknown")
    if at > end:
        raise ValueError("a field reaches beyond its message")


def varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")


def varints(data: mmap.mmap, field: Field) -> Iterator[int]:
    """The signed numbers of a repeated field, packed or one by one."""
    _, at, stop = field
    if stop is None:
        yield signed(at)
        return
    while at < stop:
        value, at = varint(data, at, stop)
        yield signed(value)


def signed(value: int) -> int:
    """An int64 from its 64 bits."""
    return value - 2 * _SIGN if value >= _SIGN else value
