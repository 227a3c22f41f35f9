"""Helpers of the tests of ONNX pruning: made graphs, and 'masked' as a definition that knows nothing of the rewriting.

Masked: the original graph with zeros in the weights that read the removed units. Which these are is written down by hand in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as node

from edgeprune_export.onnx_pruning.groups.find import couple
from edgeprune_export.onnx_pruning.reading import read
from edgeprune_export.onnx_pruning.rewrite import rewrite

GRAPHS = Path(__file__).parent / "graphs"
CUSTOM = "made.by.a.test"


@dataclass(frozen=True)
class Reader:
    """A weight that reads units of one group: elements[u] are the places of unit u along its axis."""

    weight: str
    axis: int
    elements: np.ndarray


def blocks(weight: str, axis: int, units: int, width: int, start: int = 0) -> Reader:
    """Unit u has `width` places in a row."""
    return Reader(weight, axis, start + np.arange(units * width).reshape(units, width))


Groups = Sequence[tuple[int, Sequence[Reader]]]
"""Expected groups in order: how many units, and who reads them."""


def made(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str] | None],
    opset: int = 20,
) -> onnx.ModelProto:
    """A float32 model written by hand."""
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [("", opset), ("com.microsoft", 1), (CUSTOM, 1)]
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in opsets], ir_version=10)


def weights(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def run(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feed)))


def feed_of(model: onnx.ModelProto, seed: int = 0, batch: int = 1, shape: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """Gaussian inputs; `batch` stands for symbolic first dimensions, `shape` for whole symbolic shapes."""
    rng = np.random.default_rng(seed)
    names = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for value in model.graph.input:
        if value.name not in names:
            dims = value.type.tensor_type.shape.dim
            sizes = tuple(shape) or tuple(dim.dim_value or batch for dim in dims)
            found[value.name] = rng.standard_normal(sizes).astype(np.float32)
    return found


def masked(model: onnx.ModelProto, groups: Groups, gone: Sequence[np.ndarray]) -> onnx.ModelProto:
    """The model with zeros where its weights read the units `gone` [indices] of each group."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    for (_, readers), units in zip(groups, gone, strict=True):
        for reader in readers:
            array = numpy_helper.to_array(tensors[reader.weight]).copy()
            np.moveaxis(array, reader.axis, 0)[reader.elements[units].ravel()] = 0
            tensors[reader.weight].CopyFrom(numpy_helper.from_array(array, reader.weight))
    return copy


def assert_pruned_is_masked(
    model: onnx.ModelProto,
    groups: Groups,
    seeds: int,
    *,
    batch: int = 1,
    input_shape: Sequence[int | None] | None = None,
    feed_shape: Sequence[int] = (),
) -> None:
    """For random choices of units: outputs of the pruned graph equal those of the masked one, and differ from the original's."""
    program = read(model, input_shape)
    coupling = couple(program)
    assert [group.count for group in coupling.groups] == [count for count, _ in groups]
    feed = feed_of(model, batch=batch, shape=feed_shape)
    original = run(model, feed)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        gone = [rng.permutation(count)[: rng.integers(0, count)] for count, _ in groups]
        gone[rng.integers(len(gone))] = np.array([0])  # something leaves, whatever was drawn
        removed = np.zeros(coupling.units, bool)
        for group, units in zip(coupling.groups, gone, strict=True):
            removed[group.start + units] = True
        pruned = rewrite(program, coupling, removed).model()
        onnx.checker.check_model(pruned, full_check=True)
        found, expected = run(pruned, feed), run(masked(model, groups, gone), feed)
        for one, other, whole in zip(found, expected, original, strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() <= 1e-6 * np.abs(whole).max(), (seed, gone)
        if all(readers for _, readers in groups):
            assert any(
                np.abs(one - other).max() > 1e-4 * np.abs(other).max()
                for one, other in zip(found, original, strict=True)
            )


N, UNITS, OUT = 5, 12, 7


def mlp(
    middle: list[onnx.NodeProto], constants: Mapping[str, Any], width: int = UNITS, opset: int = 20
) -> onnx.ModelProto:
    """x [1, 5, 3] -> h [1, 5, 12] -> `middle`, which makes m [1, 5, width] -> y [1, 5, 7]."""
    up, down = weights((3, UNITS), (width, OUT))
    nodes = [node("MatMul", ["x", "up"], ["h"]), *middle, node("MatMul", ["m", "down"], ["y"])]
    return made(nodes, {"up": up, "down": down, **constants}, {"x": (1, N, 3)}, {"y": (1, N, OUT)}, opset)


PLAIN: Groups = [(UNITS, [blocks("down", 0, UNITS, 1)])]
"""Units of `mlp` where the middle keeps their order."""


def attention(operator: str, domain: str, **attributes: Any) -> list[onnx.NodeProto]:
    """x [1, 5, 9] -> queries, keys and values by Gemm-like products -> attention -> projection."""
    nodes = [node("MatMul", ["x", name], [f"{name}_"]) for name in "qkv"]
    nodes.append(node(operator, ["q_", "k_", "v_", *attributes.pop("more", [])], ["a"], domain=domain, **attributes))
    return [*nodes, node("MatMul", ["a", "out"], ["y"])]
