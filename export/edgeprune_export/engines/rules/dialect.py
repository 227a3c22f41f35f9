"""The dialects: opset 20 for every TensorRT from 10.3 on, fused operators of opset 24 where they exist, and ONNX Runtime's own on a GPU."""

from __future__ import annotations

from edgeprune_export.engines.lower import Dialect
from edgeprune_export.engines.rules import attention, int4, layers
from edgeprune_export.onnx.graph import CONTRIB
from edgeprune_runtime.registry import Registry

_SHARED = {
    ("", "Gemm"): layers.linear,
    ("", "Conv"): layers.convolution,
    ("", "MatMul"): layers.product,
    (CONTRIB, "DynamicQuantizeMatMul"): layers.int8_linear,
    (CONTRIB, "QuickGelu"): layers.quick_gelu,
    ("", "CumSum"): layers.running_sum,
    ("", "Cast"): layers.cast,
}
PORTABLE = Dialect(
    "portable",
    opset=20,
    ir_version=9,
    rules={
        **_SHARED,
        (CONTRIB, "MatMulNBits"): int4.expanded,
        ("", "Gelu"): layers.gelu,
        ("", "RMSNormalization"): layers.rms_norm,
        ("", "RotaryEmbedding"): layers.rotary,
        (CONTRIB, "MultiHeadAttention"): attention.plain_decomposed,
        (CONTRIB, "GroupQueryAttention"): attention.grouped_decomposed,
    },
)
MODERN = Dialect(
    "modern",
    opset=24,
    ir_version=11,
    rules={
        **_SHARED,
        (CONTRIB, "MatMulNBits"): int4.by_block,
        (CONTRIB, "MultiHeadAttention"): attention.plain_fused,
        (CONTRIB, "GroupQueryAttention"): attention.grouped_fused,
    },
)
CONTRIBUTED = Dialect(
    "contributed",
    opset=20,
    ir_version=9,
    rules={
        **PORTABLE.rules,
        (CONTRIB, "MatMulNBits"): int4.contributed,
        (CONTRIB, "MultiHeadAttention"): attention.plain_contributed,
        (CONTRIB, "GroupQueryAttention"): attention.grouped_contributed,
    },
    domains=(CONTRIB,),
)
DIALECTS: Registry[Dialect] = Registry("dialect", kind=Dialect)
for _dialect in (PORTABLE, MODERN, CONTRIBUTED):
    DIALECTS.add(_dialect.name, _dialect)
