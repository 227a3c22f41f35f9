"""Whether what a bundle asks for fits this machine's memory, told before any of it is allocated."""

from __future__ import annotations

from pathlib import Path

from edgeprune_runtime.errors import BackendUnavailable
from edgeprune_runtime.spec import Manifest, bytes_of, tower_of

_LIMITS = (
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
)  # of a container: version 2, version 1


def cache_bytes(manifest: Manifest) -> int:
    """Keys and values of all layers and positions, in float32."""
    return 2 * sum(bytes_of(shape, "float32") for shape in manifest.language.cache_shapes)


def vision_bytes(manifest: Manifest) -> int:
    """What towers give for all tiles of a picture, and what select graphs read and write."""
    graphs = {graph.name: graph for graph in manifest.graphs}
    tiles = manifest.picture.tiles_max
    views = manifest.picture.views or (None,)
    towers = {tower_of(s.tower, views[0]) for s in manifest.selections}  # all views write into the same buffers
    largest = max(
        sum(bytes_of(spec.shape, spec.dtype) for spec in graphs[s.graph].outputs) for s in manifest.selections
    )
    return largest + tiles * sum(bytes_of(spec.shape, spec.dtype) for name in towers for spec in graphs[name].outputs)


def memory_at_hand(root: Path = Path("/")) -> int | None:
    """Bytes that programs can still get here, what can be swapped out included; None where nobody says. root: of the file system."""
    lines = dict(line.partition(":")[::2] for line in _read(root / "proc/meminfo").splitlines())
    free = [value.split()[0] for name in ("MemAvailable", "SwapFree") if (value := lines.get(name, "").strip())]
    known = [int(limit) for name in _LIMITS if (limit := _read(root / name).strip()).isdigit()]
    if "MemAvailable" in lines and all(map(str.isdigit, free)):
        known.append(1024 * sum(map(int, free)))
    return min(known, default=None)


def require_room(manifest: Manifest, at_hand: int | None) -> None:
    """Raise BackendUnavailable where the bundle's buffers take more bytes than there are; None: nobody knows."""
    cache, vision = cache_bytes(manifest), vision_bytes(manifest)
    if at_hand is None or cache + vision <= at_hand:
        return
    raise BackendUnavailable(
        f"the bundle needs {_gib(cache)} for the cache of {manifest.language.capacity} positions and {_gib(vision)} for pictures, "
        f"this machine has {_gib(at_hand)} of memory left; export with a smaller --capacity or budget, or use a larger machine"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
