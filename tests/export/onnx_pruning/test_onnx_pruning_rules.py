"""One made graph per rule: what is pruned equals what is masked."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.helper import make_node as node

from tests.export.onnx_pruning.onnx_masked import (
    CUSTOM,
    OUT,
    PLAIN,
    UNITS,
    Groups,
    N,
    Reader,
    assert_pruned_is_masked,
    attention,
    blocks,
    feed_of,
    made,
    masked,
    mlp,
    run,
    weights,
)

INTS = np.int64
SWAPPED = np.array([3, 2, 1, 0, 11, 10, -3, 8, 7, 6, 5, 4], INTS)  # a permutation, one place counted from the end
RULES: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], Groups]] = {
    "bias and power": (
        [node("Add", ["h", "b"], ["a"]), node("Pow", ["a", "two"], ["m"])],
        {"b": weights((1, 1, UNITS))[0], "two": np.float32(2)},
        PLAIN,
    ),
    "squeeze, unsqueeze, transpose": (
        [
            node("Squeeze", ["h", "first"], ["s"]),
            node("Transpose", ["s"], ["t"], perm=[1, 0]),
            node("Unsqueeze", ["t", "last"], ["u"]),
            node("Transpose", ["u"], ["m"], perm=[2, 1, 0]),
        ],
        {"first": np.array([0], INTS), "last": np.array([2], INTS)},
        PLAIN,
    ),
    "gather a permutation": (
        [node("Gather", ["h", "order"], ["m"], axis=2)],
        {"order": SWAPPED},
        [(UNITS, [Reader("down", 0, np.argsort(SWAPPED % UNITS)[:, None])])],
    ),
    "slices and a concatenation": (
        [
            node("Slice", ["h", "zero", "four", "axis"], ["a"]),
            node("Slice", ["h", "four", "end", "axis", "one"], ["b"]),
            node("Concat", ["b", "a"], ["m"], axis=-1),
        ],
        {k: np.array([v], INTS) for k, v in {"zero": 0, "four": 4, "end": 2**62, "axis": -1, "one": 1}.items()},
        [(4, [blocks("down", 0, 4, 1, start=8)]), (8, [blocks("down", 0, 8, 1)])],
    ),
    "an uneven split": (
        [
            node("Split", ["h", "sizes"], ["a", "b", "c"], axis=2),
            node("Mul", ["a", "c"], ["ac"]),
            node("Concat", ["ac", "b"], ["m"], axis=2),
        ],
        {"sizes": np.array([4, 4, 4], INTS)},
        [(4, [blocks("down", 0, 4, 1)]), (4, [blocks("down", 0, 4, 1, start=4)])],
    ),
    "an even split by number": (
        [node("Split", ["h"], ["a", "b"], axis=-1, num_outputs=2), node("Max", ["a", "b"], ["m"])],
        {},
        [(6, [blocks("down", 0, 6, 1)])],
    ),
    "pad of other axes": (
        [
            node("Pad", ["h", "pads", "", "second"], ["p"]),
            node("Slice", ["p", "one", "six", "second"], ["m"]),
        ],
        {
            "pads": np.array([1, 2], INTS),
            "one": np.array([1], INTS),
            "six": np.array([6], INTS),
            "second": np.array([1], INTS),
        },
        PLAIN,
    ),
    "expand of a constant": (
        [node("Expand", ["c", "wide"], ["e"]), node("Mul", ["e", "h"], ["m"])],
        {"c": weights((1, N, 1))[0], "wide": np.array([1, 1, UNITS], INTS)},
        PLAIN,
    ),
    "expand of an activation": (
        [
            node("ReduceMean", ["h", "second"], ["r"], keepdims=1),
            node("Expand", ["r", "wide"], ["e"]),
            node("Sub", ["h", "e"], ["m"]),
        ],
        {"second": np.array([1], INTS), "wide": np.array([1, N, UNITS], INTS)},
        PLAIN,
    ),
    "expand to more axes": (
        [
            node("ReduceMax", ["h", "both"], ["r"], keepdims=0),
            node("Expand", ["r", "wide"], ["e"]),
            node("Sub", ["h", "e"], ["m"]),
        ],
        {"both": np.array([0, 1], INTS), "wide": np.array([1, N, UNITS], INTS)},
        PLAIN,
    ),
    "reduction without kept axes": (
        [
            node("ReduceMax", ["h", "second"], ["r"], keepdims=0),
            node("Unsqueeze", ["r", "second"], ["u"]),
            node("Add", ["h", "u"], ["m"]),
        ],
        {"second": np.array([1], INTS)},
        PLAIN,
    ),
    "softmax of other axes": ([node("Softmax", ["h"], ["m"], axis=1)], {}, PLAIN),
    "a reshape with copied and inferred lengths": (
        [
            node("Reshape", ["h", "shape"], ["r"]),
            node("Relu", ["r"], ["a"]),
            node("Reshape", ["a", "back"], ["m"]),
        ],
        {"shape": np.array([0, N, 4, -1], INTS), "back": np.array([1, N, -1], INTS)},
        [(4, [blocks("down", 0, 4, 3)])],
    ),
    "shapes computed from shapes": (
        [
            node("Shape", ["h"], ["s"]),
            node("Gather", ["s", "two"], ["c"]),
            node("Div", ["c", "three"], ["d"]),
            node("Concat", ["ones", "d", "three"], ["target"], axis=0),
            node("Reshape", ["h", "target"], ["r"]),
            node("Reshape", ["r", "s"], ["m"]),
        ],
        {"two": np.array([2], INTS), "three": np.array([3], INTS), "ones": np.array([1, N], INTS)},
        [(4, [blocks("down", 0, 4, 3)])],
    ),
    "a shape computed from the number of elements": (
        [
            node("Size", ["h"], ["s"]),
            node("Div", ["s", "fifteen"], ["d"]),
            node("Concat", ["ones", "d", "three"], ["target"], axis=0),
            node("Reshape", ["h", "target"], ["r"]),
            node("Flatten", ["r"], ["f"], axis=2),
            node("Reshape", ["f", "back"], ["m"]),
        ],
        {
            "fifteen": np.array([15], INTS),
            "three": np.array([3], INTS),
            "ones": np.array([1, N], INTS),
            "back": np.array([1, N, 12], INTS),
        },
        [(4, [blocks("down", 0, 4, 3)])],
    ),
    "a layer inside every head, whose own width stays": (
        [
            node("Reshape", ["h", "shape"], ["r"]),
            node("MatMul", ["r", "inner"], ["i"]),
            node("Relu", ["i"], ["a"]),
            node("Reshape", ["a", "back"], ["m"]),
        ],
        {"shape": np.array([1, N, 4, 3], INTS), "inner": weights((3, 5))[0], "back": np.array([1, N, 20], INTS)},
        [(4, [blocks("down", 0, 4, 5)])],
    ),
    "a stored transpose": (
        [
            node("Transpose", ["turned"], ["w"], perm=[1, 0]),
            node("MatMul", ["h", "w"], ["v"]),
            node("Relu", ["v"], ["m"]),
        ],
        {"turned": weights((UNITS, UNITS))[0]},
        [(UNITS, [blocks("turned", 1, UNITS, 1)]), (UNITS, [blocks("down", 0, UNITS, 1)])],
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_prunes_what_masking_would(name: str) -> None:
    middle, constants, groups = RULES[name]
    width = sum(reader.elements.size for _, readers in groups for reader in readers if reader.weight == "down")
    assert_pruned_is_masked(mlp(middle, constants, width), groups, 12)


def test_old_opsets_state_splits_and_slices_as_attributes() -> None:
    middle = [
        node("Split", ["h"], ["a", "b"], axis=2, split=[8, 4]),
        node("Slice", ["a"], ["c"], starts=[4], ends=[8], axes=[2]),
        node("Concat", ["b", "c"], ["m"], axis=2),
    ]
    groups = [(4, []), (4, [blocks("down", 0, 4, 1, start=4)]), (4, [blocks("down", 0, 4, 1)])]
    assert_pruned_is_masked(mlp(middle, {}, width=8, opset=9), groups, 12)


def test_zero_biases_stored_once_do_not_couple_layers() -> None:
    middle = [
        node("Add", ["h", "zeros"], ["a"]),
        node("MatMul", ["a", "mid"], ["b"]),
        node("Add", ["b", "zeros"], ["c"]),
        node("Relu", ["c"], ["m"]),
    ]
    model = mlp(middle, {"zeros": np.zeros(UNITS, np.float32), "mid": weights((UNITS, UNITS))[0]})
    groups = [(UNITS, [blocks("mid", 0, UNITS, 1)]), (UNITS, [blocks("down", 0, UNITS, 1)])]
    assert_pruned_is_masked(model, groups, 12)


def test_a_tied_matrix_couples_its_readers() -> None:
    middle = [node("MatMul", ["h", "tied"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "tied"], ["m"])]
    model = mlp(middle, {"tied": weights((UNITS, UNITS))[0]})
    groups = [(UNITS, [blocks("tied", 0, UNITS, 1), blocks("down", 0, UNITS, 1)])]
    assert_pruned_is_masked(model, groups, 12)


@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_in_both_layouts(turned: int) -> None:
    first, bias, second = weights((3, UNITS), (UNITS,), (UNITS, OUT))
    constants = {"first": first.T if turned else first, "bias": bias, "second": second.T if turned else second}
    nodes = [
        node("Gemm", ["x", "first", "bias"], ["h"], transA=1, transB=turned),
        node("Sigmoid", ["h"], ["a"]),
        node("Gemm", ["a", "second"], ["y"], transB=turned),
    ]
    model = made(nodes, constants, {"x": (3, N)}, {"y": (N, OUT)})
    assert_pruned_is_masked(model, [(UNITS, [blocks("second", turned, UNITS, 1)])], 12)


def test_convolutions_up_and_down_with_a_norm_by_channel() -> None:
    down, up, last, scale, shift = weights((6, 3, 3, 3), (6, 8, 2, 2), (OUT, 8, 1, 1), (6,), (6,))
    nodes = [
        node("Conv", ["x", "down"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("InstanceNormalization", ["a", "scale", "shift"], ["b"]),
        node("Resize", ["b", "", "scales"], ["c"], mode="nearest"),
        node("ConvTranspose", ["c", "up"], ["d"], strides=[2, 2]),
        node("GlobalAveragePool", ["d"], ["e"]),
        node("Conv", ["e", "last"], ["y"]),
    ]
    constants = {"down": down, "up": up, "last": last, "scale": scale, "shift": shift}
    scales = np.array([1, 1, 2, 2], np.float32)
    model = made(nodes, {**constants, "scales": scales}, {"x": (1, 3, 8, 8)}, {"y": (1, OUT, 1, 1)})
    assert_pruned_is_masked(model, [(6, [blocks("up", 0, 6, 1)]), (8, [blocks("last", 1, 8, 1)])], 8)


def test_fused_attention_of_rank_three_with_shared_key_heads() -> None:
    """Six query heads of width 4 on three key heads of width 4 and values of width 2: two query heads leave with each."""
    nodes = attention("Attention", "", q_num_heads=6, kv_num_heads=3, more=["mask"])
    q, k, v, out, mask = weights((9, 24), (9, 12), (9, 6), (12, OUT), (1, 6, N, N))
    constants = {"q": q, "k": k, "v": v, "out": out, "mask": mask}
    model = made(nodes, constants, {"x": (1, N, 9)}, {"y": (1, N, OUT)}, opset=23)
    assert_pruned_is_masked(model, [(3, [blocks("out", 0, 3, 4)])], 6)


def test_attention_of_onnx_runtime_with_its_joint_bias() -> None:
    nodes = attention("MultiHeadAttention", "com.microsoft", num_heads=4, more=["bias"])
    q, k, v, out, bias = weights((9, 12), (9, 12), (9, 12), (12, OUT), (36,))
    constants = {"q": q, "k": k, "v": v, "out": out, "bias": bias}
    model = made(nodes, constants, {"x": (1, N, 9)}, {"y": (1, N, OUT)})
    assert_pruned_is_masked(model, [(4, [blocks("out", 0, 4, 3)])], 6)


def test_functions_are_inlined() -> None:
    body = [node("Mul", ["a", "a"], ["b"]), node("Relu", ["b"], ["c"])]
    function = helper.make_function(CUSTOM, "Square", ["a"], ["c"], body, [helper.make_opsetid("", 20)])
    model = mlp([node("Square", ["h"], ["m"], domain=CUSTOM)], {})
    model.functions.append(function)
    assert_pruned_is_masked(model, PLAIN, 6)


def test_the_mask_of_these_tests_is_not_the_identity() -> None:
    model = mlp(*RULES["bias and power"][:2])
    feed = feed_of(model)
    whole, less = run(model, feed)[0], run(masked(model, PLAIN, [np.array([0])]), feed)[0]
    assert np.abs(whole - less).max() > 0.1
