"""The operator lint: each rule by one graph that breaks it and one that is cured, and both tried with TensorRT for RTX, which needs no GPU."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import ModuleType
from typing import Any, NamedTuple

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from edgeprune_export.engines.lint.facts import NodeFacts
from edgeprune_export.engines.lint.rules import RTX_SMS, RULES, LintRule
from edgeprune_export.engines.lint.run import Finding, LintTarget, lint

RTX = LintTarget("rtx", (1, 7, 1), (86, 89))
JETPACK6 = LintTarget("tensorrt", (10, 3, 0), (87,))
ATTENTION = "(float16[1,4,16,64] q, float16[1,4,16,64] k, float16[1,4,16,64] v{more}) => ({out}) {{ {y} = Attention{how}({given}) }}"
FP8 = """(float[1,8] x) => (float[1,8] y) <float s = {{0.1}}>
{{ q = QuantizeLinear <output_dtype = {kind}> (x, s) y = DequantizeLinear(q, s) }}"""
LOOP = """(float[4] s) => (float[4] y) <int64 n = {{3}}, bool yes = {{1}}> {{
  y = Loop <body = b (int64 i, bool c, float[4] a) => (bool d, float[4] e) {{ d = Identity(c) e = Add(a, a) }}> (n, {cond}, s)
}}"""
ZERO_POINT = """(float[1,8] x) => (float[1,8] y) <float s = {{0.1}}, int8 z = {{{zero}}}>
{{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }}"""


def made(text: str, opset: int = 20, name: str = "one") -> onnx.ModelProto:
    """A model from the body of its text form."""
    head = f'<ir_version: {9 if opset < 23 else 11}, opset_import: ["" : {opset}, "com.microsoft" : 1, "own" : 1]>'
    return onnx.parser.parse_model(f"{head} {name} {text}")


def attention(
    kind: str = "float16",
    *,
    width: int = 64,
    more: str = "",
    out: str = "",
    y: str = "y",
    how: str = "",
    given: str = "q, k, v",
) -> onnx.ModelProto:
    text = ATTENTION.format(more=more, out=f"float16[1,4,16,64] y{out}", y=y, how=how, given=given)
    return made(text.replace("float16", kind).replace("64]", f"{width}]"), 24)


def product(kind: str) -> onnx.ModelProto:
    return made(f"({kind}[8,16] a, {kind}[16,8] b) => ({kind}[8,8] y) {{ y = MatMul(a, b) }}")


class Example(NamedTuple):
    bad: onnx.ModelProto
    cured: onnx.ModelProto
    sms: tuple[int, ...] = (89,)


def scatter(reduction: str, operator: str = "ScatterElements", i: str = "1,4", u: str = "1,4") -> onnx.ModelProto:
    how = f'<axis = 1, reduction = "{reduction}">' if operator == "ScatterElements" else f'<reduction = "{reduction}">'
    return made(f"(float[1,8] x, int64[{i}] i, float[{u}] u) => (float[1,8] y) {{ y = {operator} {how} (x, i, u) }}")


def cache(shape: str = "1,4,32,64", new: str = "1,4,1,64", how: str = "axis = -2") -> onnx.ModelProto:
    text = f"(float16[{shape}] c, float16[{new}] x, int64[1] at) => (float16[{shape}] y) {{ y = TensorScatter <{how}> (c, x, at) }}"
    return made(text, 24)


def topk(k: int) -> onnx.ModelProto:
    return made(f"(float[1,5000] x) => (float[1,{k}] y, int64[1,{k}] i) <int64[1] k = {{{k}}}> {{ y, i = TopK(x, k) }}")


def unary(operator: str, *, kind: str = "float", to: str = "", opset: int = 20, how: str = "") -> onnx.ModelProto:
    return made(f"({kind}[1,8] x) => ({to or kind}[1,8] y) {{ y = {operator}{how}(x) }}", opset)


#: By rule: a graph that breaks it, the same graph cured, and the devices to build for.
EXAMPLES: dict[str, Example] = {
    "foreign to rtx": Example(
        unary("com.microsoft.QuickGelu"),
        made("(float[1,8] x) => (float[1,8] y) <float a = {1.702}> { b = Mul(x, a) c = Sigmoid(b) y = Mul(x, c) }"),
    ),
    "newer than 25": Example(
        made("(float[1,8] x) => (float[1,8] y) <int64 a = {1}> { y = CumProd(x, a) }", 26),
        made("(float[1,8] x) => (float[1,8] y) <int64 a = {1}> { b = Log(x) c = CumSum(b, a) y = Exp(c) }"),
    ),
    "length known late": Example(
        made("(float[1,8] x) => (int64[2,n] y) { y = NonZero(x) }"),
        made("(float[1,8] x) => (float[1,4] y, int64[1,4] i) <int64[1] k = {4}> { y, i = TopK(x, k) }"),
    ),
    "shape known late": Example(
        made("(float[1,8] x, int64[1] k) => (float[1,m] y, int64[1,m] i) { y, i = TopK(x, k) }"),
        made("(float[1,8] x) => (float[1,8] y, int64[1,8] i) { k = Shape <start = 1> (x) y, i = TopK(x, k) }"),
    ),
    "integer products": Example(
        made("(int8[4,8] a, int8[8,4] b) => (int32[4,4] y) { y = MatMulInteger(a, b) }"),
        made(
            """(float[4,8] x, float[8,4] b) => (float[4,4] y) <float s = {0.1}, int8 z = {0}>
            { q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z) y = MatMul(a, b) }"""
        ),
    ),
    "bits": Example(
        made("(int64[8] a, int64[8] b) => (int64[8] y) { y = BitwiseAnd(a, b) }"),
        made("(bool[8] a, bool[8] b) => (bool[8] y) { y = And(a, b) }"),
    ),
    "absent": Example(
        made("(float[4,4] x) => (float y) { y = Det(x) }"),
        made("(float[4,4] x) => (float y) { y = ReduceSum <keepdims = 0> (x) }"),
    ),
    "plugins": Example(
        made(
            """(float[1,3,8,8] x, float[2,4] r, int64[2] b) => (float[2,3,2,2] y)
            { y = RoiAlign <output_height = 2, output_width = 2> (x, r, b) }"""
        ),
        made("(float[1,3,8,8] x, float[1,2,2,2] g) => (float[1,3,2,2] y) { y = GridSample(x, g) }"),
    ),
    "large K": Example(topk(3841), topk(3840)),
    "argmax of a vector": Example(
        made("(float[8] x) => (int64 y) { y = ArgMax <axis = 0, keepdims = 0> (x) }"),
        made(
            """(float[8] x) => (int64 y) <int64[1] a = {0}>
            { b = Unsqueeze(x, a) c = ArgMax <axis = 1, keepdims = 0> (b) y = Squeeze(c, a) }"""
        ),
    ),
    "fp32 attention": Example(attention("float"), attention()),
    "odd heads": Example(attention(width=264), attention(width=256)),
    "query that is its key": Example(attention(given="q, q, v"), attention()),
    "attention's scores": Example(
        attention(out=", float16[1,4,16,16] s", y='y, "", "", s'),
        attention(),
    ),
    "attention's past": Example(
        attention(more=", float16[1,4,16,64] pk, float16[1,4,16,64] pv", given='q, k, v, "", pk, pv'),
        attention(more=", int64[1] length", given='q, k, v, "", "", "", length'),
    ),
    "attention's options": Example(attention(how=" <softcap = 5.0> "), attention(how=" <softcap = 0.0> ")),
    "attention's mask": Example(
        attention(more=", float[16,16] m", given="q, k, v, m"),
        attention(more=", bool[16,16] m", given="q, k, v, m"),
    ),
    "cache form": Example(cache("1,32,64", "1,1,64"), cache()),
    "scattered sums": Example(scatter("add"), scatter("none")),
    "scattered blocks": Example(
        scatter("add", "ScatterND", "4,2", "4"),
        scatter("none", "ScatterND", "4,2", "4"),
    ),
    "loop without condition": Example(made(LOOP.format(cond='""')), made(LOOP.format(cond="yes"))),
    "further results": Example(
        made("(float[1,8,16] x, float[16] s) => (float[1,8,16] y, float[1,8,1] m) { y, m = LayerNormalization(x, s) }"),
        made("(float[1,8,16] x, float[16] s) => (float[1,8,16] y) { y = LayerNormalization(x, s) }"),
    ),
    "zero point": Example(made(ZERO_POINT.format(zero=3)), made(ZERO_POINT.format(zero=0))),
    "smoothed resize": Example(
        made("""(float[1,3,8,8] x) => (float[1,3,4,4] y) <int64[4] s = {1, 3, 4, 4}>
        { y = Resize <mode = "linear", antialias = 1> (x, "", "", s) }"""),
        made("""(float[1,3,8,8] x) => (float[1,3,4,4] y) <int64[4] s = {1, 3, 4, 4}>
        { y = Resize <mode = "linear"> (x, "", "", s) }"""),
    ),
    "fp32 products on Turing": Example(product("float"), product("float16"), (75,)),
    "bfloat16 on Turing": Example(unary("Relu", kind="bfloat16"), unary("Relu", kind="float16"), (75, 89)),
    "fp8 before Ada": Example(
        made(FP8.format(kind=TensorProto.FLOAT8E4M3FN), 21), made(FP8.format(kind=TensorProto.INT8), 21), (86, 89)
    ),
}

#: Rules about TensorRT alone: a graph that breaks the rule, a version that it holds for, one that it does not hold for.
DOCUMENTED: dict[str, tuple[onnx.ModelProto, tuple[int, ...], tuple[int, ...] | None]] = {
    "foreign": (unary("com.microsoft.Gelu"), (11, 4, 0), None),
    "newer than 20": (unary("Swish", opset=24), (10, 14, 9), (10, 15, 0)),
    "newer than 24": (EXAMPLES["newer than 25"].bad, (10, 16, 1), (11, 0, 0)),
    "newer than 25": (EXAMPLES["newer than 25"].bad, (11, 4, 0), None),
    "swish": (unary("Swish", opset=24), (10, 16, 1), (11, 0, 0)),
    "attention over a filled cache": (EXAMPLES["attention's past"].cured, (10, 15, 1), (10, 16, 0)),
    "attention of three axes": (
        made(
            """(float16[1,4,64] q, float16[1,4,64] k, float16[1,4,64] v) => (float16[1,4,64] y)
            { y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v) }""",
            24,
        ),
        (10, 15, 1),
        (10, 16, 0),
    ),
    "integer sums": (made("(int64[8] x) => (int64[8] y) <int64 a = {0}> { y = CumSum(x, a) }"), (10, 3, 0), (11, 0, 0)),
}


@pytest.fixture(scope="module")
def trt() -> ModuleType:
    module: ModuleType = pytest.importorskip("tensorrt_rtx")
    return module


def built(trt: Any, model: onnx.ModelProto, sms: tuple[int, ...]) -> bool:
    """Whether the parser takes the model and the builder makes an engine of it."""
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    if not trt.OnnxParser(network, logger).parse(model.SerializeToString()):
        return False
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(sms)
    for i, sm in enumerate(sms):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), i)
    return builder.build_serialized_network(network, config) is not None


def rule(name: str) -> LintRule:
    return next(r for r in RULES if r.name == name)


def said(model: onnx.ModelProto, target: LintTarget) -> list[str]:
    return [finding.what for finding in lint(model, target)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_broken_rule_is_named_with_its_cure_and_the_cured_graph_passes(name: str) -> None:
    bad, cured, sms = EXAMPLES[name]
    target = LintTarget("rtx", (1, 7, 1), sms)
    assert {(f.what, f.cure) for f in lint(bad, target)} == {(rule(name).what, rule(name).cure)}
    assert lint(cured, target) == ()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_builder_refuses_what_is_named_and_takes_the_cured_graph(name: str, trt: ModuleType) -> None:
    bad, cured, sms = EXAMPLES[name]
    if name != "query that is its key":
        assert not built(trt, bad, sms)
    assert built(trt, cured, sms)


def test_a_query_that_is_its_key_ends_the_process_of_the_builder(trt: ModuleType) -> None:
    bad = EXAMPLES["query that is its key"].bad
    code = """
