"""Counts of graphs: by hand for single nodes, by edgeprune's own cost formulas for whole bundles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.models import open_checkpoint
from edgeprune.models.spec import ModelSpec, Width
from edgeprune.structure import cost
from edgeprune_export.bundle.counts import count_spec
from edgeprune_export.bundle.roofline_counts import count_model
from edgeprune_runtime import Bundle
from edgeprune_runtime.spec import GraphWork, tower_of
from tests.checkpoints import tiny_checkpoint
from tests.exports import exported

VARIANTS: tuple[dict[str, Any], ...] = (
    {"tower": "clip", "decoder": "llama", "tied": True},
    {"tower": "dinov2", "decoder": "mistral", "swiglu": True},
    {"family": "llava", "tower": "siglip", "decoder": "qwen2"},
    {"family": "qwen2_vl"},
    {"family": "qwen2_5_vl", "vision_layers": 4, "full_blocks": (0, 2)},
    {"family": "qwen3_vl", "vision_layers": 3, "deepstack": (0, 2), "patches": 7},
)
IDS = ["clip", "dinov2", "siglip", "rotary", "windows", "deepstack"]
CONTRIB = "com.microsoft"


def counted(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...]],
    weights: dict[str, np.ndarray] | None = None,
) -> GraphWork:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()]
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
    return count_model(helper.make_model(helper.make_graph(nodes, "g", values, results, tensors), opset_imports=opsets))


def test_a_product_with_weights_by_hand() -> None:
    found = counted(
        [helper.make_node("MatMul", ["a", "w"], ["y"])],
        {"a": (2, 3, 4)},
        {"y": (2, 3, 5)},
        {"w": np.zeros((4, 5), np.float32)},
    )
    assert found == GraphWork(
        macs={"linear": 2 * 3 * 4 * 5},
        weight_bytes={"fp32": 80},
        activation_bytes=2 * 2 * 3 * 5 * 4,
        peak_bytes=(24 + 30) * 4,
        nodes=1,
    )


def test_kinds_are_told_apart() -> None:
    float_weights = np.zeros((4, 5), np.float32)
    gemm = counted(
        [helper.make_node("Gemm", ["a", "w"], ["y"], transA=1)], {"a": (4, 7)}, {"y": (7, 5)}, {"w": float_weights}
    )
    assert gemm.macs == {"linear": 7 * 5 * 4}
    product = counted([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": (6, 4), "b": (4, 5)}, {"y": (6, 5)})
    assert (product.macs, product.weight_bytes) == ({"product": 120}, {})
    conv = counted(
        [helper.make_node("Conv", ["a", "w"], ["y"], strides=[2, 2])],
        {"a": (1, 3, 8, 8)}, {"y": (1, 10, 4, 4)}, {"w": np.zeros((10, 3, 2, 2), np.float32)},
    )  # fmt: skip
    assert conv.macs == {"conv": 10 * 16 * 3 * 4}


def test_int8_weights_count_as_one_byte_each() -> None:
    node = helper.make_node("DynamicQuantizeMatMul", ["a", "w", "s", ""], ["y"], domain=CONTRIB)
    found = counted(
        [node], {"a": (3, 4)}, {"y": (3, 5)}, {"w": np.zeros((4, 5), np.int8), "s": np.zeros(5, np.float32)}
    )
    assert found.macs == {"linear_int8": 60}
    assert found.weight_bytes == {"int8": 20, "fp32": 20}


def test_half_weights_count_as_two_bytes() -> None:
    found = counted(
        [helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["a", "v"], ["y"])],
        {"a": (3, 4)}, {"y": (3, 5)}, {"w": np.zeros((4, 5), np.float16)},
    )  # fmt: skip
    assert found.weight_bytes == {"fp16": 40}


def test_attention_in_the_graph_multiplies_each_row_with_each_key_twice() -> None:
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["y"], domain=CONTRIB, num_heads=2)
    found = counted([node], {"q": (1, 3, 8), "k": (1, 5, 8), "v": (1, 5, 8)}, {"y": (1, 3, 8)})
    assert found.macs == {"attention": 2 * 3 * 8 * 5}


def test_attention_over_the_cache_is_given_per_pair_and_moves_its_heads() -> None:
    names = ["q", "k", "v", "pk", "pv", "last", "total"]
    node = helper.make_node(
        "GroupQueryAttention", names, ["y", "nk", "nv"], domain=CONTRIB, num_heads=4, kv_num_heads=2
    )
    cache = (1, 2, 100, 8)
    found = counted(
        [node],
        {"q": (1, 3, 32), "k": (1, 3, 16), "v": (1, 3, 16), "pk": cache, "pv": cache, "last": (1,), "total": (1,)},
        {"y": (1, 3, 32), "nk": cache, "nv": cache},
    )
    assert (found.macs, found.pair_macs, found.cache_bytes) == ({}, 2 * 32, 2 * 2 * 8 * 4)
    assert found.activation_bytes == 2 * 3 * 32 * 4, "the cache is no activation"
    assert found.peak_bytes == (3 * 32 + 2 * 3 * 16 + 2 + 3 * 32) * 4


def test_views_cost_nothing_and_tables_are_read_by_row() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["rows"]),
        helper.make_node("Identity", ["rows"], ["same"]),
        helper.make_node("Neg", ["same"], ["y"]),
    ]
    values = [helper.make_tensor_value_info("i", TensorProto.INT64, (2,))]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 8))]
    table = numpy_helper.from_array(np.zeros((1000, 8), np.float32), "table")
    found = count_model(helper.make_model(helper.make_graph(nodes, "g", values, results, [table])))
    assert (found.nodes, found.weight_bytes, found.activation_bytes) == (2, {}, 2 * (64 + 64))


def test_a_scan_runs_its_body_once_per_row() -> None:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["s", "x"], ["m"]), helper.make_node("Identity", ["m"], ["o"])],
        "body",
        [
            helper.make_tensor_value_info("s", TensorProto.FLOAT, (4, 4)),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, 4)),
        ],
        [
            helper.make_tensor_value_info("m", TensorProto.FLOAT, (4, 4)),
            helper.make_tensor_value_info("o", TensorProto.FLOAT, (4, 4)),
        ],
    )
    node = helper.make_node("Scan", ["start", "rows"], ["end", "all"], body=body, num_scan_inputs=1)
    found = counted([node], {"start": (4, 4), "rows": (7, 4, 4)}, {"end": (4, 4), "all": (7, 4, 4)})
    assert (found.macs, found.nodes) == ({"product": 7 * 64}, 7)


def widths(spec: Any, blocks: int) -> tuple[Width, ...]:
    return (Width(getattr(spec, "kv_heads", spec.heads), spec.mlp),) * blocks


def made(variant: dict[str, Any], precision: str = "fp32") -> tuple[ModelSpec, Path]:
    """What a checkpoint is and its bundle, on grids of few tokens where pictures have any size."""
    plan = {"method": "divprune"} if variant.get("tower") in ("siglip", None) else {}
    fewer = {} if "tower" in variant else {"tokens": 12}
    folder = exported(variant, budgets=["1.0"], parity=False, precision=precision, plan=plan, **fewer)
    return open_checkpoint(tiny_checkpoint(**variant), **fewer).spec, folder


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("variant", VARIANTS, ids=IDS)
def test_counts_of_a_bundle_are_those_of_the_cost_formulas(variant: dict[str, Any], precision: str) -> None:
    """Only the last block differs: behind its attention the prefill graph goes on with the last row alone."""
    spec, folder = made(variant, precision)
    found, views = Bundle.open(folder).manifest.work, spec.picture.views or (None,)
    assert (len(views) > 2) == bool(spec.picture.views)
    for view in views:
        tower = found[tower_of("tower", view)].macs
        vision = replace(spec.vision, view=view)
        # Products are readings of the selector.
        macs = sum(count for kind, count in tower.items() if kind != "product")
        assert macs == cost.macs_of_tower(vision).of(widths(vision, spec.feature_layer + 1))
    language = widths(spec.language, spec.language.layers)
    head = sum(found["head"].macs.values())
    one = sum(found["decode"].macs.values()) + found["decode"].pair_macs + head
    assert one == cost.macs_of_language(spec.language, 1).of(language)
    chunk = Bundle.open(folder).manifest.language.chunk
    whole = sum(found["prefill"].macs.values()) + found["prefill"].pair_macs * chunk * (chunk + 1) // 2 + head
    hidden, heads = spec.language.hidden, spec.language.heads * spec.language.head_dim
    skipped = (chunk - 1) * (hidden * heads + 3 * hidden * spec.language.mlp)
    assert whole == cost.macs_of_language(spec.language, chunk).of(language) - skipped


@pytest.mark.parametrize("variant", VARIANTS, ids=IDS)
def test_counts_before_the_export_come_close_to_those_of_the_files(variant: dict[str, Any]) -> None:
    spec, folder = made(variant)
    manifest = Bundle.open(folder).manifest
    selection = max(manifest.selections, key=lambda one: one.keep)
    files = {**manifest.work, "tower": manifest.work[tower_of("tower", spec.vision.view)]}
    guessed = count_spec(spec, "fp32", manifest.language.chunk, selection.keep)
    for name in ("tower", "decode", "head"):
        assert sum(guessed[name].macs.values()) == pytest.approx(sum(files[name].macs.values()), rel=0.02)
        assert guessed[name].weight_bytes["fp32"] == pytest.approx(files[name].weight_bytes["fp32"], rel=0.05)
    assert sum(guessed["select"].macs.values()) == sum(files[selection.graph].macs.values())
    assert guessed["decode"].pair_macs == files["decode"].pair_macs
    assert guessed["prefill"].cache_bytes == files["prefill"].cache_bytes


def test_the_manifest_holds_the_counts_of_every_graph_which_need_no_weights(tiny_bundle: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    assert manifest.work == {
        graph.name: count_model(onnx.load(tiny_bundle / graph.file, load_external_data=False))
        for graph in manifest.graphs
    }
    assert all(work.nodes and work.macs for work in manifest.work.values())
