"""Backends: what executes a graph. A backend is one file here and one line in the table below.

A backend also owns the memory that its sessions read and write: numpy arrays on the CPU, device memory elsewhere. Drivers of graphs (vision,
language) never look into a buffer; they write, run and read, in that order, on one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeprune_runtime.errors import BackendUnavailable, EngineError, PlanError
from edgeprune_runtime.registry import Registry
from edgeprune_runtime.spec import GraphSpec

#: In order of preference: `auto` takes the first that can run a bundle.
_MODULES = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt",
    "onnxruntime_cuda": "onnxruntime_gpu",
    "onnxruntime_tensorrt": "onnxruntime_gpu",
    "onnxruntime": "onnxruntime_cpu",
}
MOST_THREADS = 256  # per graph
Buffer = Any
"""A backend's own kind of memory of a fixed type and shape: opaque to everybody else."""


class Session(Protocol):
    """An opened graph. Buffers are bound once; `run` reads and writes them in place and allocates nothing of its own."""

    def dtype(self, name: str) -> str:
        """Element type of an input or output of the bundle's graph, as this session wants it bound."""
        ...

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Attach buffers of the same backend by name of the bundle's graph; they stay in use until others are bound."""
        ...

    def run(self) -> None:
        """Run, or queue the run on the backend's stream: only `read` and `wait` wait."""
        ...


class Backend(Protocol):
    name: str

    def why_unavailable(self) -> str | None:
        """None when usable; otherwise one sentence for the user."""
        ...

    def require(self, root: Path, *, verify: bool) -> None:
        """Raises EngineError where the bundle in `root` lacks what this backend runs. verify: check hashes of what it has."""
        ...

    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> Session:
        """Open a graph. `resident` asks for a private, rearranged copy of its weights where that makes it faster."""
        ...

    def clear(self, buffer: Buffer) -> None:
        """Zero the buffer."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """A new buffer, zeroed."""
        ...

    def part(self, buffer: Buffer, row: int) -> Buffer:
        """The buffer of one row, [1, ...], inside `buffer`."""
        ...

    def copy(self, source: Buffer, target: Buffer, row: int = 0) -> None:
        """Queue a copy of all of `source` into `target` from its row on; both have the same type, and rows lie one after the other."""
        ...

    def write(self, buffer: Buffer, value: np.ndarray) -> None:
        """Put `value` into the first rows of the buffer. The array may be changed afterwards."""
        ...

    def wait(self) -> None:
        """Return when all runs so far are done, so that a time taken then is theirs."""
        ...

    def read(self, buffer: Buffer) -> np.ndarray:
        """What the buffer holds after all runs so far, valid until the next run or write."""
        ...


#: What makes a backend, called with its name and the number of threads (0: the backend chooses).
BACKENDS: Registry[Callable[[str, int], Backend]] = Registry("backend", error=BackendUnavailable)
for _name, _module in _MODULES.items():
    BACKENDS.add_lazy(_name, f"edgeprune_runtime.backends.{_module}:create")


@dataclass(frozen=True)
class BackendChoice:
    """A backend, and why none that is preferred to it: "" for the first, or where it was asked for."""

    backend: Backend
    why: str


def backend(name: str = "onnxruntime", *, threads: int = 0) -> Backend:
    """The named backend; the default is the reference that every other is held against. threads=0 lets the backend choose."""
    return choose(name, threads=threads).backend


def choose(name: str = "auto", *, threads: int = 0, root: Path | None = None, verify: bool = True) -> BackendChoice:
    """The named backend, or the first that can run the bundle in `root`.

    Raises BackendUnavailable with a reason per candidate, EngineError where engines are all that a named one lacks.
    """
    reasons: list[str] = []
    for candidate in BACKENDS if name == "auto" else [name]:
        made = created(candidate, threads)
        reason = made.why_unavailable()
        if reason is None and root is not None:
            try:
                made.require(root, verify=verify)
            except EngineError as error:
                if name != "auto":
                    raise
                reason = str(error)
        if reason is None:
            return BackendChoice(made, "; ".join(reasons))
        reasons.append(f"{candidate}: {reason}")
    raise BackendUnavailable("; ".join(reasons))


def created(name: str, threads: int = 0) -> Backend:
    """The named backend, usable or not. Raises PlanError for a number of threads that cannot be."""
    if not isinstance(threads, int) or isinstance(threads, bool) or not 0 <= threads <= MOST_THREADS:
        raise PlanError(
            f"threads is {threads!r}; expected a whole number from 1 to {MOST_THREADS}, or 0 to let the backend choose"
        )
    return BACKENDS.get(name)(name, threads)
