"""What a rule does not understand stays whole: unknown operators, mixed axes, control flow, symbolic shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node as node

from edgeprune.errors import ExportError, PlanError
from edgeprune_export.onnx_pruning.count import Counted, count
from edgeprune_export.onnx_pruning.groups.find import couple
from edgeprune_export.onnx_pruning.reading import read
from tests.export.onnx_pruning.onnx_masked import (
    CUSTOM,
    GRAPHS,
    OUT,
    PLAIN,
    UNITS,
    N,
    Reader,
    assert_pruned_is_masked,
    attention,
    blocks,
    made,
    mlp,
    weights,
)

INTS = np.int64
HOLDS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "CumSum": ([node("CumSum", ["h", "axis"], ["m"])], {"axis": np.array(2, INTS)}),
    "Softmax": ([node("Softmax", ["h"], ["m"], axis=-1)], {}),
    "LayerNormalization": ([node("LayerNormalization", ["h", "g"], ["m"])], {"g": weights((UNITS,))[0]}),
    "RMSNormalization": ([node("RMSNormalization", ["h", "g"], ["m"])], {"g": weights((UNITS,))[0]}),
    "ReduceMean": (
        [node("ReduceMean", ["h", "axis"], ["r"]), node("Sub", ["h", "r"], ["m"])],
        {"axis": np.array([2], INTS)},
    ),
    "Slice": (
        [node("Slice", ["h", "from", "to", "axis", "step"], ["m"])],
        {k: np.array([v], INTS) for k, v in {"from": -1, "to": -(2**62), "axis": 2, "step": -1}.items()},
    ),
    "Gather": (
        [
            node("Gather", ["h", "one"], ["g"], axis=2),
            node("Unsqueeze", ["g", "two"], ["u"]),
            node("Add", ["h", "u"], ["m"]),
        ],
        {"one": np.array(3, INTS), "two": np.array([2], INTS)},
    ),
    "Pad": (
        [node("Pad", ["h", "pads"], ["p"]), node("Slice", ["p", "zero", "end", "axis"], ["m"])],
        {"pads": np.array([0, 0, 0, 0, 0, 1], INTS)}
        | {k: np.array([v], INTS) for k, v in {"zero": 0, "end": UNITS, "axis": 2}.items()},
    ),
    "Reshape": (
        [
            node("Reshape", ["h", "split"], ["r"]),
            node("CumSum", ["r", "heads"], ["c"]),
            node("CumSum", ["c", "width"], ["d"]),
            node("Reshape", ["d", "back"], ["m"]),
        ],
        {
            "split": np.array([1, N, 4, 3], INTS),
            "back": np.array([1, N, UNITS], INTS),
            "heads": np.array(2, INTS),
            "width": np.array(3, INTS),
        },
    ),
    "Einsum": ([node("Einsum", ["h"], ["m"], equation="abc->abc")], {}),
    "MatMul": (
        [
            node("Transpose", ["h"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["h", "t"], ["q"]),
            node("MatMul", ["q", "h"], ["m"]),
        ],
        {},
    ),
}


@pytest.mark.parametrize("operator", HOLDS)
def test_an_operator_that_mixes_or_is_unknown_freezes_its_group_and_no_other(operator: str) -> None:
    """A second, plain layer beside it stays prunable, and the whole still computes the same."""
    middle, constants = HOLDS[operator]
    side = [
        node("MatMul", ["x", "side"], ["sh"]),
        node("Relu", ["sh"], ["sr"]),
        node("MatMul", ["sr", "sdown"], ["sy"]),
    ]
    middle = [*middle[:-1], middle[-1], *side]
    side_up, side_down = weights((3, 9), (9, OUT), seed=1)
    model = mlp(middle, {**constants, "side": side_up, "sdown": side_down}, opset=23)
    model.graph.node[-1].output[0] = "main"
    model.graph.node.append(node("Add", ["main", "sy"], ["y"]))
    coupling = couple(read(model))
    held = next(group for group in coupling.frozen if group.name == "up")
    assert held.size == UNITS and operator in held.operators
    assert_pruned_is_masked(model, [(9, [blocks("sdown", 0, 9, 1)])], 6)


def test_an_operator_of_a_foreign_domain_freezes_what_it_reads_and_makes() -> None:
    model = mlp([node("Blend", ["h"], ["m"], domain=CUSTOM)], {})
    (up, down) = [group for group in couple(read(model)).frozen if group.size == UNITS]
    # Not even the shape of its result is known where the graph does not state it.
    assert up.operators == ("Blend",) and down.operators == ("MatMul of unknown shape",)
    assert couple(read(model)).groups == ()


def test_a_branch_of_control_flow_freezes_what_it_captures() -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node(operator, ["h"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, N, UNITS))],
        )

    flow = node("If", ["yes"], ["m"], then_branch=branch("then", "Relu"), else_branch=branch("other", "Neg"))
    model = mlp(
        [node("ReduceMax", ["x"], ["top"], keepdims=0), node("Greater", ["top", "zero"], ["yes"]), flow],
        {"zero": np.float32(0)},
    )
    coupling = couple(read(model))
    assert coupling.groups == () and {"If", "control flow"} & set(coupling.frozen[0].operators)


def test_attention_with_a_cache_is_not_known() -> None:
    nodes = attention("Attention", "", q_num_heads=4, kv_num_heads=4)
    q, k, v, out = weights((9, 12), (9, 12), (9, 12), (12, OUT))
    model = made(nodes, {"q": q, "k": k, "v": v, "out": out}, {"x": (1, N, 9)}, {"y": (1, N, OUT)}, opset=23)
    model.graph.node[3].output.extend(["key", "value"])
    assert couple(read(model)).groups == ()


@pytest.mark.parametrize("shape", [("a", "b", 3), (2, "n", 3)])
def test_only_the_batch_may_be_symbolic(shape: tuple[int | str, ...]) -> None:
    up, down = weights((3, UNITS), (UNITS, OUT))
    nodes = [node("MatMul", ["x", "up"], ["h"]), node("Relu", ["h"], ["m"]), node("MatMul", ["m", "down"], ["y"])]
    model = made(nodes, {"up": up, "down": down}, {"x": shape}, {"y": (*shape[:2], OUT)})
    with pytest.raises(ExportError, match="only the first dimension may be symbolic"):
        read(model)
    assert_pruned_is_masked(model, PLAIN, 4, input_shape=(2, N, 3), feed_shape=(2, N, 3))
    with pytest.raises(PlanError, match="do not fit"):
        read(model, {"pictures": (2, N, 3)})


def test_inputs_with_symbols_of_different_names_are_refused() -> None:
    (up,) = weights((3, OUT))
    nodes = [node("Add", ["x", "z"], ["s"]), node("MatMul", ["s", "up"], ["y"])]
    model = made(nodes, {"up": up}, {"x": ("a", 3), "z": ("b", 3)}, {"y": ("a", OUT)})
    with pytest.raises(ExportError, match=r"different symbolic dimensions \['a', 'b'\]"):
        read(model)
    assert read(model, {"x": (2, 3), "z": (2, 3)}).shapes["y"] == (2, OUT)


def test_an_expand_to_a_batch_that_its_operand_has_is_rewritten() -> None:
    """The target is computed from the batch; afterwards a one stands there, which means as long as the operand's axis."""
    up, down = weights((3, UNITS), (UNITS, OUT))
    nodes = [
        node("MatMul", ["x", "up"], ["h"]),
        node("ReduceMax", ["h", "second"], ["r"]),
        node("Shape", ["x"], ["batch"], start=0, end=1),
        node("Concat", ["batch", "rest"], ["target"], axis=0),
        node("Expand", ["r", "target"], ["e"]),
        node("Sub", ["h", "e"], ["m"]),
        node("MatMul", ["m", "down"], ["y"]),
    ]
    constants = {"up": up, "down": down, "second": np.array([1], INTS), "rest": np.array([N, UNITS], INTS)}
    model = made(nodes, constants, {"x": ("batch", N, 3)}, {"y": ("batch", N, OUT)})
    assert_pruned_is_masked(model, PLAIN, 6, batch=3)


