"""The towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: no class token, rotary positions of patch rows and columns, patches of two frames.

Sources: arXiv 2409.12191 (2-VL), 2502.13923 (2.5-VL: windows, RMS norms, a gated MLP), 2511.21631 (3-VL: a resampled table of positions).
"""

from __future__ import annotations

from typing import Any

from edgeprune.models.config.section import Section
from edgeprune.models.spec import TowerSpec
from edgeprune.models.towers.base import TowerKind, activation

_EPS = 1e-6  # of every norm of these towers, whatever config.json says
_BASE = 10_000.0
#: What all three call the parts of a block.
_NAMES = {"attn.qkv": "qkv", "attn.proj": "o"}


def _read(vision: Section, merge: int, hidden: int, heads: int, **traits: Any) -> TowerSpec:
    if hidden % heads or hidden // heads % 4:
        raise vision.refuse(
            "num_heads",
            f"a divisor of the width {hidden} whose heads are a multiple of 4 wide (rows and columns turn pairs)",
        )
    for key in ("in_channels", "in_chans"):
        if vision.has(key) and vision.integer(key) != 3:
            raise vision.refuse(key, "3 (colour pictures)")
    patch_px, frames = vision.square("patch_size", traits.pop("patch_px")), vision.integer("temporal_patch_size", 2)
    return TowerSpec(
        layers=vision.integer("depth", traits.pop("layers")),
        hidden=hidden,
        heads=heads,
        head_dim=hidden // heads,
        image_px=patch_px * merge,  # until grids are chosen
        patch_px=patch_px,
        eps=_EPS,
        prefix_tokens=0,
        rotary=_base(vision),
        frames=frames,
        **traits,
    )


def _base(vision: Section) -> float:
    if not vision.has("rope_parameters"):
        return _BASE
    rope = vision.section("rope_parameters")
    if rope.text("rope_type", "axial") != "axial":
        raise rope.refuse("rope_type", "'axial'")
    return rope.number("rope_theta", _BASE)


def _merge(vision: Section) -> int:
    return vision.integer("spatial_merge_size", 2)


def _second(vision: Section) -> TowerSpec:
    hidden = vision.integer("embed_dim", 1280)
    return _read(
        vision,
        _merge(vision),
        hidden,
        vision.integer("num_heads", 16),
        kind="Qwen2 ViT",
        patch_px=14,
        layers=32,
        mlp=hidden * vision.integer("mlp_ratio", 4),
        activation=activation(vision, "hidden_act", "quick_gelu"),
        patch_bias=False,
        table=0,
    )


def _half(vision: Section) -> TowerSpec:
    merge = _merge(vision)
    if activation(vision, "hidden_act", "silu") != "silu":
        raise vision.refuse("hidden_act", "'silu'")
    patch_px, layers = vision.square("patch_size", 14), vision.integer("depth", 32)
    cells = vision.integer("window_size", 112) // merge // patch_px
    if cells < 1:
        raise vision.refuse("window_size", f"at least {merge * patch_px} pixels, one visual token")
    return _read(
        vision,
        merge,
        vision.integer("hidden_size", 3584),
        vision.integer("num_heads", 16),
        kind="Qwen2.5 ViT",
        patch_px=14,
        layers=32,
        mlp=vision.integer("intermediate_size", 3420),
        activation="silu",
        norm="rms",
        swiglu=True,
        patch_bias=False,
        table=0,
        window=cells * merge,
        full=blocks(vision, "fullatt_block_indexes", (7, 15, 23, 31), layers),
    )


def _third(vision: Section) -> TowerSpec:
    positions = vision.integer("num_position_embeddings", 2304)
    side = int(positions**0.5)
    if side**2 != positions:
        raise vision.refuse("num_position_embeddings", "a square number")
    return _read(
        vision,
        _merge(vision),
        vision.integer("hidden_size", 1152),
        vision.integer("num_heads", 16),
        kind="Qwen3 ViT",
        patch_px=16,
        layers=27,
        mlp=vision.integer("intermediate_size", 4304),
        activation=activation(vision, "hidden_act", "gelu_pytorch_tanh"),
        table=side,
    )


def blocks(vision: Section, key: str, default: tuple[int, ...], layers: int) -> tuple[int, ...]:
    """Numbers of blocks under `key`, those beyond the last left out as transformers leaves them."""
    value = vision.values.get(key, default)
    if not isinstance(value, (list, tuple)) or not all(type(block) is int and block >= 0 for block in value):
        raise vision.refuse(key, "a list of block numbers")
    return tuple(block for block in value if block < layers)


QWEN2_VIT = TowerKind("qwen2_vit", _second, {**_NAMES, "mlp.fc1": "fc1", "mlp.fc2": "fc2"})
QWEN2_5_VIT = TowerKind(
    "qwen2_5_vit",
    _half,
    {**_NAMES, "mlp.gate_proj": "fc_gate", "mlp.up_proj": "fc_up", "mlp.down_proj": "fc_out"},
)
QWEN3_VIT = TowerKind("qwen3_vit", _third, {**_NAMES, "mlp.linear_fc1": "fc1", "mlp.linear_fc2": "fc2"})
