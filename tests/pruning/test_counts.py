"""Parameters, multiply-accumulates and bytes are those of a count by hand, of the model itself, and of exported files."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgeprune.models import open_checkpoint
from edgeprune.models.config.section import Section
from edgeprune.models.spec import DecoderSpec, ModelSpec, TowerSpec, Width
from edgeprune.models.towers.base import TowerKind
from edgeprune.models.towers.qwen_vit import QWEN2_5_VIT, QWEN3_VIT
from edgeprune.models.weights.shapes import needed_tensors
from edgeprune.structure import cost
from edgeprune.structure.plan import pruned_model
from edgeprune.structure.shrink import shrink
from edgeprune_export.bundle.progress import silent
from edgeprune_export.pruning.prices.terms import PricedRequest, Terms, price_of
from edgeprune_export.pruning.specs import specs_of
from edgeprune_runtime import Bundle
from tests.checkpoints import QWEN_VARIANTS, VARIANTS, tiny_checkpoint, variant_name
from tests.exports import exported
from tests.pruning.made import prunable_of, random_plan
from tests.references.structure_cost import Block, Language, Tower

SUBJECTS = (*VARIANTS, *QWEN_VARIANTS)
MODELS = pytest.mark.parametrize("number", range(len(SUBJECTS)), ids=[variant_name(variant) for variant in SUBJECTS])
BUNDLES: tuple[dict[str, Any], ...] = (
    {"tower": "clip", "decoder": "llama", "attention_bias": True, "tied": True},
    {"tower": "dinov2", "decoder": "mistral", "swiglu": True, "dtype": "float16"},
    {"family": "llava", "tower": "siglip", "decoder": "qwen2"},
    {"family": "qwen2_vl"},
    {"family": "qwen2_5_vl", "vision_layers": 4, "full_blocks": (0, 2)},
    {"family": "qwen3_vl", "vision_layers": 3, "deepstack": (0, 2), "patches": 7},
)


@functools.cache
def spec_of(number: int) -> ModelSpec:
    fewer = 12 if number >= len(VARIANTS) else None  # visual tokens of a picture, where it may have any number
    return open_checkpoint(tiny_checkpoint(**SUBJECTS[number]), tokens=fewer).spec


def random_widths(random: np.random.Generator, spec: TowerSpec | DecoderSpec) -> tuple[Width, ...]:
    most = spec.kv_heads if isinstance(spec, DecoderSpec) else spec.heads
    blocks = range(int(random.integers(1, 5)))
    return tuple(Width(int(random.integers(1, most + 1)), int(random.integers(1, spec.mlp + 1))) for _ in blocks)


def tower_by_hand(spec: TowerSpec, widths: tuple[Width, ...], views: tuple[tuple[int, int], ...] = ()) -> Tower:
    places = [(height // spec.patch_px) * (width // spec.patch_px) for height, width in views]
    return Tower(
        [Block(width.groups, width.mlp) for width in widths],
        spec.hidden,
        spec.head_dim,
        spec.patch_px,
        spec.positions,
        prefix=spec.prefix_tokens,
        gated=spec.swiglu,
        qkv_bias=spec.qkv_bias,
        patch_bias=spec.patch_bias,
        pre_norm=spec.pre_norm,
        layer_scale=spec.layer_scale,
        rms=spec.norm == "rms",
        table=None if spec.table is None else spec.table**2,
        frames=spec.frames,
        keys=[spec.positions if spec.window_of(i) is None else spec.window_of(i) ** 2 for i in range(len(widths))],  # type: ignore[operator]
        turned=sum(places) if spec.rotary else 0,
        tabled=sum(places) if spec.table else 0 if spec.table == 0 else None,
    )


def language_by_hand(spec: DecoderSpec, widths: tuple[Width, ...]) -> Language:
    return Language(
        [Block(width.groups, width.mlp) for width in widths],
        spec.hidden,
        spec.head_dim,
        spec.heads // spec.kv_heads,
        spec.vocab,
        spec.tied,
        qkv_bias=spec.attention_bias,
        output_bias=spec.output_bias,
        mlp_bias=spec.mlp_bias,
        head_norms=spec.qk_norm,
    )


@MODELS
def test_every_price_is_the_count_by_hand(number: int) -> None:
    model, random = spec_of(number), np.random.default_rng(number)
    for _ in range(3):
        widths = random_widths(random, model.vision)
        tower = tower_by_hand(model.vision, widths, model.picture.views)
        assert cost.parameters(model.vision).of(widths) == tower.params()
        assert cost.macs_of_tower(model.vision).of(widths) == tower.macs()
        assert cost.bytes_of_tower(model.vision, "fp32", views=model.picture.views).of(widths) == tower.memory(4)
        positions, capacity = int(random.integers(1, 30)), int(random.integers(1, 99))
        biased = replace(model.language, output_bias=bool(number % 2), mlp_bias=bool(number % 3))
        for spec in (model.language, biased):
            widths = random_widths(random, spec)
            language = language_by_hand(spec, widths)
            assert cost.parameters(spec).of(widths) == language.params()
            assert cost.macs_of_language(spec, positions).of(widths) == language.macs(positions)
            assert cost.bytes_of_language(spec, "fp32", capacity, 4).of(widths) == language.memory(4, capacity)


@MODELS
def test_parameters_are_those_of_the_shrunk_model(number: int) -> None:
    prunable = prunable_of(SUBJECTS[number], 1)
    plan = random_plan(prunable, number)
    model = pruned_model(spec_of(number), plan)
    shapes = needed_tensors(model.vision, model.connector, model.language, model.feature_layer, model.learned)
    sizes = {"tower": 0, "language": 0}
    for name, shape in shapes.items():
        if not name.startswith(("connector.", "newline")):
            sizes["tower" if name.startswith("tower.") else "language"] += math.prod(shape)
    smaller = shrink(prunable.module, prunable.specs, plan)
    language: Any = smaller.model.language_model  # type: ignore[union-attr]
    numbers = {id(p): p.numel() for p in (*language.parameters(), *smaller.lm_head.parameters())}  # type: ignore[union-attr]
    assert sum(numbers.values()) == sizes["language"]
    for part, (spec, _) in specs_of(spec_of(number)).items():
        widths = tuple(Width(len(block.heads), len(block.mlp)) for block in plan.blocks[part])
        assert cost.parameters(spec).of(widths) == sizes[part]


def test_macs_of_a_tower_are_those_that_torch_counts() -> None:
    """SigLIP, whose every block is read: torch counts two operations per multiply-accumulate."""
    prunable = prunable_of({"family": "llava", "tower": "siglip", "decoder": "qwen2"}, 1)
    plan = random_plan(prunable, 3)
    smaller: Any = shrink(prunable.module, prunable.specs, plan)
    spec = prunable.specs["tower"][0]
    assert isinstance(spec, TowerSpec)
    smaller.set_attn_implementation("eager")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        smaller.model.vision_tower(torch.zeros(1, 3, spec.image_px, spec.image_px))
    widths = tuple(Width(len(block.heads), len(block.mlp)) for block in plan.blocks["tower"])
    assert cost.macs_of_tower(spec).of(widths) * 2 == counter.get_total_flops()


def stored_bytes(bundle: Path) -> dict[str, int]:
    """Length of every tensor of weights.bin that some graph or the embedding refers to, by name."""
    found: dict[str, int] = {}
    for path in bundle.glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            fields = {entry.key: entry.value for entry in tensor.external_data}
            if fields:
                found[tensor.name] = int(fields["length"])
    table = Bundle.open(bundle).manifest.language.embedding
    return found | {"embed.weight": math.prod(table.shape) * np.dtype(table.dtype).itemsize}


@pytest.mark.parametrize(
    ("variant", "precision"),
    [
        (BUNDLES[0], "fp32"),
        (BUNDLES[0], "int8"),
        (BUNDLES[0], "int4"),
        (BUNDLES[1], "int8"),
        (BUNDLES[2], "fp32"),
        (BUNDLES[3], "int8"),
        (BUNDLES[4], "fp32"),
        (BUNDLES[5], "int8"),
    ],
    ids=[
        "tied-fp32",
        "tied-int8",
        "tied-int4",
        "swiglu-float16-int8",
        "siglip-fp32",
        "rotary-int8",
        "windows-fp32",
        "resampled-int8",
    ],
)
def test_bytes_are_those_of_an_exported_bundle(variant: dict[str, Any], precision: str) -> None:
    plan = {"method": "divprune"} if variant.get("tower") in ("siglip", None) else {}
    fewer = {} if "tower" in variant else {"tokens": 12}
    bundle = exported(variant, budgets=["1.0"], parity=False, precision=precision, plan=plan, **fewer)
    checkpoint = open_checkpoint(tiny_checkpoint(**variant), **fewer)
    sizes = stored_bytes(bundle)
    tower = sum(size for name, size in sizes.items() if name.startswith("tower."))
    owned = ("layers.", "norm.", "embed.", "head.")
    language = sum(size for name, size in sizes.items() if name.startswith(owned))
    capacity = Bundle.open(bundle).manifest.language.capacity
    spec = checkpoint.spec.language
    cache = spec.layers * 2 * capacity * spec.kv_heads * spec.head_dim * 4
    half = checkpoint.weights.dtype("embed.weight") == "float16"
    views = checkpoint.spec.picture.views
    terms = Terms(precision, PricedRequest(1, 1, 1, capacity), 2 if half else 4, views=views)  # type: ignore[arg-type]
    for part, wanted in (("tower", tower), ("language", language + cache)):
        described, blocks = specs_of(checkpoint.spec)[part]  # type: ignore[index]
        full = (Width(getattr(described, "kv_heads", described.heads), described.mlp),) * blocks
        assert price_of("memory", described, terms, silent).of(full) == wanted


def test_what_follows_the_blocks_of_a_classifier_counts_too() -> None:
    spec = spec_of(0).vision
    terms, width = Terms("int8", PricedRequest(1, 1, 1, 1), classes=11), spec.hidden
    rest = 11 + 2 * width  # bias of the head, weight and bias of the norm
    for measure, more in (
        ("params", 11 * width + rest),
        ("macs", 11 * width),
        ("memory", 11 * width + 4 * (11 + rest)),
    ):
        plain = price_of(measure, spec, Terms("int8", terms.request), silent)  # type: ignore[arg-type]
        price = price_of(measure, spec, terms, silent)  # type: ignore[arg-type]
        assert replace(price, last=None) == replace(plain, fixed=plain.fixed + more)


@pytest.mark.parametrize(
    ("kind", "config", "px", "gflop"),
    [
        (QWEN2_5_VIT, {"hidden_size": 1280}, 448, 5.2),
        (QWEN2_5_VIT, {"hidden_size": 1280}, 896, 5.4),
        (QWEN3_VIT, {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24}, 512, 2.8),
        (QWEN3_VIT, {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24}, 1024, 4.0),
    ],
    ids=["2.5-3B", "2.5-3B four times as large", "3-2B", "3-2B four times as large"],
)
def test_towers_of_published_sizes_cost_by_token_what_their_shape_says(
    kind: TowerKind, config: dict[str, Any], px: int, gflop: float
) -> None:
    """n L (8 C^2 + g C m) + 4 C n keys, two operations per multiply-accumulate, n patches of which four are a token: with windows
    nearly the same at any size, without them more at larger ones."""
    spec = replace(kind.read(Section("config.json", config)), view=(px, px), image_px=px)
    operations = 2 * cost.macs_of_tower(spec).of((Width(spec.heads, spec.mlp),) * spec.layers)
    assert operations / (spec.positions / 4) / 1e9 == pytest.approx(gflop, rel=0.01)
