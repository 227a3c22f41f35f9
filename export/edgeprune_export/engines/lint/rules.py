"""What TensorRT and TensorRT for RTX cannot take, as data: one entry per rule, with the cure.

Entries for TensorRT for RTX were tried with 1.7.1 (parse and build of one node, tests/export/test_engine_lint.py tries them again); entries for
TensorRT come from the operator tables of its parser for 10.1 and 10.15, and where these say nothing about a version, the lower one
counts. So a graph that passes will mostly build; compilers also refuse combinations that no rule about one node can name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgeprune_export.engines.lint import checks as check

VersionNumber = tuple[int, ...]


@dataclass(frozen=True)
class Reach:
    """Targets that a rule is about: versions since <= version < before, on any device or on those of some compute capabilities."""

    target: str
    since: VersionNumber = ()
    before: VersionNumber = ()
    sms: frozenset[int] = frozenset()

    def covers(self, target: str, version: VersionNumber, sms: Collection[int]) -> bool:
        in_time = self.since <= version and (not self.before or version < self.before)
        return target == self.target and in_time and (not self.sms or not self.sms.isdisjoint(sms))


@dataclass(frozen=True)
class LintRule:
    """A trait that a node must not have."""

    name: str
    reaches: tuple[Reach, ...]
    check: check.Check
    what: str
    cure: str


RTX = Reach("rtx")
TRT = Reach("tensorrt")
BOTH = (RTX, TRT)
#: Compute capabilities that TensorRT for RTX builds for.
RTX_SMS = (75, 80, 86, 89, 120, 121)
#: The newest opset that a parser's operator table speaks of. TensorRT for RTX takes a graph of any opset, but not every operator of it.
TABLES = (
    (Reach("tensorrt", before=(10, 15)), 20),
    (Reach("tensorrt", (10, 15), (11,)), 24),
    (Reach("tensorrt", (11,)), 25),
)
_TURING = frozenset({75})
_BEFORE_FP8 = frozenset({75, 80, 86, 87})
_10_15 = Reach("tensorrt", (10, 15), (10, 16))

_PLAIN = "use operators of ONNX itself: Attention or MatMul and Softmax, x * Sigmoid(a x), QuantizeLinear and DequantizeLinear"
_STATIC = "make it a constant: a token budget fixes every count at export"
_OLDER = "use the portable dialect (opset 20), or a newer TensorRT"
_QUANTISED = "use QuantizeLinear and DequantizeLinear around MatMul or Conv"

RULES = (
    LintRule("foreign", (TRT,), check.foreign, "is no operator of ONNX", _PLAIN),
    LintRule("foreign to rtx", (RTX,), check.foreign_to_rtx, "is no operator of ONNX", _PLAIN),
    *(
        LintRule(
            f"newer than {opset}",
            (reach,),
            check.newer_than(opset),
            f"came to ONNX after opset {opset}, the newest that this parser's table has",
            _OLDER,
        )
        for reach, opset in (*TABLES, (RTX, 25))
    ),
    LintRule(
        "length known late",
        BOTH,
        check.named("NonZero", "Compress", "Unique", "NonMaxSuppression"),
        "has as many results as the data decide, and engines here have fixed shapes",
        "choose a fixed number with TopK, or mask with Where",
    ),
    LintRule(
        "shape known late",
        BOTH,
        check.shaped_by_the_run,
        "takes its K, length or shape from a value that is known only when it runs",
        _STATIC,
    ),
    LintRule(
        "integer products",
        BOTH,
        check.named("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"),
        "is not supported",
        _QUANTISED,
    ),
    LintRule(
        "bits",
        BOTH,
        check.named("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
        "is not supported",
        "use And, Or, Xor, Not on booleans, Div and Mod on integers",
    ),
    LintRule(
        "absent",
        BOTH,
        check.named(
            *("AffineGrid", "Bernoulli", "CenterCropPad", "Col2Im", "ConcatFromSequence", "DFT", "Det", "ImageDecoder"),
            *("MaxRoiPool", "MaxUnpool", "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "Optional"),
            *("OptionalGetElement", "OptionalHasElement", "RegexFullMatch", "SequenceAt", "SequenceConstruct"),
            *("SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap"),
            *("SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit"),
            "TfIdfVectorizer",
        ),
        "is not supported",
        "compute it outside the graph, or with other operators",
    ),
    LintRule(
        "plugins",
        (RTX,),
        check.named("DeformConv", "RoiAlign"),
        "is a plugin, and TensorRT for RTX comes without plugins",
        "use GridSample, or build with --target tensorrt",
    ),
    LintRule(
        "swish", (Reach("tensorrt", (10, 15), (11,)),), check.named("Swish"), "is not supported", "use x * Sigmoid(x)"
    ),
    LintRule(
        "large K",
        BOTH,
        check.large_k,
        f"has a K above {check.LARGEST_K}",
        "lower the budget, or choose per tile and then among those",
    ),
    LintRule(
        "argmax of a vector",
        BOTH,
        check.extreme_of_one_axis,
        "needs at least two axes and has one",
        "Unsqueeze before it, Squeeze after it",
    ),
    LintRule(
        "fp32 attention",
        (RTX,),
        check.attention_in_full_precision,
        "has kernels for float16 and bfloat16 only, but for a query of one row",
        "build with --compute fp16 or bf16, or use the portable dialect",
    ),
    LintRule(
        "odd heads",
        (RTX,),
        check.attention_of_odd_heads,
        f"has kernels for heads up to {check.WIDEST_HEAD} wide, and for a query of one row, a multiple of 8 wide",
        "use the portable dialect",
    ),
    LintRule(
        "query that is its key",
        (RTX,),
        check.attention_of_its_own_keys,
        "has one value as query and key, on which the builder crashes",
        "project them apart, or use the portable dialect",
    ),
    LintRule(
        "attention's scores",
        BOTH,
        check.several_results("Attention"),
        "has one output here: neither scores nor present keys and values",
        "compute the rows that a method needs with MatMul and Softmax; keep the cache with TensorScatter",
    ),
    LintRule(
        "attention's past",
        BOTH,
        check.has("Attention", 4, 5),
        "takes no past keys and values",
        "write them into the cache with TensorScatter and give their number as nonpad_kv_seqlen",
    ),
    LintRule(
        "attention's options",
        BOTH,
        check.sets("Attention", softcap=0.0, softmax_precision=None),
        "takes neither softcap nor softmax_precision",
        "use the portable dialect",
    ),
    LintRule(
        "attention's mask",
        BOTH,
        check.attention_mask_of_another_type,
        "takes a mask of booleans or of the query's type",
        "Cast the mask",
    ),
    LintRule(
        "attention over a filled cache",
        (_10_15,),
        check.has("Attention", 6),
        "does not take nonpad_kv_seqlen",
        "use the portable dialect, or a newer TensorRT",
    ),
    LintRule(
        "attention of three axes",
        (_10_15,),
        check.attention_without_head_axis,
        "wants query, key and value with an axis of heads",
        "Reshape and Transpose to [batch, heads, rows, width]",
    ),
    LintRule(
        "cache form",
        BOTH,
        check.cache_of_another_form,
        "writes only into a floating-point cache of four axes, along axis -2, not round",
        "lay the cache out as [batch, heads, rows, width]",
    ),
    LintRule(
        "scattered sums",
        (RTX,),
        check.sets("ScatterElements", reduction="none"),
        "takes no reduction",
        "multiply with a one-hot matrix",
    ),
    LintRule(
        "scattered blocks",
        BOTH,
        check.sets("ScatterND", reduction="none"),
        "takes no reduction",
        "multiply with a one-hot matrix",
    ),
    LintRule(
        "loop without condition",
        BOTH,
        check.loop_without_condition,
        "needs a condition",
        "give it a constant True",
    ),
    LintRule(
        "integer sums",
        (Reach("tensorrt", before=(11,)),),
        check.integer_sums,
        "adds up floating point only",
        "Cast to float32 and back: exact up to 16777216",
    ),
    LintRule(
        "further results",
        BOTH,
        check.several_results("LayerNormalization", "MaxPool"),
        "has one output here",
        "compute the others apart, or leave them out",
    ),
    LintRule("zero point", BOTH, check.shifted_zero, "takes the zero point 0 only", "quantise symmetrically, to int8"),
    LintRule(
        "smoothed resize",
        BOTH,
        check.sets("Resize", antialias=0),
        "does not smooth",
        "resize pictures before the graph",
    ),
    LintRule(
        "fp32 products on Turing",
        (Reach("rtx", sms=_TURING),),
        check.full_precision_product,
        "has no float32 kernel for sm75",
        "build with --compute fp16; where it is a method's own arithmetic, export without it (--no-controls for downsample), or leave "
        "sm75 out",
    ),
    LintRule(
        "bfloat16 on Turing",
        (Reach("rtx", sms=_TURING), Reach("tensorrt", sms=_TURING)),
        check.touches_bfloat16,
        "uses bfloat16, which sm75 lacks",
        "build with --compute fp16",
    ),
    LintRule(
        "fp8 before Ada",
        (Reach("rtx", sms=_BEFORE_FP8), Reach("tensorrt", sms=_BEFORE_FP8)),
        check.touches_fp8,
        "uses 8-bit floating point, which GPUs before sm89 lack",
        "quantise to int8",
    ),
)