import sys, tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
builder = trt.Builder(logger)
network, config = builder.create_network(0), builder.create_builder_config()
assert trt.OnnxParser(network, logger).parse(sys.stdin.buffer.read())
config.set_compute_capability(trt.ComputeCapability.SM89, 0)
builder.build_serialized_network(network, config)
"""
    done = subprocess.run([sys.executable, "-c", code], input=bad.SerializeToString(), capture_output=True, check=False)
    assert done.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_limit_holds_for_its_versions_only(name: str) -> None:
    model, old, new = DOCUMENTED[name]
    assert rule(name).what in said(model, LintTarget("tensorrt", old))
    if new is not None:
        assert rule(name).what not in said(model, LintTarget("tensorrt", new))


@pytest.mark.parametrize(
    ("shape", "how"),
    [("1,4,1,64", ""), ("1,16,256", "<q_num_heads = 4, kv_num_heads = 4>")],
    ids=["one row", "three axes"],
)
def test_attention_in_float32_passes_where_there_is_a_way_to_build_it(shape: str, how: str, trt: ModuleType) -> None:
    values = ", ".join(f"float[{shape}] {name}" for name in "qkv")
    model = made(f"({values}) => (float[{shape}] y) {{ y = Attention {how} (q, k, v) }}", 24)
    assert lint(model, RTX) == ()
    assert built(trt, model, (86, 89))


@pytest.mark.parametrize(("given", "taken"), [("q, k, v", True), ("q, k, v, b", False)], ids=["plain", "with a bias"])
def test_the_attention_of_onnx_runtime_passes_as_far_as_it_is_read(given: str, taken: bool, trt: ModuleType) -> None:
    values = ", ".join(f"float[1,16,64] {name}" for name in "qkv")
    node = f"com.microsoft.MultiHeadAttention <num_heads = 4> ({given})"
    model = made(f"({values}, float[192] b) => (float[1,16,64] y) {{ y = {node} }}")
    assert (lint(model, RTX) == ()) is taken
    assert built(trt, model, (86, 89)) is taken
    assert rule("foreign").what in said(model, JETPACK6)


def test_heads_for_one_row_come_in_eights(trt: ModuleType) -> None:
    values = ", ".join(f"float16[1,4,1,12] {name}" for name in "qkv")
    model = made(f"({values}) => (float16[1,4,1,12] y) {{ y = Attention(q, k, v) }}", 24)
    assert said(model, RTX) == [rule("odd heads").what]
    assert not built(trt, model, (86, 89))


def test_every_rule_has_an_example() -> None:
    assert {r.name for r in RULES if any(reach.target == "rtx" for reach in r.reaches)} == set(EXAMPLES)
    assert {r.name for r in RULES if any(reach.target == "tensorrt" for reach in r.reaches)} <= {*EXAMPLES, *DOCUMENTED}


def test_the_operators_that_the_parser_does_not_know_are_those_that_are_named(trt: Any) -> None:
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    parser = trt.OnnxParser(trt.Builder(logger).create_network(0), logger)
    rules = [r for r in RULES if any(reach.covers("rtx", (1, 7, 1), (89,)) for reach in r.reaches)]
    operators = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    x = ir.Value(name="x")
    bare = {op: NodeFacts(ir.Node("", op, [x], outputs=[ir.Value(name="y")]), {x}) for op in operators}
    named = {op for op in operators if any(r.check(bare[op]) for r in rules)}
    unknown = {op for op in operators if not parser.supports_operator(op)}
    assert unknown <= named
    # The parser knows these by name, and then lacks the plugin or the kernel; a bare Loop has no condition.
    late = {"CausalConvWithState", "LinearAttention", "Loop", "NonMaxSuppression", "NonZero", "RoiAlign"}
    assert named - unknown <= late


def test_devices_of_tensorrt_for_rtx_are_those_that_the_library_has(trt: Any) -> None:
    assert {f"SM{sm}" for sm in RTX_SMS} == {
        name for name in trt.ComputeCapability.__members__ if name.startswith("SM")
    }


def test_a_jetson_is_sent_to_the_full_tensorrt() -> None:
    (finding,) = lint(unary("Relu"), LintTarget("rtx", (1, 7, 1), (87, 89)))
    assert "sm87" in finding.what
    assert "--target tensorrt" in finding.cure
    assert lint(unary("Relu"), JETPACK6) == ()


def test_an_unknown_device_is_not_held_to_what_some_devices_lack() -> None:
    assert lint(unary("Relu", kind="bfloat16"), LintTarget("tensorrt", (10, 3, 0))) == ()


def test_an_opset_above_the_documented_one_is_named_once_for_the_graph() -> None:
    (finding,) = lint(unary("Relu", opset=23), JETPACK6)
    assert (finding.node, finding.op) == ("", "")
    assert "opset 23" in finding.what and "10.3.0" in finding.what
    assert lint(unary("Relu", opset=20), JETPACK6) == ()
    assert lint(unary("Relu", opset=24), LintTarget("tensorrt", (10, 15, 0))) == ()


def test_a_symbolic_input_is_named_unless_a_profile_fixes_it(trt: ModuleType) -> None:
    model = made("(float[rows,8] x) => (float[rows,8] y) { y = Relu(x) }")
    assert said(model, RTX) == ["input x has no fixed size along axis 0"]
    assert not built(trt, model, (89,))
    assert lint(model, RTX, free=("rows",)) == ()


def test_bodies_are_looked_into_with_the_types_of_what_they_read() -> None:
    model = made(
        """(float[4] s, float[3,4] x, float[8] v) => (float[4] t, int64[3] best) {
          outside = Neg(v)
          t, best = Scan <num_scan_inputs = 1, body = b (float[4] a, float[4] c) => (float[4] d, int64 e) {
            d = Add(a, c)
            inside = Abs(outside)
            e = ArgMax <axis = 0, keepdims = 0> (inside)
          }> (s, x)
        }"""
    )
    (finding,) = lint(model, RTX)
    assert (finding.graph, finding.node, finding.op) == ("one > t", "e", "ArgMax")


def test_findings_come_in_graph_order() -> None:
    model = made("(float[8] x) => (int64 y, int64[1,n] z) { a = Neg(x) z = NonZero(a) y = ArgMin <keepdims = 0> (x) }")
    assert [finding.op for finding in lint(model, RTX)] == ["NonZero", "ArgMin"]


def test_local_functions_are_looked_into() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 20, "own" : 1]> one (float[8] x) => (int64 y) { y = own.best(x) }
        <opset_import: ["" : 20], domain: "own"> best (a) => (b) { b = ArgMax <axis = 0, keepdims = 0> (a) }"""
    )
    assert [finding.op for finding in lint(model, RTX)] == ["ArgMax"]


