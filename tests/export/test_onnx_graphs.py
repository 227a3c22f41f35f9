"""The room for ONNX graphs: bodies are walked, types are known inside them, and a part of a graph computes what the whole computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune_export.onnx.extract import ancestors, ending_in, live_nodes
from edgeprune_export.onnx.shapes import dims, element, inferred, inner_graphs, named_values, small_constant
from edgeprune_export.onnx.walk import all_nodes, attributes, renamed, value_names, values_captured, values_read

#: A Scan whose body reads `outside` and the weight `w` of the graph around it; `aside` feeds nothing of it.
LOOPED = onnx.parser.parse_model(
    """<ir_version: 9, opset_import: ["" : 20, "com.microsoft" : 1]>
    looped (float[4] s, float[3,4] x, float[4] v, float[2] u) => (float[4] t, float[3,4] rows, float[2] aside)
    <float[4] w = {1, 2, 3, 4}> {
      outside = Neg(v)
      aside = Abs(u)
      t, rows = Scan <num_scan_inputs = 1, body = b (float[4] a, float[4] c) => (float[4] d, float[4] e) {
        f = Mul(c, w)
        d = Add(a, f)
        e = Sub(d, outside)
      }> (s, x)
    }"""
)


def run(model: onnx.ModelProto, **given: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def scan(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "Scan")


def test_a_walk_enters_bodies() -> None:
    assert [node.op_type for node in all_nodes(LOOPED.graph)] == ["Neg", "Abs", "Scan", "Mul", "Add", "Sub"]
    assert {"outside", "w", "f", "e"} <= value_names(LOOPED.graph)
    assert values_captured(LOOPED.graph.node) == {"a", "c", "w", "f", "d", "outside"}
    assert values_read([scan(LOOPED)]) == {"s", "x", *values_captured(LOOPED.graph.node)}


def test_values_are_renamed_inside_bodies_and_the_original_stays() -> None:
    copy = renamed(scan(LOOPED), {"outside": "o", "s": "start", "a": "carried"})
    assert "start" in copy.input and "s" not in copy.input
    (body,) = (value for value in attributes(copy).values() if isinstance(value, onnx.GraphProto))
    assert body.input[0].name == "carried"
    assert values_captured([copy]) == {"carried", "c", "w", "f", "d", "o"}
    assert "outside" in values_read([scan(LOOPED)])


def test_types_are_known_inside_bodies() -> None:
    graph = inferred(LOOPED).graph
    (body,) = (inner for node in graph for inner in inner_graphs(node))
    inside = named_values(body)
    assert {name: dims(inside[name]) for name in "acfde"} == dict.fromkeys("acfde", (4,))
    assert all(element(inside[name]) == ir.DataType.FLOAT for name in "acfde")
    subtraction = list(body)[2]
    assert subtraction.inputs[1] is named_values(graph)["outside"], "a value of the graph around is that value itself"


def test_a_body_is_known_as_far_as_it_says_itself_where_its_node_is_not() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(LOOPED)
    scan(model).input[1] = "unknown"
    model.graph.node.insert(0, helper.make_node("Unheard", ["x"], ["unknown"], domain="com.microsoft"))
    graph = inferred(model).graph
    assert dims(named_values(graph)["unknown"]) is None
    assert element(named_values(graph)["unknown"]) == ir.DataType.UNDEFINED
    (body,) = (inner for node in graph for inner in inner_graphs(node))
    assert dims(named_values(body)["e"]) == (4,)


def test_weights_are_not_read_but_shapes_made_of_constants_are_known() -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(8, 6), data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="a file that is nowhere")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Constant", [], ["target"], value_ints=[2, -1]),
            helper.make_node("Reshape", ["y", "target"], ["z"]),
            helper.make_node("Add", ["z", "large"], ["sum"]),
        ],
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 8])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
        [weight, numpy_helper.from_array(np.ones((2, 33), np.float32), "large")],
    )
    values = named_values(inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])).graph)
    assert dims(values["y"]) == ("rows", 6)
    assert dims(values["z"])[0] == 2 and isinstance(dims(values["z"])[1], str)
    assert small_constant(values["target"]).tolist() == [2, -1]
    assert small_constant(values["w"]) is None and small_constant(values["large"]) is None
    assert small_constant(values["y"]) is None and small_constant(None) is None
    assert (element(None), dims(None)) == (ir.DataType.UNDEFINED, None)


@pytest.mark.parametrize("name", ["t", "rows"])
def test_a_part_computes_the_same_and_keeps_what_bodies_read_from_outside(name: str) -> None:
    value = next(value for value in LOOPED.graph.output if value.name == name)
    part = ending_in(LOOPED, [value])
    onnx.checker.check_model(part, full_check=True)
    assert [node.op_type for node in part.graph.node] == ["Neg", "Scan"]
    assert [given.name for given in part.graph.input] == ["s", "x", "v"]
    rng = np.random.default_rng(0)
    given = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in (("s", 4), ("x", (3, 4)), ("v", 4))}
    expected = run(LOOPED, u=np.ones(2, np.float32), **given)
    assert np.array_equal(run(part, **given)[name], expected[name])


def test_nodes_on_which_nothing_depends_are_not_alive() -> None:
    assert [node.op_type for node in live_nodes(LOOPED.graph.node, {"aside"})] == ["Abs"]
    assert live_nodes(LOOPED.graph.node, {"s"}) == ()


def test_ancestors_are_found_through_bodies() -> None:
    above = ancestors(LOOPED.graph.node, ["outside", "aside", "t", "rows"])
    assert above == {"outside": set(), "aside": set(), "t": {"outside"}, "rows": {"outside"}}
