"""Backends: what executes a graph. A backend is one file here and one line in the table below."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeprune_runtime.errors import BackendUnavailable
from edgeprune_runtime.spec import GraphSpec

_BACKENDS = {"onnxruntime": "edgeprune_runtime.backends.onnxruntime_cpu"}


class Session(Protocol):
    """An opened graph. Buffers are bound once; `run` reads and writes them in place and allocates nothing of its own."""

    def bind(self, buffers: Mapping[str, np.ndarray]) -> None: ...

    def run(self) -> None: ...


class Backend(Protocol):
    name: str

    def why_unavailable(self) -> str | None:
        """None when usable; otherwise one sentence for the user."""
        ...

    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> Session:
        """Open a graph. `resident` asks for a private, rearranged copy of its weights where that makes it faster."""
        ...


def backend(name: str = "auto", *, threads: int = 0) -> Backend:
    """The named backend, or the first usable one. threads=0 lets the backend choose."""
    names = list(_BACKENDS) if name == "auto" else [name]
    reasons = []
    for candidate in names:
        if candidate not in _BACKENDS:
            raise BackendUnavailable(f"unknown backend {candidate!r}; known: auto, {', '.join(_BACKENDS)}")
        made: Backend = import_module(_BACKENDS[candidate]).create(threads)
        reason = made.why_unavailable()
        if reason is None:
            return made
        reasons.append(f"{candidate}: {reason}")
    raise BackendUnavailable("; ".join(reasons))


def names() -> tuple[str, ...]:
    return tuple(_BACKENDS)
