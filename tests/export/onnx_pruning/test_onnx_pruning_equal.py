"""Graphs of real exporters: the groups are those worked out by hand, and a pruned graph computes what the masked one computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeprune_export.onnx_pruning.groups.find import FrozenGroup, couple
from edgeprune_export.onnx_pruning.reading import read
from tests.export.onnx_pruning.onnx_masked import GRAPHS, Groups, Reader, assert_pruned_is_masked, blocks

HEADS, WIDTH, MLP, LAYERS = 5, 8, 72, 2
SEEDS = 30
VITS = ["vit20", "vit23", "vit_batch", "optimum_static", "optimum_dynamic"]
DYNAMIC = {"optimum_dynamic": (1, 3, 24, 24)}


def load(name: str) -> onnx.ModelProto:
    return onnx.load(GRAPHS / f"{name}.onnx")


def matrices(model: onnx.ModelProto) -> list[str]:
    """Weights of the matrix products, in order: q, k, v, out, up, down of every layer."""
    known = {tensor.name for tensor in model.graph.initializer}
    return [node.input[1] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in known]


def vit_groups(model: onnx.ModelProto) -> Groups:
    """Per layer the heads, read by the output projection, and the MLP's units, read by its second layer."""
    found = matrices(model)
    assert len(found) == 6 * LAYERS
    groups: list[tuple[int, list[Reader]]] = []
    for layer in range(LAYERS):
        groups.append((HEADS, [blocks(found[6 * layer + 3], 0, HEADS, WIDTH)]))
        groups.append((MLP, [blocks(found[6 * layer + 5], 0, MLP, 1)]))
    return groups


def cnn_groups() -> Groups:
    """The concatenation holds 16 channels of the residual stream and 12 of the dense layer."""
    return [
        (16, [blocks("wide.weight", 1, 16, 1), blocks("dense.weight", 1, 16, 1), blocks("point.weight", 1, 16, 1)]),
        (24, [blocks("back.weight", 1, 24, 1)]),
        (12, [blocks("point.weight", 1, 12, 1, start=16)]),
        # Whole groups of the grouped convolution: 4 channels into each, 6 out of it.
        (5, [blocks("squeeze.weight", 1, 5, 4), blocks("halves.weight", 1, 5, 6)]),
        (9, [blocks("excite.weight", 1, 9, 1)]),
        # Two halves multiplied, then flattened: 9 places per channel.
        (11, [blocks("hidden.weight", 1, 11, 9)]),
        (18, [blocks("head.weight", 1, 18, 1)]),
    ]


@pytest.mark.parametrize("name", VITS)
def test_a_vit_has_heads_and_mlp_units_and_a_frozen_stream(name: str) -> None:
    program = read(load(name), DYNAMIC.get(name))
    coupling = couple(program)
    assert [(g.count, g.block) for g in coupling.groups] == [(HEADS, WIDTH), (MLP, 1)] * LAYERS
    stream, classes, colours = coupling.frozen
    patches = next(n for n in program.constants if n.endswith("patch_embeddings.projection.weight"))
    assert (stream.name, stream.size) == (patches, HEADS * WIDTH) and "LayerNormalization" in stream.operators
    assert (classes.size, classes.operators) == (7, ("graph output",))
    assert colours == FrozenGroup(patches, 3, ("graph input",))


@pytest.mark.parametrize("name", VITS)
def test_heads_hold_rows_of_queries_keys_values_and_columns_of_the_projection(name: str) -> None:
    model = load(name)
    program = read(model, DYNAMIC.get(name))
    coupling = couple(program)
    labels = {(axis.value, axis.dim): units for axis, units in coupling.labels.items()}
    found = matrices(model)
    for layer in range(LAYERS):
        heads, units = coupling.groups[2 * layer : 2 * layer + 2]
        expected = np.repeat(np.arange(heads.start, heads.start + HEADS), WIDTH)
        q, k, v, out, up, down = found[6 * layer : 6 * layer + 6]
        for key in ((q, 1), (k, 1), (v, 1), (out, 0)):
            np.testing.assert_array_equal(labels.pop(key), expected)
        for key in ((up, 1), (down, 0)):
            np.testing.assert_array_equal(labels.pop(key), np.arange(units.start, units.start + MLP))
    left = {value for value, _ in labels if value in program.constants}
    assert (
        all(program.constants[value].ndim == 1 for value in left) and len(left) == 4 * LAYERS
    )  # biases of q, k, v and up


@pytest.mark.parametrize("name", VITS)
def test_a_pruned_vit_equals_the_masked_one(name: str) -> None:
    model = load(name)
    shape = DYNAMIC.get(name)
    assert_pruned_is_masked(model, vit_groups(model), SEEDS, batch=3, input_shape=shape, feed_shape=shape or ())


def test_a_batch_may_stay_symbolic_while_the_picture_is_fixed() -> None:
    model = load("optimum_dynamic")
    groups = vit_groups(model)
    assert_pruned_is_masked(model, groups, 5, input_shape=(None, 3, 24, 24), feed_shape=(3, 3, 24, 24))


def test_one_layer_of_queries_keys_and_values_equals_the_masked_one() -> None:
    """Three blocks per head in one weight, and a gated MLP whose unit has two columns."""
    model = load("joint")
    _, out, _, down = matrices(model)
    groups = [(HEADS, [blocks(out, 0, HEADS, WIDTH)]), (MLP, [blocks(down, 0, MLP, 1)])]
    assert_pruned_is_masked(model, groups, SEEDS, batch=3)
    assert [g.block for g in couple(read(model)).groups] == [WIDTH, 1]


def test_a_pruned_cnn_equals_the_masked_one() -> None:
    assert_pruned_is_masked(load("cnn"), cnn_groups(), 2 * SEEDS)
