"""Buffers of a backend that computes in host memory: numpy arrays."""

from __future__ import annotations

import numpy as np

from edgeprune_runtime.errors import BackendUnavailable


class HostMemory:
    """The memory half of a backend."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        try:
            return np.zeros(shape, dtype)
        except MemoryError as error:
            raise BackendUnavailable(
                f"no memory for a buffer {list(shape)} of {dtype}; close other programs, or export with a smaller --capacity or budget"
            ) from error

    def clear(self, buffer: np.ndarray) -> None:
        buffer[...] = 0

    def part(self, buffer: np.ndarray, row: int) -> np.ndarray:
        return buffer[row : row + 1]

    def copy(self, source: np.ndarray, target: np.ndarray, row: int = 0) -> None:
        start = row * (target.size // len(target))
        target.reshape(-1)[start : start + source.size] = source.reshape(-1)

    def write(self, buffer: np.ndarray, value: np.ndarray) -> None:
        buffer[: len(value)] = value

    def wait(self) -> None:
        """A run is done when it returns."""

    def read(self, buffer: np.ndarray) -> np.ndarray:
        return buffer
