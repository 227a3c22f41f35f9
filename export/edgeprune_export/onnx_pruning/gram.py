"""What layers read on calibration inputs: the second moments that optimal-brain pruning needs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from edgeprune.errors import ExportError, PlanError
from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.layers import Layer
from edgeprune_export.onnx_pruning.program import Program

Feed = Mapping[str, np.ndarray]
_NOISE_RUNS = 8
_ROWS = 8192
"""Rows of one layer and run that enter its moments; more are thinned evenly."""


def feeds(program: Program, inputs: Iterable[np.ndarray] | None, seed: int) -> list[Feed]:
    """Calibration inputs as the graph takes them; without any, seeded Gaussian noise."""
    values = list(program.frame.graph.input)
    kinds = {v.name: helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in values}
    if inputs is None:
        if any(kind.kind not in "fV" for kind in kinds.values()):
            raise PlanError("noise can calibrate floating-point inputs only; give calibration inputs")
        rng = np.random.default_rng(seed)
        return [
            {name: rng.standard_normal(program.shapes[name]).astype(kind) for name, kind in kinds.items()}
            for _ in range(_NOISE_RUNS)
        ]
    if len(values) != 1:
        raise PlanError(f"the graph has {len(values)} inputs; calibration takes graphs with one")
    name = values[0].name
    given: list[Feed] = [{name: np.asarray(array, kinds[name])} for array in inputs]
    expected = program.shapes[name]
    by_batch = bool(program.symbolic) and len(expected) > 0
    for feed in given:
        shape = feed[name].shape
        if len(shape) != len(expected) or shape[by_batch:] != expected[by_batch:]:
            raise PlanError(
                f"a calibration input has the shape {shape}, the graph takes {expected}; give arrays of that shape"
            )
    if not given:
        raise PlanError("no calibration input was given; give some, or none at all for noise")
    return given


def moments(program: Program, layers: Sequence[Layer], given: Sequence[Feed]) -> dict[str, np.ndarray]:
    """Weight -> [K, K] mean of x x^T over all that its layers read, K its inputs times the taps of its kernel."""
    read = sorted({layer.node.input[0] for layer in layers})
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for values in _run(program, read, given):
        for layer in layers:
            rows = unfolded(layer.node, program, values[layer.node.input[0]])
            rows = rows[:: -(-len(rows) // _ROWS)].astype(np.float32)
            sums[layer.weight] = sums.get(layer.weight, 0.0) + (rows.T @ rows).astype(np.float64)
            counts[layer.weight] = counts.get(layer.weight, 0) + len(rows)
    return {weight: total / counts[weight] for weight, total in sums.items()}


def _run(program: Program, names: Sequence[str], given: Sequence[Feed]) -> Iterator[dict[str, np.ndarray]]:
    """Values by name, one dictionary per feed."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        path = Path(folder) / "model.onnx"
        # A file beside it, because a graph above 2 GB cannot be one message.
        onnx.save(program.part(names), path, save_as_external_data=True, location="weights", size_threshold=1 << 16)
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for feed in given:
                yield dict(zip(names, session.run(list(names), dict(feed)), strict=True))
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise ExportError(
                f"ONNX Runtime cannot run the graph, which obs needs ({str(error).splitlines()[0]}); use magnitude"
            ) from error


def unfolded(node: onnx.NodeProto, program: Program, x: np.ndarray) -> np.ndarray:
    """[rows, K] what one output element of a layer reads: rows of a matrix, patches of a convolution (channel, then taps), places of
    a transposed one."""
    if node.op_type == "Gemm":
        return x.T if attribute(node, "transA", 0) else x
    if node.op_type == "MatMul":
        return x.reshape(-1, x.shape[-1])
    if node.op_type == "ConvTranspose":
        return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    kernel = program.shapes[node.input[1]][2:]
    places = program.shapes[node.output[0]][2:]
    strides = attribute(node, "strides", [1] * len(kernel))
    dilations = attribute(node, "dilations", [1] * len(kernel))
    before, after = _pads(node, x.shape[2:], kernel, places, strides, dilations)
    x = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    taps = []
    for tap in product(*(range(k) for k in kernel)):
        spans = (_along(t, d, s, n) for t, d, s, n in zip(tap, dilations, strides, places, strict=True))
        window = (slice(None), slice(None), *spans)
        taps.append(x[window])
    stacked = np.moveaxis(np.stack(taps, axis=2), (1, 2), (-2, -1))  # [N, places..., C, taps]
    return stacked.reshape(-1, stacked.shape[-2] * stacked.shape[-1])


def _along(tap: int, dilation: int, stride: int, places: int) -> slice:
    start = tap * dilation
    return slice(start, start + stride * (places - 1) + 1, stride)


def _pads(
    node: onnx.NodeProto,
    size: Sequence[int],
    kernel: Sequence[int],
    places: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Zeros before and after each spatial axis."""
    mode = attribute(node, "auto_pad", b"NOTSET").decode()
    if not mode.startswith("SAME"):
        pads = attribute(node, "pads", [0] * (2 * len(kernel)))
        return list(pads[: len(kernel)]), list(pads[len(kernel) :])
    total = [
        max(0, (n - 1) * stride + (k - 1) * dilation + 1 - have)
        for n, stride, k, dilation, have in zip(places, strides, kernel, dilations, size, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if mode == "SAME_UPPER" else (large, small)
