"""Reading safetensors files, one tensor at a time, without ever trusting their header.

Layout of the format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the
data. Tensors are read by plain file reads into the caller's array, not through a memory map: mapped pages would count
as this process's memory, and a file cut short while mapped kills the process instead of raising an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeprune_runtime.errors import CheckpointError

DOWNLOAD_AGAIN = "download or copy the checkpoint again"
CHUNK_ELEMENTS = 4 << 20
LARGEST_HEADER_BYTES = 100 << 20
#: safetensors dtype -> (our name, how the bytes are read). NumPy has no bfloat16: it is the upper half of a float32.
_FLOATS: dict[str, tuple[str, np.dtype[Any]]] = {
    "F16": ("float16", np.dtype("<f2")),
    "BF16": ("bfloat16", np.dtype("<u2")),
    "F32": ("float32", np.dtype("<f4")),
    "F64": ("float64", np.dtype("<f8")),
}
_OTHER_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "I32": 4,
    "U32": 4,
    "I64": 8,
    "U64": 8,
}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies. `kind` is the dtype as safetensors spells it."""

    path: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int  # byte position in the file

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        return self.kind in _FLOATS

    @property
    def dtype(self) -> str:
        """float16, bfloat16, float32 or float64; other kinds as safetensors spells them."""
        return _FLOATS[self.kind][0] if self.is_float else self.kind

    @property
    def nbytes(self) -> int:
        return self.size * _FLOATS[self.kind][1].itemsize

    def thirds(self) -> tuple[StoredTensor, StoredTensor, StoredTensor]:
        """Three tensors of equally many rows, of which this one is stacked: nothing is read. The row count is a multiple of 3."""
        shape = (self.shape[0] // 3, *self.shape[1:])
        step = math.prod(shape) * _FLOATS[self.kind][1].itemsize
        first, second, third = (replace(self, shape=shape, begin=self.begin + i * step) for i in range(3))
        return first, second, third

    def chunks(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Elements start..stop of the flat tensor, a few megabytes at a time, as float16, float32 or float64."""
        _, layout = _FLOATS[self.kind]
        with self._open() as file:
            file.seek(self.begin + start * layout.itemsize)
            for position in range(start, stop, CHUNK_ELEMENTS):
                chunk = np.empty(min(CHUNK_ELEMENTS, stop - position), layout)
                if file.readinto(chunk.data.cast("B")) != chunk.nbytes:
                    raise CheckpointError(
                        f"{self.path.name} ends inside {self.name}; it was cut short; {DOWNLOAD_AGAIN}"
                    )
                yield float32_from_bfloat16(chunk) if self.kind == "BF16" else chunk

    def _open(self) -> BufferedReader:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise CheckpointError(
                f"{self.path.name} cannot be opened ({error}); expected a readable weights file"
            ) from error


def float32_from_bfloat16(bits: NDArray[Any]) -> NDArray[np.float32]:
    """bfloat16 given as its 16-bit patterns -> the same numbers as float32 (exact)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """All tensors of a safetensors file, by name. Reads the header only; checks that the data it promises is there."""
    try:
        with path.open("rb") as file:
            total = path.stat().st_size
            start = file.read(8)
            if start.startswith(b"version "):
                raise CheckpointError(
                    f"{path.name} is a Git LFS pointer, not weights; fetch the real file with `git lfs pull`"
                )
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(LARGEST_HEADER_BYTES, total - 8):
                raise CheckpointError(
                    f"{path.name} has {total} bytes, too few for a safetensors file with its header; {DOWNLOAD_AGAIN}"
                )
            header = msgspec.json.decode(file.read(length))
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read ({error}); expected a readable weights file") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path.name} has a damaged safetensors header ({error}); {DOWNLOAD_AGAIN}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path.name} has a damaged safetensors header (no table of tensors); {DOWNLOAD_AGAIN}")
    names = [name for name in header if name != "__metadata__"]
    found = {name: _stored(path, name, header[name], 8 + length, total) for name in names}
    _gapless(path, {name: header[name]["data_offsets"] for name in names}, total - 8 - length)
    return found


def _gapless(path: Path, places: Mapping[str, tuple[int, int]], size: int) -> None:
    """The format's rule: in the order of their places, tensors follow each other without overlap or hole, to the file's end."""
    last, before = 0, "the header"
    for name, (begin, end) in sorted(places.items(), key=lambda entry: tuple(entry[1])):
        if begin != last:
            what = "overlaps" if begin < last else f"leaves {begin - last} bytes unused after"
            raise CheckpointError(
                f"{path.name} has a damaged safetensors header: {name} {what} {before}; {DOWNLOAD_AGAIN}"
            )
        last, before = end, name
    if last != size:
        raise CheckpointError(
            f"{path.name} has {size - last} bytes after its last tensor; expected none; {DOWNLOAD_AGAIN}"
        )


def _stored(path: Path, name: str, entry: Any, data: int, total: int) -> StoredTensor:
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = [*shape, begin, end]
        if not isinstance(kind, str) or not all(type(number) is int and number >= 0 for number in numbers):
            raise TypeError("wrong types")
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path.name} has a damaged entry for {name}; {DOWNLOAD_AGAIN}") from error
    width = _FLOATS[kind][1].itemsize if kind in _FLOATS else _OTHER_BYTES.get(kind)
    if end < begin:
        raise CheckpointError(f"{path.name} has a damaged entry for {name}; {DOWNLOAD_AGAIN}")
    if data + end > total:
        raise CheckpointError(
            f"{path.name} was cut short: {name} ends at byte {data + end}, the file has {total}; {DOWNLOAD_AGAIN}"
        )
    if width is not None and end - begin != math.prod(shape) * width:
        raise CheckpointError(
            f"{path.name} gives {name} {end - begin} bytes for shape {shape} of {kind}; {DOWNLOAD_AGAIN}"
        )
    return StoredTensor(path, name, kind, shape, data + begin)
