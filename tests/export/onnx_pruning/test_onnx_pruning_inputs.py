"""What the caller says of inputs: symbols hold wherever they stand, a fixed value decides branches, contradictions are sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node as node

from edgeprune.cli.prepare.prune_onnx import values_from_texts
from edgeprune.errors import ExportError, PlanError
from edgeprune_export.onnx_pruning.groups.find import couple
from edgeprune_export.onnx_pruning.prune import prune_onnx
from edgeprune_export.onnx_pruning.reading import read
from tests.export.onnx_pruning.onnx_masked import OUT, made, run, weights

UNITS = 12


def two_pictures() -> onnx.ModelProto:
    """x [n, 3, h, w] and z [n, 1, h, w], each by a convolution, summed."""
    first, second, last = weights((UNITS, 3, 3, 3), (UNITS, 1, 3, 3), (OUT, UNITS, 1, 1))
    nodes = [
        node("Conv", ["x", "first"], ["a"]),
        node("Conv", ["z", "second"], ["b"]),
        node("Add", ["a", "b"], ["s"]),
        node("Conv", ["s", "last"], ["y"]),
    ]
    inputs = {"x": ("n", 3, "h", "w"), "z": ("n", 1, "h", "w")}
    return made(nodes, {"first": first, "second": second, "last": last}, inputs, {"y": ("n", OUT, "v", "u")})


def test_a_symbol_fixed_in_one_input_is_fixed_in_all() -> None:
    program = read(two_pictures(), {"x": (1, 3, 6, 5)})
    assert program.shapes["z"] == (1, 1, 6, 5) and not program.symbolic
    assert [d.dim_value for d in program.model().graph.output[0].type.tensor_type.shape.dim] == [1, OUT, 4, 3]


def test_a_batch_left_open_in_one_input_is_open_in_all() -> None:
    program = read(two_pictures(), {"x": (None, 3, 6, 5)})
    assert program.shapes["z"] == (1, 1, 6, 5) and {axis.value for axis in program.symbolic} >= {"x", "z", "y"}


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"x": (1, 3, 6, 5), "z": (1, 1, 6, 4)}, "the symbol 'w' is 5 in input 'x' and 4 in input 'z'"),
        ({"x": (None, 3, 6, 5), "z": (2, 1, 6, 5)}, "the symbol 'n' is symbolic in input 'x' and 2 in input 'z'"),
    ],
)
def test_contradictions_between_inputs_are_a_sentence(shapes: dict[str, Sequence[int | None]], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        read(two_pictures(), shapes)


def test_a_contradiction_inside_one_input_is_a_sentence() -> None:
    model = made([node("Relu", ["x"], ["y"])], {}, {"x": (1, "s", "s")}, {"y": (1, "s", "s")})
    with pytest.raises(PlanError, match="the symbol 's' is 4 and 5 in input 'x'; give one length"):
        read(model, (1, 4, 5))


@pytest.mark.parametrize("nameless", ["?", "None", "-1", "unk"])
def test_a_mark_for_unknown_is_no_symbol(nameless: str) -> None:
    """As Paddle's converter writes height and width."""
    model = made([node("Relu", ["x"], ["y"])], {}, {"x": (1, nameless, nameless)}, {"y": (1, nameless, nameless)})
    assert read(model, (1, 4, 5)).shapes["y"] == (1, 4, 5)


def test_what_is_still_unknown_is_asked_for_with_what_is_known() -> None:
    model = two_pictures()
    model.graph.input[1].type.tensor_type.shape.dim[3].dim_param = "other"
    with pytest.raises(ExportError, match="--input-shape z=1,1,6,224"):
        read(model, {"x": (1, 3, 6, 5)})


def branch(name: str, weight: np.ndarray, *, inside: bool) -> onnx.GraphProto:
    """h -> MatMul with a weight of its own -> Relu or nothing; names are the same in both branches."""
    held = helper.make_node("Constant", [], ["up"], value=onnx.numpy_helper.from_array(weight))
    read_ = "up" if inside else f"up_{name}"
    nodes = [*([held] if inside else []), node("MatMul", ["x", read_], ["h"]), node("Relu", ["h"], ["out"])]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])


def by_rate(*, inside: bool) -> onnx.ModelProto:
    """x [1, 5, 3] and a rate; the branch for 16 has 12 units, the other 9, as voice detectors of two sampling rates are stored."""
    fast, slow, down, narrow = weights((3, UNITS), (3, 9), (UNITS, OUT), (9, OUT))
    flow = node(
        "If",
        ["is_fast"],
        ["y"],
        then_branch=_ending(branch("fast", fast, inside=inside), down),
        else_branch=_ending(branch("slow", slow, inside=inside), narrow),
    )
    constants = {"sixteen": np.array(16, np.int64)} | ({} if inside else {"up_fast": fast, "up_slow": slow})
    model = made(
        [node("Equal", ["rate", "sixteen"], ["is_fast"]), flow], constants, {"x": (1, 5, 3)}, {"y": (1, 5, OUT)}
    )
    model.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    return model


