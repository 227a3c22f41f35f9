"""Hand-computed counts of parameters, multiply-accumulates and bytes, and the closed forms they add up to."""

from __future__ import annotations

import math

from edgeprune.models.spec import ConnectorSpec, DecoderSpec, RopeSpec, TowerSpec
from edgeprune.models.weights.shapes import needed_tensors

from .structure_cost import Block, Language, Tower, latency


def test_tower_counts_by_hand() -> None:
    # D = 4, d = 2, patches of 2 px (12 numbers), 1 class token and 4 patches; blocks of 2 heads, 3 channels and 1, 2
    tower = Tower([Block(2, 3), Block(1, 2)], width=4, head_dim=2, patch=2, rows=5)
    # embeddings: 4 x 12 + 4, class 4, positions 20 -> 76
    # block 0: norms 16, q k v 3 (16 + 4), o 16 + 4, fc1 12 + 3, fc2 12 + 4 -> 127
    # block 1: norms 16, q k v 3 (8 + 2), o 8 + 4, fc1 8 + 2, fc2 8 + 4 -> 80
    assert tower.params() == 76 + 127 + 80
    # 4 x 48; 5 x (64 + 24) + 2 x 25 x 4; 5 x (32 + 16) + 2 x 25 x 2
    assert tower.macs() == 192 + 440 + 200 + 240 + 100
    assert tower.memory(2) == 2 * 283
    other = Tower([Block(2, 3)], 4, 2, 2, 5, 1, gated=True, qkv_bias=False, layer_scale=True, pre_norm=True)
    assert other.params() == 76 + 8 + 127 - 12 + 15 + 8  # pre-norm, no q k v bias, gate, two scales
    assert other.macs() == 192 + 440 + 200 + 60


def test_language_counts_by_hand() -> None:
    # D = 4, d = 2, r = 2, V = 10; one block of 1 group and 3 channels: q 16, k 8, v 8, o 16, gate up down 36 -> 84
    model = Language([Block(1, 3)], width=4, head_dim=2, queries=2, vocab=10, tied=True)
    assert model.params() == 40 + 84 + 8 + 4
    assert Language([Block(1, 3)], 4, 2, 2, 10, tied=False).params() == 176
    # q k v 8, o 4, gate up 6, down 4
    assert Language([Block(1, 3)], 4, 2, 2, 10, True, True, True, True).params() == 136 + 22
    # 3 x 84 + 3 x 4 x 1 x 2 x 2 + 40; biases count nothing
    assert model.macs(3) == Language([Block(1, 3)], 4, 2, 2, 10, True, True, True, True).macs(3) == 252 + 48 + 40
    assert model.memory(2, capacity=100) == 272 + 2 * 100 * 2 * 4
    assert latency([Block(1, 3), Block(2, 5)], 1.0, 0.5, 0.25, 0.125) == 1 + 0.5 + 0.25 + 0.375 + 0.5 + 0.5 + 0.625


def test_counts_of_unpruned_parts_are_those_of_their_tensors() -> None:
    for kind, prefix, scale, gated in (
        ("clip", 1, False, False),
        ("dinov2", 1, True, True),
        ("siglip", 0, False, False),
    ):
        clip = kind == "clip"
        vision = TowerSpec(
            kind,
            layers=3,
            hidden=8,
            heads=2,
            head_dim=4,
            mlp=12,
            image_px=8,
            patch_px=2,
            activation="gelu",
            eps=1e-6,
            prefix_tokens=prefix,
            pre_norm=clip,
            patch_bias=not clip,
            layer_scale=scale,
            swiglu=gated,
        )
        language = DecoderSpec(
            "qwen2",
            layers=2,
            hidden=8,
            heads=4,
            kv_heads=2,
            head_dim=4,
            mlp=12,
            vocab=20,
            eps=1e-6,
            activation="silu",
            tied=clip,
            rope=RopeSpec(1e4),
            max_positions=64,
            attention_bias=True,
        )
        shapes = needed_tensors(vision, ConnectorSpec(8, 8), language, 1, None)
        sizes = {name: math.prod(shape) for name, shape in shapes.items() if not name.startswith("connector.")}
        tower = Tower([Block(2, 12)] * 2, 8, 4, 2, 16 + prefix, prefix, gated, True, not clip, clip, scale)
        assert tower.params() == sum(size for name, size in sizes.items() if name.startswith("tower."))
        model = Language([Block(2, 12)] * 2, 8, 4, 2, 20, clip, qkv_bias=True)
        assert model.params() == sum(size for name, size in sizes.items() if not name.startswith("tower."))


def test_macs_are_the_closed_forms_of_the_page() -> None:
    tower = Tower([Block(3, 10), Block(1, 4)], width=8, head_dim=4, patch=2, rows=10)
    wanted = 9 * 8 * 12
    for block in tower.blocks:
        wanted += 10 * (4 * 8 * block.groups * 4 + 2 * 8 * block.mlp) + 2 * 100 * block.groups * 4
    assert tower.macs() == wanted
    model = Language([Block(2, 10), Block(1, 4)], width=8, head_dim=4, queries=3, vocab=20, tied=True)
    wanted = 20 * 8
    for block in model.blocks:
        lanes = block.groups * 4
        wanted += 7 * (2 * 8 * lanes * 3 + 2 * 8 * lanes + 3 * 8 * block.mlp) + 7 * 8 * lanes * 3
    assert model.macs(7) == wanted
