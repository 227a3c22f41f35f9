"""Linear layers in three precisions, stored once and used by any number of graphs.

fp32: the checkpoint's own [out, in] layout, read by Gemm(transB=1), so a tied output head and the embedding table are one tensor.
int8: per-output-channel symmetric weights [in, out] and per-tensor dynamic activations (ONNX Runtime's DynamicQuantizeMatMul).
int4: blocks of weights along the input with a scale each (`quantized.py`), activations in int8 by the same blocks (MatMulNBits).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from edgeprune_export.onnx.graph import CONTRIB, Graph
from edgeprune_export.onnx.quantized import BLOCK, quantize_blocks, quantize_rows
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import WeightPrecision as WeightPrecision

Reader = Callable[[str], Iterable[np.ndarray]]
"""Name -> the tensor in float32, in blocks of rows, so that no matrix is held whole."""
_SLAB_BYTES = 16 << 20
_INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level


def store_linear(
    writer: WeightsWriter, name: str, read: Reader, sources: Sequence[str], *, bias: bool, precision: WeightPrecision
) -> None:
    """Write the layers `sources`, which share their input, as one wider layer `name` (q, k and v; gate and up)."""
    rows = (block for source in sources for block in read(f"{source}.weight"))
    if precision == "fp32":
        writer.add(f"{name}.weight", rows)
    elif precision == "int8":
        blocks = [quantize_rows(block) for block in rows]
        writer.add(f"{name}.int8", _transposed([integers for integers, _ in blocks]), "int8")
        writer.add(f"{name}.scale", (scale for _, scale in blocks))
    else:
        _store_int4(writer, name, rows)
    if bias:
        writer.add(f"{name}.bias", (block for source in sources for block in read(f"{source}.bias")))


def _store_int4(writer: WeightsWriter, name: str, rows: Iterable[np.ndarray]) -> None:
    scales: list[np.ndarray] = []
    blocks = iter(rows)
    first = next(blocks)

    def packed() -> Iterator[np.ndarray]:
        for block in chain([first], blocks):
            integers, scale = quantize_blocks(block)
            scales.append(scale)
            yield integers

    writer.add(f"{name}.int4", packed(), "uint8", inputs=first.shape[1])
    writer.add(f"{name}.scale", scales, "float16")


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
    if f"{name}.int8" in writer:
        stored = writer[f"{name}.int8"]
        inputs = [x, graph.weight(stored), graph.weight(writer[f"{name}.scale"]), "", *bias]
        return graph.declare(graph.node("DynamicQuantizeMatMul", inputs, domain=CONTRIB), (rows, stored.shape[1]))
    stored = writer[f"{name}.int4"]
    scale = graph.node("Cast", [graph.weight(writer[f"{name}.scale"])], to=1)
    inputs = [x, graph.weight(stored), scale, *(["", "", *bias] if bias else [])]
    made = graph.node(
        "MatMulNBits",
        inputs,
        domain=CONTRIB,
        K=stored.inputs,
        N=stored.shape[0],
        bits=4,
        block_size=BLOCK,
        accuracy_level=_INT8_ACTIVATIONS,
    )
    return graph.declare(made, (rows, stored.shape[0]))


def is_linear(writer: WeightsWriter, name: str) -> bool:
    """Whether a layer of this name was stored."""
    return any(f"{name}.{form}" in writer for form in ("weight", "int8", "int4"))


def store_vectors(writer: WeightsWriter, read: Reader, names: Iterable[str]) -> None:
    """Write small tensors (norms, biases, class token ...) unchanged, in float32."""
    for name in names:
        writer.add(name, read(name))
