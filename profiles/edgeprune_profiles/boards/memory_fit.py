"""Whether a bundle fits a board's memory, from its manifest and its graphs, before anything is built or copied there.

Weights, cache and activations are counted; what the runtime and the operating system take is assumed, see RUNTIME and SYSTEM:
change the assumption, or measure on the board (`edgeprune profile` reads the peak). Sessions keep what they allocated, so the
activations of all graphs of a request add up. Sessions of an int8 bundle copy their weights to repack them, each its own, and the
pages they were read from can go; float weights stay mapped, once for all graphs, though tools that add up a process's mappings count
them once per graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgeprune_profiles.boards.device import Device
from edgeprune_profiles.measure.work import FLOAT_BYTES, RequestShape
from edgeprune_runtime.spec import GraphWork, Manifest

MIB = 1 << 20
#: Assumed bytes of Python and the libraries: ONNX Runtime as measured here, CUDA context and TensorRT by estimate.
RUNTIME = {"cpu": 110 * MIB, "gpu": 800 * MIB, "jetson": 800 * MIB}
#: Assumed bytes that are not for applications: a Jetson's carve-outs and services, a Linux system, a card's own reserve.
SYSTEM = {"cpu": 500 * MIB, "gpu": 500 * MIB, "jetson": 1500 * MIB}
#: Above this share of what is there it is called tight.
TIGHT = 0.8
Verdict = Literal["fits", "tight", "does not fit", "unknown"]


@dataclass(frozen=True)
class MemoryFit:
    """Bytes by part. `size_bytes` is the board's memory, None when unknown."""

    weights_bytes: int
    cache_bytes: int
    activations_bytes: int
    runtime_bytes: int
    system_bytes: int
    size_bytes: int | None

    @property
    def application_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.activations_bytes + self.runtime_bytes

    @property
    def least(self) -> bool:
        """Whether it may be more: of a model without a bundle, activations are not counted."""
        return self.activations_bytes == 0

    @property
    def largest(self) -> str:
        """Which part takes the most."""
        parts = {
            "weights": self.weights_bytes,
            "cache": self.cache_bytes,
            "activations": self.activations_bytes,
            "runtime": self.runtime_bytes,
        }
        return max(parts, key=lambda name: parts[name])

    @property
    def verdict(self) -> Verdict:
        if self.size_bytes is None:
            return "unknown"
        share = (self.application_bytes + self.system_bytes) / self.size_bytes
        return "fits" if share <= TIGHT else "tight" if share <= 1 else "does not fit"


def memory_fit(
    manifest: Manifest, graphs: Mapping[str, GraphWork], shape: RequestShape, device: Device, precision: str | None
) -> MemoryFit:
    """Parts for one request at a time; precision as in `work.request_stages`."""
    used = [graphs[name] for name in (shape.tower, shape.select, *manifest.language.graphs)]
    language = manifest.language
    shrink = 1.0 if precision is None else FLOAT_BYTES[precision] / FLOAT_BYTES["fp32"]
    table = language.embedding.shape[0] * language.embedding.shape[1] * FLOAT_BYTES[_width(language.embedding.dtype)]
    stored = manifest.files[manifest.weights_file].bytes
    if manifest.precision != "fp32":
        stored = table + sum(sum(graph.weight_bytes.values()) for graph in used)
    elif precision is not None:
        stored = round((stored - table) * shrink) + table  # engines hold the weights, the host its table of embeddings
    cache = 2 * sum(math.prod(dims) for dims in language.cache_shapes) * FLOAT_BYTES["fp32"]
    figure = device.memory.size_bytes
    return MemoryFit(
        weights_bytes=stored,
        cache_bytes=round(cache * shrink),
        activations_bytes=round(sum(graph.peak_bytes for graph in used) * shrink),
        runtime_bytes=RUNTIME[device.kind],
        system_bytes=SYSTEM[device.kind],
        size_bytes=None if figure is None else round(figure.value),
    )


def memory_at_least(
    graphs: Mapping[str, GraphWork], positions: int, device: Device, precision: str | None
) -> MemoryFit:
    """The least that a bundle can take which is not there yet: weights, table of embeddings and a cache for `positions`.

    graphs     "tower", "select", "prefill" and "head"; decode shares the weights of prefill, and the table is as large as the head
    precision  as in `work.request_stages`
    """
    read = {name: _weights(graphs[name], precision) for name in ("tower", "select", "prefill", "head")}
    table = sum(graphs["head"].weight_bytes.values())
    shrink = 1.0 if precision is None else FLOAT_BYTES[precision] / FLOAT_BYTES["fp32"]
    figure = device.memory.size_bytes
    return MemoryFit(
        weights_bytes=round(sum(read.values()) + table),
        cache_bytes=round(positions * graphs["prefill"].cache_bytes * shrink),
        activations_bytes=0,
        runtime_bytes=RUNTIME[device.kind],
        system_bytes=SYSTEM[device.kind],
        size_bytes=None if figure is None else round(figure.value),
    )


def heaviest_graph(graphs: Mapping[str, GraphWork]) -> str:
    """The graph with the most bytes of weights."""
    return max(graphs, key=lambda name: sum(graphs[name].weight_bytes.values()))


def _weights(graph: GraphWork, precision: str | None) -> float:
    narrow = {} if precision is None else {"fp32": FLOAT_BYTES[precision] / FLOAT_BYTES["fp32"]}
    return sum(count * min(narrow.get(stored, 1.0), 1.0) for stored, count in graph.weight_bytes.items())


def _width(dtype: str) -> str:
    return {"float32": "fp32", "float16": "fp16", "int8": "int8"}[dtype]
