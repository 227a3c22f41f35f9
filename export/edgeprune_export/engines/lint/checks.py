"""Questions about one node that the rules (`rules.py`) ask: true where the node certainly has the trait."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnx
import onnx_ir as ir

from edgeprune_export.engines.lint.facts import NodeFacts
from edgeprune_export.onnx.graph import CONTRIB
from edgeprune_export.onnx.shapes import element

Check = Callable[[NodeFacts], bool]

LARGEST_K = 3840
WIDEST_HEAD = 256
_FP8 = (ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E4M3FNUZ, ir.DataType.FLOAT8E5M2, ir.DataType.FLOAT8E5M2FNUZ)
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FLOATS = (ir.DataType.FLOAT, *_HALVES)
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
#: Inputs that decide the shape of the output, by operator; before some opset they were attributes, which never vary.
_SHAPING = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 4),
    "Tile": (1,),
    "TopK": (1,),
}
_ORT_ATTENTION = f"{CONTRIB}:MultiHeadAttention"
#: Inputs of ONNX Runtime's attention that TensorRT for RTX reads: query, key, value, and what is added to the scores.
_MULTI_HEAD = frozenset({0, 1, 2, 5})


def named(*operators: str) -> Check:
    """The operator is one of these."""
    names = frozenset(operators)
    return lambda facts: facts.operator in names


def foreign(facts: NodeFacts) -> bool:
    """No operator of ONNX."""
    return not _first_opset(facts.operator)


def foreign_to_rtx(facts: NodeFacts) -> bool:
    """No operator of ONNX, nor one of the few of ONNX Runtime that TensorRT for RTX reads as ONNX Runtime does."""
    if facts.operator == _ORT_ATTENTION:
        given = {i for i, value in enumerate(facts.node.inputs) if value is not None}
        return not {0, 1, 2} <= given <= _MULTI_HEAD or len(facts.results) > 1
    return foreign(facts) and facts.operator != f"{CONTRIB}:Gelu"


def newer_than(opset: int) -> Check:
    """ONNX has the operator only since a later opset."""
    return lambda facts: _first_opset(facts.operator) > opset


def _first_opset(operator: str) -> int:
    """The opset that brought an operator; 0 where ONNX has none of the name."""
    return _births().get(operator, 0)


@cache
def _births() -> dict[str, int]:
    first: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            first[schema.name] = min(schema.since_version, first.get(schema.name, schema.since_version))
    return first


def shaped_by_the_run(facts: NodeFacts) -> bool:
    """The shape of the output depends on the elements of an input of the graph."""
    deciding = [facts.input(i) for i in _SHAPING.get(facts.operator, ())]
    return any(value is not None and value not in facts.fixed for value in deciding)


def large_k(facts: NodeFacts) -> bool:
    """K as its constant or the shape of the output tells it; before opset 10 it is an attribute, which shows in the shape."""
    if facts.operator != "TopK":
        return False
    constant = facts.constant(1)
    shape = facts.made_shape()
    axis = facts.attribute("axis", -1)
    k = int(constant.item()) if constant is not None else shape[axis] if shape else None
    return k is not None and k > LARGEST_K


def has(operator: str, *positions: int) -> Check:
    """The operator is given one of these inputs."""
    return lambda facts: facts.operator == operator and any(facts.input(i) is not None for i in positions)


def sets(operator: str, **harmless: object) -> Check:
    """The operator sets one of these attributes to something else than what changes nothing."""
    return lambda facts: (
        facts.operator == operator and any(facts.attribute(name, value) != value for name, value in harmless.items())
    )


def several_results(*operators: str) -> Check:
    """More outputs than the first are asked for."""
    return lambda facts: facts.operator in operators and len(facts.results) > 1


def attention_in_full_precision(facts: NodeFacts) -> bool:
    """Other than half precision where that has no kernel: a query of one row has one, and a query of three axes needs none."""
    rows, width = _query_by_head(facts)
    single = rows == 1 and width is not None and width % 8 == 0
    return width is not None and not single and facts.element(0) not in (ir.DataType.UNDEFINED, *_HALVES)


def attention_of_odd_heads(facts: NodeFacts) -> bool:
    """Wider than any kernel's, or for a query of one row, no multiple of eight."""
    rows, width = _query_by_head(facts)
    return width is not None and (width > WIDEST_HEAD or (rows == 1 and width % 8 != 0))


def _query_by_head(facts: NodeFacts) -> tuple[int | None, int | None]:
    """Rows and width of an Attention's query of four axes."""
    shape = facts.shape(0) if facts.operator == "Attention" else None
    return (shape[2], shape[3]) if shape is not None and len(shape) == 4 else (None, None)


def attention_without_head_axis(facts: NodeFacts) -> bool:
    shape = facts.shape(0) if facts.operator == "Attention" else None
    return shape is not None and len(shape) != 4


def attention_of_its_own_keys(facts: NodeFacts) -> bool:
    """Query and key are one value."""
    return facts.operator in ("Attention", _ORT_ATTENTION) and facts.input(0) is facts.input(1)


def attention_mask_of_another_type(facts: NodeFacts) -> bool:
    if facts.operator != "Attention":
        return False
    mask, query = facts.element(3), facts.element(0)
    return ir.DataType.UNDEFINED not in (mask, query) and mask not in (ir.DataType.BOOL, query)


def cache_of_another_form(facts: NodeFacts) -> bool:
    """TensorScatter other than linear, along the last axis but one, into four axes of floating point."""
    if facts.operator != "TensorScatter":
        return False
    shape, kind = facts.shape(0), facts.element(0)
    axis = facts.attribute("axis", -2)
    return (
        facts.attribute("mode", "linear") != "linear"
        or kind not in (ir.DataType.UNDEFINED, *_FLOATS)
        or (shape is not None and (len(shape) != 4 or axis not in (-2, 2)))
    )


def loop_without_condition(facts: NodeFacts) -> bool:
    return facts.operator == "Loop" and facts.input(1) is None


def extreme_of_one_axis(facts: NodeFacts) -> bool:
    """ArgMax or ArgMin of a value of one axis."""
    shape = facts.shape(0) if facts.operator in ("ArgMax", "ArgMin") else None
    return shape is not None and len(shape) == 1


def integer_sums(facts: NodeFacts) -> bool:
    return facts.operator == "CumSum" and facts.element(0) in _INTEGERS


def shifted_zero(facts: NodeFacts) -> bool:
    """Quantisation whose zero point is not 0."""
    if facts.operator not in ("QuantizeLinear", "DequantizeLinear"):
        return False
    zero = facts.constant(2)
    return zero is not None and bool(zero.astype(float).any())


def full_precision_product(facts: NodeFacts) -> bool:
    return facts.operator in ("MatMul", "Gemm", "Einsum") and facts.element(0) == ir.DataType.FLOAT


def touches_bfloat16(facts: NodeFacts) -> bool:
    return ir.DataType.BFLOAT16 in _elements(facts)


def touches_fp8(facts: NodeFacts) -> bool:
    return not _elements(facts).isdisjoint(_FP8)


def _elements(facts: NodeFacts) -> set[ir.DataType]:
    return {element(value) for value in facts.values}