def test_a_shape_read_at_run_time_holds_what_it_reads_beside_the_batch() -> None:
    """Shape of a hidden value whose channels feed an Expand to a symbolic batch: the channels must stay."""
    up, down, token = weights((3, UNITS), (UNITS, OUT), (1, 1))
    nodes = [
        node("MatMul", ["x", "up"], ["h"]),
        node("Shape", ["h"], ["s"]),
        node("Expand", ["token", "s"], ["e"]),
        node("Add", ["h", "e"], ["m"]),
        node("MatMul", ["m", "down"], ["y"]),
    ]
    model = made(nodes, {"up": up, "down": down, "token": token}, {"x": ("batch", 3)}, {"y": ("batch", OUT)})
    coupling = couple(read(model))
    assert coupling.groups == () and {"Expand", "Shape"} <= set(coupling.frozen[0].operators)


def test_operators_of_one_name_in_two_domains_are_told_apart() -> None:
    """ONNX Runtime's own Attention holds its three weights inside; the rule of ONNX's Attention would corrupt it."""
    nodes = [
        node("MatMul", ["x", "up"], ["h"]),
        node("Attention", ["h", "qkv", "bias"], ["a"], domain="com.microsoft", num_heads=3),
        node("MatMul", ["a", "down"], ["y"]),
    ]
    up, qkv, bias, down = weights((3, UNITS), (UNITS, 3 * UNITS), (3 * UNITS,), (UNITS, OUT))
    model = made(nodes, {"up": up, "qkv": qkv, "bias": bias, "down": down}, {"x": (1, N, 3)}, {"y": (1, N, OUT)})
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, (1, N, UNITS)))
    coupling = couple(read(model))
    assert coupling.groups == () and "Attention" in coupling.frozen[0].operators


