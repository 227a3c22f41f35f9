"""What the readers of vision towers share: sizes, activations, and which block feeds the connector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeprune.models.config.section import Section
from edgeprune.models.spec import TowerSpec

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
class TowerKind:
    """A kind of vision tower: its `model_type` in vision_config, and how that becomes a TowerSpec.

    names  what a part of a block is called in files, and ours (see `weights/names.py`)
    """

    name: str
    read: Callable[[Section], TowerSpec]
    names: Mapping[str, str]


@dataclass(frozen=True)
class TowerDefaults:
    """What a key means that the file leaves out: the defaults of the kind's configuration class.

    spare  pixels beyond the last whole patch are allowed (SigLIP has 27 patches of 14 on 384)
    """

    kind: str
    patch_px: int
    activation: str
    eps: float
    prefix_tokens: int
    hidden: int = 768
    heads: int = 12
    layers: int = 12
    mlp: int = 3072
    image_px: int = 224
    spare: bool = False


def activation(section: Section, key: str, default: str) -> str:
    """Our name of the activation under `key`."""
    name = section.text(key, default)
    if name not in ACTIVATIONS:
        raise section.refuse(key, f"one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def plain_tower(vision: Section, defaults: TowerDefaults, **traits: Any) -> TowerSpec:
    """A tower of this size; `traits` are further fields of TowerSpec. Raises CheckpointError for sizes that do not fit together."""
    hidden = vision.integer("hidden_size", defaults.hidden)
    heads = vision.integer("num_attention_heads", defaults.heads)
    if hidden % heads:
        raise vision.refuse("hidden_size", f"a multiple of num_attention_heads = {heads}")
    if vision.integer("num_channels", 3) != 3:
        raise vision.refuse("num_channels", "3 (colour pictures)")
    image_px = vision.square("image_size", defaults.image_px)
    patch_px = vision.square("patch_size", defaults.patch_px)
    _refuse_other_grid(vision, image_px, patch_px, spare=defaults.spare)
    values: dict[str, Any] = {
        "kind": defaults.kind,
        "layers": vision.integer("num_hidden_layers", defaults.layers),
        "hidden": hidden,
        "heads": heads,
        "head_dim": hidden // heads,
        "image_px": image_px,
        "patch_px": patch_px,
        "eps": vision.number("layer_norm_eps", defaults.eps),
        "prefix_tokens": defaults.prefix_tokens,
    }
    if "mlp" not in traits:
        values["mlp"] = vision.integer("intermediate_size", defaults.mlp)
    if "activation" not in traits:
        values["activation"] = activation(vision, "hidden_act", defaults.activation)
    return TowerSpec(**{**values, **traits})


def feature_block(config: Section, layers: int, default: int = -2) -> int:
    """0-based block whose output is the feature layer; `vision_feature_layer` counts the embeddings as state 0."""
    value = config.values.get("vision_feature_layer", default)
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


def require_selection(config: Section, tower: TowerSpec, default: str = "default") -> None:
    """Refuse a configuration that would hand the class token on, or drop a patch in its place."""
    key = "vision_feature_select_strategy"
    strategy = config.text(key, default)
    if tower.class_tokens and strategy != "default":
        raise config.refuse(key, "'default' (the class token is not passed on)")
    if not tower.class_tokens and strategy != "full":
        raise config.refuse(
            key, f"'full' ({tower.kind} has no class token, and 'default' would drop the first patch instead)"
        )


def _refuse_other_grid(vision: Section, image_px: int, patch_px: int, *, spare: bool) -> None:
    """Spare pixels must be fewer than there are patches on a side, so that the size of a patch follows from picture and grid."""
    over = image_px % patch_px
    if over and not spare:
        raise vision.refuse("image_size", f"a multiple of patch_size = {patch_px}")
    if over >= max(image_px // patch_px, 1):
        raise vision.refuse("image_size", f"a multiple of patch_size = {patch_px}, or fewer pixels more than patches")
