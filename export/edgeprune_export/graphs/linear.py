"""Linear layers in two precisions, stored once and used by any number of graphs.

fp32: the checkpoint's own [out, in] layout, read by Gemm(transB=1), so a tied output head and the embedding table are one tensor.
int8: per-output-channel symmetric weights [in, out] and per-tensor dynamic activations (ONNX Runtime's DynamicQuantizeMatMul).

Weights use 7 of the 8 bits. x86 processors without int8 dot products (AVX2) add two products of an unsigned activation and a signed weight in
16 bits, which saturate beyond 32767: 2 * 255 * 127 does, 2 * 255 * 63 does not. One bit less costs a tenth more error than an exact product
of 8 bits; saturation costs several times that, and only where nobody looks (docs/measurements/int8.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from edgeprune_export.onnx.graph import CONTRIB, Graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import WeightPrecision as WeightPrecision

Reader = Callable[[str], Iterable[np.ndarray]]
"""Name -> the tensor in float32, in blocks of rows, so that no matrix is held whole."""
_SLAB_BYTES = 16 << 20
LARGEST_INT8 = 63


def store_linear(
    writer: WeightsWriter, name: str, read: Reader, sources: Sequence[str], *, bias: bool, precision: WeightPrecision
) -> None:
    """Write the layers `sources`, which share their input, as one wider layer `name` (q, k and v; gate and up)."""
    if precision == "fp32":
        writer.add(f"{name}.weight", (block for source in sources for block in read(f"{source}.weight")))
    else:
        blocks = [quantize_rows(block) for source in sources for block in read(f"{source}.weight")]
        writer.add(f"{name}.int8", _transposed([rows for rows, _ in blocks]), "int8")
        writer.add(f"{name}.scale", (scale for _, scale in blocks))
    if bias:
        writer.add(f"{name}.bias", (block for source in sources for block in read(f"{source}.bias")))


def quantize_rows(weight: np.ndarray, largest: int = LARGEST_INT8) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers by row. weight [out, in] float32 -> (int8 [out, in] up to +-largest, scale [out]); weight ~ int8 * scale."""
    scale = np.abs(weight).max(axis=1) / largest
    scale = np.where(scale == 0, 1.0, scale).astype(np.float32)
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def _transposed(blocks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks of rows of a matrix [out, in] -> slabs of rows of its transpose [in, out], so that it is never held twice."""
    inputs = blocks[0].shape[1]
    step = max(1, _SLAB_BYTES // (sum(len(block) for block in blocks) * blocks[0].itemsize))
    for start in range(0, inputs, step):
        yield np.concatenate([block[:, start : start + step] for block in blocks]).T


def linear(graph: Graph, writer: WeightsWriter, name: str, x: str, rows: int) -> str:
    """Apply the stored layer `name` to x [rows, in]; returns [rows, out]."""
    bias = [graph.weight(writer[f"{name}.bias"])] if f"{name}.bias" in writer else []
    if f"{name}.weight" in writer:
        return graph.node("Gemm", [x, graph.weight(writer[f"{name}.weight"]), *bias], transB=1)
    stored = writer[f"{name}.int8"]
    inputs = [x, graph.weight(stored), graph.weight(writer[f"{name}.scale"]), "", *bias]
    return graph.declare(graph.node("DynamicQuantizeMatMul", inputs, domain=CONTRIB), (rows, stored.shape[1]))


def store_vectors(writer: WeightsWriter, read: Reader, names: Iterable[str]) -> None:
    """Write small tensors (norms, biases, class token ...) unchanged, in float32."""
    for name in names:
        writer.add(name, read(name))