def test_indices_of_maxima_hold_the_channels() -> None:
    """They count through all channels, so the indices of a channel change when another leaves."""
    kernel, last = weights((6, 3, 1, 1), (OUT, 6, 1, 1))
    nodes = [
        node("Conv", ["x", "kernel"], ["a"]),
        node("MaxPool", ["a"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        node("Conv", ["c", "last"], ["y"]),
    ]
    model = made(nodes, {"kernel": kernel, "last": last}, {"x": (1, 3, 8, 8)}, {"y": (1, OUT, 4, 4)})
    assert couple(read(model)).groups == ()


def test_an_axis_of_heads_and_batch_may_be_merged_but_not_joined_to_another() -> None:
    """Heads folded into a symbolic batch can leave; a concatenation along that axis is not followed."""
    up, down = weights((3, UNITS), (UNITS, OUT))
    targets = {"split": [-1, N, 4, 3], "folded": [-1, N, 3], "heads": [-1, 4, N, 3], "flat": [-1, N, UNITS]}
    constants = {"up": up, "down": down} | {name: np.array(target, INTS) for name, target in targets.items()}

    def model(middle: list[onnx.NodeProto]) -> onnx.ModelProto:
        nodes = [
            node("MatMul", ["x", "up"], ["h"]),
            node("Reshape", ["h", "split"], ["s"]),
            node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3]),
            node("Reshape", ["t", "folded"], ["f"]),
            *middle,
            node("Reshape", ["m", "heads"], ["u"]),
            node("Transpose", ["u"], ["v"], perm=[0, 2, 1, 3]),
            node("Reshape", ["v", "flat"], ["w"]),
            node("MatMul", ["w", "down"], ["y"]),
        ]
        return made(nodes, constants, {"x": ("batch", N, 3)}, {"y": ("more", N, OUT)})

    assert_pruned_is_masked(model([node("Relu", ["f"], ["m"])]), [(4, [blocks("down", 0, 4, 3)])], 6, batch=3)
    # Then the heads stay, and what can leave is one element of every head: nothing here forbids it.
    strided = Reader("down", 0, np.arange(UNITS).reshape(4, 3).T)
    assert_pruned_is_masked(model([node("Concat", ["f", "f"], ["m"], axis=0)]), [(3, [strided])], 6, batch=3)


def test_heads_that_must_stay_are_not_thinned_instead() -> None:
    """A graph that publishes its attention weights: their heads are an output, and no element inside a head may leave for them."""
    model = onnx.load(GRAPHS / "vit20.onnx")
    for layer in [n for n in model.graph.node if n.op_type == "Softmax"]:
        model.graph.output.append(helper.make_tensor_value_info(layer.output[0], TensorProto.FLOAT, (1, 5, 17, 17)))
    assert [group.count for group in couple(read(model)).groups] == [72, 72]


def test_multiply_accumulates_by_hand() -> None:
    grouped, up, q, k, v, out = weights((8, 2, 3, 3), (8, 5, 2, 2), (9, 24), (9, 12), (9, 6), (12, OUT))
    nodes = [
        node("Conv", ["x", "g"], ["a"], group=2, pads=[1, 1, 1, 1]),
        node("ConvTranspose", ["a", "u"], ["y"], strides=[2, 2]),
    ]
    convs = made(nodes, {"g": grouped, "u": up}, {"x": (1, 4, 6, 6)}, {"y": (1, 5, 12, 12)})
    assert count(convs) == Counted(8 * 2 * 9 + 8 * 5 * 4, 36 * 8 * 2 * 9 + 36 * 8 * 5 * 4)
    nodes = attention("Attention", "", q_num_heads=6, kv_num_heads=3)
    heads = made(nodes, {"q": q, "k": k, "v": v, "out": out}, {"x": ("b", N, 9)}, {"y": ("b", N, OUT)}, 23)
    products = N * 9 * (24 + 12 + 6) + N * 12 * OUT
    assert count(heads) == Counted(9 * 42 + 12 * OUT, products + N * N * 24 + N * N * 12)
