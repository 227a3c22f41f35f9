"""What a build will need, before it starts: memory, disk and time, from the weights alone.

An engine holds its weights once with about a tenth more for kernels; while it is built the parser holds them too. Measured with TensorRT for
RTX 1.7 on the CPU (docs/measurements/engines.md); a GPU that builds for itself also times kernels, which takes minutes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import ExportError
from edgeprune_export.engines.prepare import sources
from edgeprune_export.engines.target import Runtime
from edgeprune_runtime.bundle import Bundle

_LIBRARY_BYTES = 500 << 20  # code and tables of the library while it builds
_COPIES = 4.5  # of the largest engine's weights held at the peak of its build: two profiles of one network
_ENGINE = 1.1  # size of an engine over its weights
_KERNELS_BYTES = 2 << 20  # per engine, for however many capabilities
_BYTES_PER_S = (10e6, 60e6)  # weights built per second: slow and fast machine
_GRAPH_S = (0.1, 2.0)  # per graph, whatever its size
_ON_DEVICE = 20.0  # kernels are timed where a device builds for itself
_TIGHT = 0.9
_ELSEWHERE = "build on another machine, which needs no GPU: --target rtx:sm89"
_SMALLER = "export a smaller or pruned model"
#: What needs less, where memory is short. TensorRT for RTX takes as much with few tactics as with all.
_LESS = {
    ("tensorrt", False): "try --low-memory (one engine at a time in a process of its own, few tactics: slower engines)",
    ("tensorrt", True): _SMALLER,
    ("tensorrt_rtx", False): _ELSEWHERE,
    ("tensorrt_rtx", True): _ELSEWHERE,
}


@dataclass(frozen=True)
class BuildEstimate:
    """`disk_bytes`: engines, and the lowered graphs beside them while they are built. `seconds`: from a fast machine to a slow one."""

    memory_bytes: int
    disk_bytes: int
    seconds: tuple[float, float]


def estimate(bundle: Bundle, precision: str, *, ahead_of_time: bool) -> BuildEstimate:
    """What building all engines of a bundle will need."""
    share = 1.0 if precision == "fp32" or bundle.manifest.precision != "fp32" else 0.5
    weights = [share * bundle.graph(graphs[0]).weight_bytes for graphs in sources(bundle).values()]
    engines = sum(_ENGINE * size + _KERNELS_BYTES for size in weights)
    lowered = share * bundle.manifest.files[bundle.manifest.weights_file].bytes
    times = 1.0 if ahead_of_time else _ON_DEVICE
    fast, slow = (
        times * (sum(weights) / speed + graph * len(weights))
        for speed, graph in zip(reversed(_BYTES_PER_S), _GRAPH_S, strict=True)
    )
    return BuildEstimate(int(_LIBRARY_BYTES + _COPIES * max(weights)), int(engines + lowered), (fast, slow))


def require_room(
    needed: BuildEstimate, folder: Path, available_bytes: int, *, runtime: Runtime, low_memory: bool
) -> None:
    """Raises ExportError where memory or disk will not do; says the way that needs less."""
    free = shutil.disk_usage(folder).free
    if needed.disk_bytes > free:
        raise ExportError(
            f"the engines need about {_mb(needed.disk_bytes)} on disk, {_mb(free)} are free beside the bundle; make room, or export "
            "fewer budgets and controls"
        )
    if needed.memory_bytes > _TIGHT * available_bytes:
        raise ExportError(
            f"building needs about {_mb(needed.memory_bytes)} of memory, {_mb(available_bytes)} are available; close other programs or "
            f"add swap, or {_LESS[runtime, low_memory]}"
        )


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
