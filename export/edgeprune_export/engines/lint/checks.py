"""Questions about one node that the rules of `lint_rules` ask: true where the node certainly has the trait."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnx
from onnx import TensorProto

from edgeprune_export.engines.lint.facts import NodeFacts
from edgeprune_export.onnx.graph import CONTRIB
from edgeprune_export.onnx_pruning.program import attribute

Check = Callable[[NodeFacts], bool]

LARGEST_K = 3840
WIDEST_HEAD = 256
_FP8 = (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ)
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOATS = (TensorProto.FLOAT, *_HALVES)
_INTEGERS = (TensorProto.INT64, TensorProto.INT32)
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
    return lambda seen: seen.operator in names


def foreign(seen: NodeFacts) -> bool:
    """No operator of ONNX."""
    return not _first_opset(seen.operator)


def foreign_to_rtx(seen: NodeFacts) -> bool:
    """No operator of ONNX, nor one of the few of ONNX Runtime that TensorRT for RTX reads as ONNX Runtime does."""
    if seen.operator == _ORT_ATTENTION:
        given = {i for i, name in enumerate(seen.node.input) if name}
        return not {0, 1, 2} <= given <= _MULTI_HEAD or len(seen.results) > 1
    return foreign(seen) and seen.operator != f"{CONTRIB}:Gelu"


def newer_than(opset: int) -> Check:
    """ONNX has the operator only since a later opset."""
    return lambda seen: _first_opset(seen.operator) > opset


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


def shaped_by_the_run(seen: NodeFacts) -> bool:
    """The shape of the output depends on the elements of an input of the graph."""
    deciding = [seen.name(i) for i in _SHAPING.get(seen.operator, ()) if seen.name(i)]
    return not seen.scope.fixed.issuperset(deciding)


def large_k(seen: NodeFacts) -> bool:
    """K as its constant or the shape of the output tells it; before opset 10 it is an attribute, which shows in the shape."""
    if seen.operator != "TopK":
        return False
    constant = seen.constant(seen.name(1))
    shape = seen.shape(seen.node.output[0])
    axis = attribute(seen.node, "axis", -1)
    k = int(constant.item()) if constant is not None else shape[axis] if shape else None
    return k is not None and k > LARGEST_K


def has(operator: str, *positions: int) -> Check:
    """The operator is given one of these inputs."""
    return lambda seen: seen.operator == operator and any(seen.name(i) for i in positions)


def sets(operator: str, **harmless: object) -> Check:
    """The operator sets one of these attributes to something else than what changes nothing."""
    return lambda seen: (
        seen.operator == operator
        and any(attribute(seen.node, name, value) != value for name, value in harmless.items())
    )


def several_results(*operators: str) -> Check:
    """More outputs than the first are asked for."""
    return lambda seen: seen.operator in operators and len(seen.results) > 1


def attention_in_full_precision(seen: NodeFacts) -> bool:
    """Other than half precision where that has no kernel: a query of one row has one, and a query of three axes needs none."""
    rows, width = _query_by_head(seen)
    single = rows == 1 and width is not None and width % 8 == 0
    return width is not None and not single and seen.element(seen.name(0)) not in (TensorProto.UNDEFINED, *_HALVES)


def attention_of_odd_heads(seen: NodeFacts) -> bool:
    """Wider than any kernel's, or for a query of one row, no multiple of eight."""
    rows, width = _query_by_head(seen)
    return width is not None and (width > WIDEST_HEAD or (rows == 1 and width % 8 != 0))


def _query_by_head(seen: NodeFacts) -> tuple[int | None, int | None]:
    """Rows and width of an Attention's query of four axes."""
    shape = seen.shape(seen.name(0)) if seen.operator == "Attention" else None
    return (shape[2], shape[3]) if shape is not None and len(shape) == 4 else (None, None)


def attention_without_head_axis(seen: NodeFacts) -> bool:
    shape = seen.shape(seen.name(0)) if seen.operator == "Attention" else None
    return shape is not None and len(shape) != 4


def attention_of_its_own_keys(seen: NodeFacts) -> bool:
    """Query and key are one value."""
    return seen.operator in ("Attention", _ORT_ATTENTION) and seen.name(0) == seen.name(1)


def attention_mask_of_another_type(seen: NodeFacts) -> bool:
    if seen.operator != "Attention":
        return False
    mask, query = seen.element(seen.name(3)), seen.element(seen.name(0))
    return TensorProto.UNDEFINED not in (mask, query) and mask not in (TensorProto.BOOL, query)


def cache_of_another_form(seen: NodeFacts) -> bool:
    """TensorScatter other than linear, along the last axis but one, into four axes of floating point."""
    if seen.operator != "TensorScatter":
        return False
    shape, kind = seen.shape(seen.name(0)), seen.element(seen.name(0))
    axis = attribute(seen.node, "axis", -2)
    return (
        attribute(seen.node, "mode", b"linear") != b"linear"
        or kind not in (TensorProto.UNDEFINED, *_FLOATS)
        or (shape is not None and (len(shape) != 4 or axis not in (-2, 2)))
    )


def loop_without_condition(seen: NodeFacts) -> bool:
    return seen.operator == "Loop" and not seen.name(1)


def extreme_of_one_axis(seen: NodeFacts) -> bool:
    """ArgMax or ArgMin of a value of one axis."""
    shape = seen.shape(seen.name(0)) if seen.operator in ("ArgMax", "ArgMin") else None
    return shape is not None and len(shape) == 1


def integer_sums(seen: NodeFacts) -> bool:
    return seen.operator == "CumSum" and seen.element(seen.name(0)) in _INTEGERS


def shifted_zero(seen: NodeFacts) -> bool:
    """Quantisation whose zero point is not 0."""
    if seen.operator not in ("QuantizeLinear", "DequantizeLinear"):
        return False
    zero = seen.constant(seen.name(2))
    return zero is not None and bool(zero.astype(float).any())


def full_precision_product(seen: NodeFacts) -> bool:
    return seen.operator in ("MatMul", "Gemm", "Einsum") and seen.element(seen.name(0)) == TensorProto.FLOAT


def touches_bfloat16(seen: NodeFacts) -> bool:
    return TensorProto.BFLOAT16 in _elements(seen)


def touches_fp8(seen: NodeFacts) -> bool:
    return not _elements(seen).isdisjoint(_FP8)


def _elements(seen: NodeFacts) -> set[int]:
    return {seen.element(name) for name in (*seen.node.input, *seen.node.output) if name}
