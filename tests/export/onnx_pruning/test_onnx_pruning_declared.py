"""Graphs as exporters write them: unknown lengths, several inputs, transposed convolutions, sizes; and refusals that help."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node as node

from edgeprune.cli.prepare.prune_onnx import shapes_from_texts
from edgeprune.errors import PlanError
from edgeprune_export.onnx_pruning import gram, obs
from edgeprune_export.onnx_pruning.count import count
from edgeprune_export.onnx_pruning.groups.find import couple
from edgeprune_export.onnx_pruning.layers import layers
from edgeprune_export.onnx_pruning.prune import prune_onnx
from edgeprune_export.onnx_pruning.reading import read
from tests.export.onnx_pruning.onnx_masked import GRAPHS, OUT, assert_pruned_is_masked, blocks, made, run, weights

CHANNELS = 12
READ_LAST = [(CHANNELS, [blocks("last", 1, CHANNELS, 1)])]


def picture(middle: Sequence[onnx.NodeProto], shape: Sequence[int | str], **constants: Any) -> onnx.ModelProto:
    """x [N, 3, H, W] -> h of 12 channels -> `middle`, which makes m -> y [N, 7] by a mean over all places."""
    first, last = weights((CHANNELS, 3, 3, 3), (OUT, CHANNELS, 1, 1))
    ends = [node("Conv", ["m", "last"], ["z"]), node("ReduceMean", ["z", "places"], ["y"], keepdims=0)]
    given = {"first": first, "last": last, "places": np.array([2, 3], np.int64), **constants}
    nodes = [node("Conv", ["x", "first"], ["h"], pads=[1, 1, 1, 1]), *middle, *ends]
    return made(nodes, given, {"x": shape}, {"y": (shape[0], OUT)})


def declared(value: onnx.ValueInfoProto) -> list[int | str | None]:
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims]


def test_unknown_lengths_are_symbols() -> None:
    model = picture([node("Relu", ["h"], ["m"])], (-1, 3, -1, -1))
    assert_pruned_is_masked(model, READ_LAST, 4, input_shape=(1, 3, 6, 6), feed_shape=(1, 3, 6, 6))
    assert_pruned_is_masked(model, READ_LAST, 4, input_shape=(None, 3, 6, 6), feed_shape=(2, 3, 6, 6))
    open_batch = read(model, (None, 3, 6, 6)).model()
    assert declared(open_batch.graph.input[0]) == [None, 3, 6, 6]
    assert declared(open_batch.graph.output[0]) == [None, OUT]


def test_an_unknown_batch_alone_needs_no_shape() -> None:
    model = picture([node("Relu", ["h"], ["m"])], (-1, 3, 6, 6))
    assert_pruned_is_masked(model, READ_LAST, 2, feed_shape=(2, 3, 6, 6))


@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (0, 3, 0, 0), (0, 0, 0, 0)])
def test_zero_says_unknown_as_minus_one_does(shape: tuple[int, ...]) -> None:
    """ONNX Runtime itself would take zero at its word, so the pruned graph states none."""
    zero, minus = (picture([node("Relu", ["h"], ["m"])], [size or unknown for size in shape]) for unknown in (0, -1))
    for asked in ((1, 3, 6, 6), (None, 3, 6, 6)):
        assert read(zero, asked).model() == read(minus, asked).model()


def test_reading_leaves_the_callers_model_as_it_is() -> None:
    model = picture([node("Relu", ["h"], ["m"])], (-1, 3, -1, -1))
    before = model.SerializeToString()
    read(model, (1, 3, 6, 6))
    assert model.SerializeToString() == before


def test_known_lengths_replace_declared_ones() -> None:
    """The exporter declared an output of another picture, with symbols; every input is fixed."""
    model = picture([node("Relu", ["h"], ["m"])], (1, 3, 6, 6))
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = OUT + 1
    assert declared(read(model).model().graph.output[0]) == [1, OUT]


def two_inputs() -> onnx.ModelProto:
    """x [n, 3, h, w] and z [n, 1, h, w], each by a convolution of its own, summed -> y [n, 7, h, w]."""
    first, second, last = weights((CHANNELS, 3, 3, 3), (CHANNELS, 1, 3, 3), (OUT, CHANNELS, 1, 1))
    nodes = [
        node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        node("Conv", ["z", "second"], ["b"], pads=[1, 1, 1, 1]),
        node("Add", ["a", "b"], ["s"]),
        node("Conv", ["s", "last"], ["y"]),
    ]
    inputs = {"x": ("n", 3, "h", "w"), "z": ("n", 1, "h", "w")}
    return made(nodes, {"first": first, "second": second, "last": last}, inputs, {"y": ("n", OUT, "h", "w")})


def test_every_input_gets_its_shape_by_name(tmp_path: Path) -> None:
    source = tmp_path / "two.onnx"
    onnx.save(two_inputs(), source)
    shapes = shapes_from_texts(["x=1,3,6,6", "z=1,1,6,6"])
    assert shapes == {"x": (1, 3, 6, 6), "z": (1, 1, 6, 6)}
    done = prune_onnx(source, tmp_path / "out.onnx", {"params": 0.7}, align=1, input_shape=shapes)
    graph = onnx.load(done.file).graph
    assert [declared(value) for value in (*graph.input, *graph.output)] == [[1, 3, 6, 6], [1, 1, 6, 6], [1, OUT, 6, 6]]
    with pytest.raises(PlanError, match="--input-shape x=... --input-shape z=..."):
        prune_onnx(source, tmp_path / "more.onnx", {"params": 0.7}, input_shape=(1, 3, 6, 6))


def test_shapes_of_the_command_line() -> None:
    assert shapes_from_texts([]) is None
    assert shapes_from_texts(["1,3,8,8"]) == (1, 3, 8, 8)
    assert shapes_from_texts(["-1,3,8,8"]) == (None, 3, 8, 8)
    assert shapes_from_texts(["a=b=1,3"]) == {"a=b": (1, 3)}
    for wrong in (["1,3", "2,3"], ["x=1,3", "2,3"], ["x=1,3", "x=1,3"], ["=1,3"], ["x=1,three"], ["x="]):
        with pytest.raises(PlanError, match="--input-shape"):
            shapes_from_texts(wrong)


@pytest.mark.parametrize("batch", [1, "n"])
def test_transposed_convolutions_in_groups_equal_the_masked_ones(batch: int | str) -> None:
    """Four groups: three channels into each, two out of it. A whole group stays or leaves."""
    up, bias, last = weights((CHANNELS, 2, 2, 2), (8,), (OUT, 8, 1, 1))
    middle = [node("ConvTranspose", ["h", "up", "bias"], ["u"], group=4, strides=[2, 2]), node("Relu", ["u"], ["m"])]
    model = picture(middle, (batch, 3, 4, 4), up=up, bias=bias, last=last)
    # Nobody reads the bias by group, so it is masked by the reader of what it is added to.
    groups = [(4, [blocks("up", 0, 4, 3), blocks("last", 1, 4, 2)])]
    assert_pruned_is_masked(model, groups, 8, batch=2)


def decoder() -> onnx.ModelProto:
    """x [1, 5, 4, 4] -> two transposed convolutions of 12 and 10 channels -> y [1, 7, 16, 16]; no other layer makes features."""
    one, two, bias, last = weights((5, 12, 2, 2), (12, 10, 3, 3), (12,), (OUT, 10, 1, 1))
    nodes = [
        node("ConvTranspose", ["x", "one", "bias"], ["a"], strides=[2, 2]),
        node("Relu", ["a"], ["b"]),
        node("ConvTranspose", ["b", "two"], ["c"], strides=[2, 2], pads=[1, 1, 0, 0]),
        node("Relu", ["c"], ["d"]),
        node("Conv", ["d", "last"], ["y"]),
    ]
    constants = {"one": one, "two": two, "bias": bias, "last": last}
    return made(nodes, constants, {"x": (1, 5, 4, 4)}, {"y": (1, OUT, 16, 16)})


def test_transposed_convolutions_make_units() -> None:
    assert [(group.name, group.count) for group in couple(read(decoder())).groups] == [("one", 12), ("two", 10)]
    assert_pruned_is_masked(decoder(), [(12, [blocks("two", 0, 12, 1)]), (10, [blocks("last", 1, 10, 1)])], 12)


def test_macs_of_a_pruned_decoder_are_those_of_its_kernels() -> None:
    places = 4 * 4
    assert count(decoder()).macs == places * (5 * 12 * 4) + 4 * places * (12 * 10 * 9) + 16 * places * (10 * OUT)


def test_what_a_transposed_convolution_reads_is_one_row_per_place() -> None:
    """Its matrix times that row are all taps that a place adds to the output."""
    program = read(decoder())
    layer = layers(program)[0]
    x = np.random.default_rng(0).standard_normal((1, 5, 4, 4)).astype(np.float32)
    taps = gram.unfolded(layer.node, program, x) @ obs._matrix(program, layer).T  # [16, 12 * 2 * 2]
    laid = taps.reshape(4, 4, 12, 2, 2).transpose(2, 0, 3, 1, 4).reshape(12, 8, 8)
    model = program.part(["a"])
    found = run(model, {"x": x})[0][0] - program.constants[layer.node.input[2]][:, None, None]
    np.testing.assert_allclose(laid, found, atol=1e-4)


def test_compensation_of_transposed_convolutions_is_better_than_none(tmp_path: Path) -> None:
    model = decoder()
    source = tmp_path / "in.onnx"
    onnx.save(model, source)
    feeds = [np.random.default_rng(seed).standard_normal((1, 5, 4, 4)).astype(np.float32) for seed in range(8)]
    whole = [run(model, {"x": feed})[0] for feed in feeds]
    errors = []
    for compensate in (False, True):
        out = tmp_path / f"{compensate}.onnx"
        prune_onnx(source, out, {"params": 0.7}, importance="obs", inputs=feeds, compensate=compensate, align=1)
        pruned = onnx.load(out)
        errors.append(
            sum(float(np.square(run(pruned, {"x": f})[0] - y).sum()) for f, y in zip(feeds, whole, strict=True))
        )
    assert errors[1] < 0.9 * errors[0]


SIZED = [node("Resize", ["h", "", "", "sizes"], ["m"], mode="linear")]


def test_channels_pass_a_resize_by_sizes() -> None:
    model = picture(SIZED, (1, 3, 6, 6), sizes=np.array([1, CHANNELS, 9, 11], np.int64))
    assert_pruned_is_masked(model, READ_LAST, 6)


def test_channels_pass_a_resize_by_sizes_of_some_axes() -> None:
    resize = [node("Resize", ["h", "", "", "sizes"], ["m"], mode="nearest", axes=[2, 3])]
    model = picture(resize, (1, 3, 6, 6), sizes=np.array([9, 11], np.int64))
    assert_pruned_is_masked(model, READ_LAST, 6)


def test_channels_pass_sizes_that_are_computed_from_the_batch() -> None:
    """As exporters write an interpolation: batch and channels are read off the value, the places are constants."""
    middle = [
        node("Shape", ["h"], ["shape"], start=0, end=2),
        node("Concat", ["shape", "wide"], ["sizes"], axis=0),
        *SIZED,
    ]
    model = picture(middle, ("n", 3, 6, 6), wide=np.array([9, 11], np.int64))
    assert_pruned_is_masked(model, READ_LAST, 6, batch=3)


def test_a_refusal_names_what_cannot_leave(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"held: .*classifier.* \(7\) by graph output|held: .* by .*LayerNormalization"):
        prune_onnx(GRAPHS / "vit20.onnx", tmp_path / "out.onnx", {"params": 0.05})


def test_all_of_it_is_not_advice(tmp_path: Path) -> None:
    model = picture([node("Softmax", ["h"], ["m"], axis=1)], (1, 3, 6, 6))
    onnx.save(model, tmp_path / "in.onnx")
    with pytest.raises(PlanError, match=r"nothing can leave.*first \(12\) by Softmax") as caught:
        prune_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", {"params": 0.5})
    assert "1.0" not in str(caught.value) and "keeps" not in str(caught.value)
