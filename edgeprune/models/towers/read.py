"""Vision tower configurations: CLIP, ViT, DINOv2 and DeiT, which have a class token, and SigLIP, which has none."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.models.config.section import Section
from edgeprune.models.spec import Family, TowerKind, TowerSpec
from edgeprune_runtime.errors import CheckpointError

#: Names of activations in configuration files, and ours. The tanh forms of GELU differ only in how they are spelt.
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class _Defaults:
    """What a key means that the file leaves out: the defaults of the family's configuration class."""

    kind: TowerKind
    patch_px: int
    activation: str
    eps: float
    prefix_tokens: int = 1


_FAMILIES = {
    "clip_vision_model": _Defaults("clip", 32, "quick_gelu", 1e-5),
    "vit": _Defaults("vit", 16, "gelu", 1e-12),
    "dinov2": _Defaults("dinov2", 14, "gelu", 1e-6),
    "deit": _Defaults("deit", 16, "gelu", 1e-12, prefix_tokens=2),
    "siglip_vision_model": _Defaults("siglip", 16, "gelu_pytorch_tanh", 1e-6, prefix_tokens=0),
}


def activation(section: Section, key: str, default: str) -> str:
    """Our name of the activation under `key`."""
    name = section.text(key, default)
    if name not in ACTIVATIONS:
        raise section.refuse(key, f"one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def tower_from_config(vision: Section, family: Family) -> TowerSpec:
    """Describe the vision tower of a LLaVA configuration, or refuse it in one sentence."""
    defaults = _defaults(vision, family)
    hidden, heads = vision.integer("hidden_size", 768), vision.integer("num_attention_heads", 12)
    if hidden % heads:
        raise vision.refuse("hidden_size", f"a multiple of num_attention_heads = {heads}")
    if vision.integer("num_channels", 3) != 3:
        raise vision.refuse("num_channels", "3 (colour pictures)")
    image_px, patch_px = vision.square("image_size", 224), vision.square("patch_size", defaults.patch_px)
    _refuse_other_grid(vision, image_px, patch_px, spare=defaults.kind == "siglip")
    clip, dinov2 = defaults.kind == "clip", defaults.kind == "dinov2"
    swiglu = dinov2 and vision.flag("use_swiglu_ffn", False)
    mlp = int(hidden * vision.number("mlp_ratio", 4)) if dinov2 else vision.integer("intermediate_size", 3072)
    return TowerSpec(
        kind=defaults.kind,
        layers=vision.integer("num_hidden_layers", 12),
        hidden=hidden,
        heads=heads,
        head_dim=hidden // heads,
        # DINOv2's gated MLP keeps two thirds of the width, rounded up to a multiple of 8.
        mlp=(int(mlp * 2 / 3) + 7) // 8 * 8 if swiglu else mlp,
        image_px=image_px,
        patch_px=patch_px,
        activation="silu" if swiglu else activation(vision, "hidden_act", defaults.activation),
        eps=vision.number("layer_norm_eps", defaults.eps),
        pre_norm=clip,
        patch_bias=not clip,
        qkv_bias=defaults.kind in ("clip", "siglip") or vision.flag("qkv_bias", True),
        layer_scale=dinov2,
        swiglu=swiglu,
        prefix_tokens=defaults.prefix_tokens,
    )


def _defaults(vision: Section, family: Family) -> _Defaults:
    kind = vision.text("model_type")
    if kind not in _FAMILIES:
        raise CheckpointError(
            f"{vision.where}.model_type is {kind!r}; supported towers are {', '.join(_FAMILIES)}; "
            "choose a checkpoint with one of them"
        )
    if kind == "deit" and family == "llava_next":
        raise CheckpointError(
            f"{vision.where}.model_type is 'deit', whose distillation token does not fit the tile grid of LLaVA-NeXT "
            "(transformers cannot run it either); use DeiT with LLaVA-1.5, or clip_vision_model, vit or dinov2 here"
        )
    return _FAMILIES[kind]


def _refuse_other_grid(vision: Section, image_px: int, patch_px: int, *, spare: bool) -> None:
    """`spare`: pixels beyond the last whole patch are allowed (SigLIP has 27 patches of 14 on 384), but fewer than there are
    patches on a side, so that the size of a patch follows from picture and grid."""
    over = image_px % patch_px
    if over and not spare:
        raise vision.refuse("image_size", f"a multiple of patch_size = {patch_px}")
    if over >= max(image_px // patch_px, 1):
        raise vision.refuse("image_size", f"a multiple of patch_size = {patch_px}, or fewer pixels more than patches")


def feature_block(config: Section, layers: int) -> int:
    """0-based block whose output is the feature layer; `vision_feature_layer` counts the embeddings as state 0."""
    value = config.values.get("vision_feature_layer", -2)
    if isinstance(value, list):
        raise config.refuse(
            "vision_feature_layer", "one integer (features joined from several layers are not supported)"
        )
    if not isinstance(value, int) or isinstance(value, bool):
        raise config.refuse("vision_feature_layer", "an integer")
    index = value - 1 if value >= 0 else layers + value
    if not 0 <= index < layers:
        raise config.refuse("vision_feature_layer", f"-{layers}..-1 or 1..{layers} for a tower of {layers} layers")
    return index


def require_selection(config: Section, tower: TowerSpec) -> None:
    """Refuse a configuration that would hand the class token on, or drop a patch in its place."""
    key = "vision_feature_select_strategy"
    strategy = config.text(key, "default")
    if tower.class_tokens and strategy != "default":
        raise config.refuse(key, "'default' (the class token is not passed on)")
    if not tower.class_tokens and strategy != "full":
        raise config.refuse(
            key, f"'full' ({tower.kind} has no class token, and 'default' would drop the first patch instead)"
        )