def _ending(body: onnx.GraphProto, down: np.ndarray) -> onnx.GraphProto:
    body.node.append(helper.make_node("Constant", [], ["down"], value=onnx.numpy_helper.from_array(down)))
    body.node.append(node("MatMul", ["out", "down"], ["last"]))
    body.output[0].name = "last"
    return body


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(("rate", "units"), [(16, UNITS), (8, 9)])
def test_a_fixed_input_decides_the_branch(inside: bool, rate: int, units: int) -> None:
    model = by_rate(inside=inside)
    program = read(model, input_values={"rate": rate})
    assert [group.count for group in couple(program).groups] == [units]
    decided = program.model()
    assert [value.name for value in decided.graph.input] == ["x"]
    assert not [n for n in decided.graph.node if n.op_type == "If"]
    x = np.random.default_rng(0).standard_normal((1, 5, 3)).astype(np.float32)
    whole = run(model, {"x": x, "rate": np.array(rate)})
    np.testing.assert_allclose(run(decided, {"x": x})[0], whole[0], atol=1e-6)


def test_branches_inside_branches_are_decided_too() -> None:
    inner = by_rate(inside=True)
    body = helper.make_graph(inner.graph.node, "inner", [], inner.graph.output)
    body.initializer.extend(inner.graph.initializer)
    other = helper.make_graph([node("Identity", ["zero"], ["same"])], "other", [], [])
    other.output.append(helper.make_tensor_value_info("same", TensorProto.FLOAT, None))
    outer = made(
        [
            node("Shape", ["x"], ["shape"], start=1, end=2),
            node("Less", ["shape", "nine"], ["short"]),
            node("If", ["short"], ["result"], then_branch=body, else_branch=other),
        ],
        {"nine": np.array([9], np.int64), "zero": np.zeros((1, 5, OUT), np.float32)},
        {"x": (1, 5, 3)},
        {"result": (1, 5, OUT)},
    )
    outer.graph.input.append(inner.graph.input[1])
    program = read(outer, input_values={"rate": 8})
    assert [group.count for group in couple(program).groups] == [9]


@pytest.mark.parametrize("inside", [True, False])
def test_a_refusal_says_which_input_decides(tmp_path: Path, inside: bool) -> None:
    onnx.save(by_rate(inside=inside), tmp_path / "in.onnx")
    with pytest.raises(
        PlanError, match=r"bodies of If 'y' hold \d+ weights, and the input 'rate' decides.*--input-value rate="
    ):
        prune_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", {"params": 0.8})


def test_a_refusal_says_that_weights_are_quantised_and_gives_no_empty_advice(tmp_path: Path) -> None:
    whole = np.ones((3, UNITS), np.int8)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        node("MatMulInteger", ["q", "w"], ["i"]),
        node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    onnx.save(made(nodes, {"w": whole}, {"x": (1, 5, 3)}, {"y": (1, 5, UNITS)}), tmp_path / "in.onnx")
    with pytest.raises(PlanError, match=r"quantised \(DynamicQuantizeLinear, MatMulInteger\)") as caught:
        prune_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", {"params": 0.8})
    assert "--align" not in str(caught.value)


def test_the_only_element_of_an_axis_is_a_reason() -> None:
    """A convolution over one channel that no graph input makes."""
    first, last = weights((1, 3, 1, 1), (OUT, 1, 1, 1))
    nodes = [node("Conv", ["x", "first"], ["h"]), node("Relu", ["h"], ["r"]), node("Conv", ["r", "last"], ["y"])]
    model = made(nodes, {"first": first, "last": last}, {"x": (1, 3, 4, 4)}, {"y": (1, OUT, 4, 4)})
    assert ("first", ("its only element",)) in [(g.name, g.operators) for g in couple(read(model)).frozen]


def test_values_that_an_input_cannot_take() -> None:
    model = by_rate(inside=True)
    for wrong, sentence in (
        ({"x": 1}, "more than one element"),
        ({"rate": 0.5}, "cannot hold 0.5"),
        ({"r": 1}, "no input 'r'"),
    ):
        with pytest.raises(PlanError, match=sentence):
            read(model, input_values=wrong)


def test_values_of_the_command_line() -> None:
    assert values_from_texts([]) == {}
    assert values_from_texts(["sr=16000", "a=b=-0.5"]) == {"sr": 16000, "a=b": -0.5}
    for wrong in (["16000"], ["sr="], ["sr=nan"], ["=1"], ["sr=1", "sr=2"]):
        with pytest.raises(PlanError, match="--input-value"):
            values_from_texts(wrong)