def test_a_length_computed_from_constants_is_no_length_known_late() -> None:
    text = """(float[1,8] x) => (float[1,4] y, int64[1,4] i) {{
      a = Constant <value_ints = [2]> ()
      k = Add(a, {other})
      y, i = TopK(x, k)
    }}"""
    assert lint(made(text.format(other="a")), RTX) == ()
    late = text.replace("(float[1,8] x)", "(float[1,8] x, int64[1] n)").format(other="n")
    assert said(made(late), RTX) == [rule("shape known late").what]


def test_a_large_k_is_known_from_the_shape_that_the_graph_states() -> None:
    text = "(float[1,5000] x) => (float[1,4000] y, int64[1,4000] i) <int64[1] a = {4000}> { k = Identity(a) y, i = TopK(x, k) }"
    assert said(made(text), RTX) == [rule("large K").what]


def test_weights_are_not_read() -> None:
    model = product("float")
    weight = TensorProto(name="b", data_type=TensorProto.FLOAT, dims=(16, 8), data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="a file that is nowhere")
    del model.graph.input[1]
    model.graph.initializer.append(weight)
    assert said(model, LintTarget("rtx", (1, 7, 1), (75,))) == [rule("fp32 products on Turing").what]


def test_a_finding_is_one_line() -> None:
    finding = Finding("tower", "node_3", "NonZero", "has no fixed length", "use TopK")
    assert str(finding) == "tower: node_3 (NonZero) has no fixed length; use TopK"
    assert str(Finding("tower", "", "", "opset 99 is too new", "use 20")) == "tower: opset 99 is too new; use 20"
