"""The one weights file of a bundle: written once, tensor by tensor, shared by all graphs and all budgets.

Tensors are appended as they are streamed from the checkpoint, a block of rows at a time. Each starts on a page boundary so
that a runtime can map the file instead of reading it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

_ALIGN = 4096


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: `shape` of `dtype` at `offset` bytes into the weights file.

    inputs  of a linear layer in 4 bits, whose shape says how many blocks they fill; else None
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    inputs: int | None = None


class WeightsWriter:
    """Append-only writer; `stored` finds what was written before, so shared tensors are written once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._stored: dict[str, Stored] = {}

    def __enter__(self) -> WeightsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def __getitem__(self, name: str) -> Stored:
        return self._stored[name]

    def add(
        self,
        name: str,
        rows: Iterable[np.ndarray],
        dtype: str | np.dtype[Any] = "float32",
        *,
        inputs: int | None = None,
    ) -> Stored:
        """Write arrays one after the other as one tensor, joined along axis 0, and return its place."""
        self._file.write(b"\0" * (-self._file.tell() % _ALIGN))
        offset = self._file.tell()
        leading, rest = 0, None
        for array in rows:
            data = np.ascontiguousarray(array, dtype=dtype)
            self._file.write(data.reshape(-1).view(np.uint8).data)
            leading, rest = leading + data.shape[0], data.shape[1:]
        if rest is None:
            raise ValueError(f"no rows for {name}")
        stored = Stored(name, str(np.dtype(dtype)), (leading, *rest), offset, self._file.tell() - offset, inputs)
        self._stored[name] = stored
        return stored
