"""InternViT: class token, a scale on each branch, layer or RMS norms."""

from __future__ import annotations

from edgeprune.models.config.section import Section
from edgeprune.models.spec import TowerSpec
from edgeprune.models.towers.base import TowerDefaults, TowerKind, plain_tower
from edgeprune.models.towers.vit import VIT

_DEFAULTS = TowerDefaults(
    "internvit", 14, "gelu", 1e-6, prefix_tokens=1, hidden=1024, heads=16, layers=24, mlp=4096, image_px=448
)
_NORMS = {"layer_norm": "layer", "rms_norm": "rms"}


def read(vision: Section) -> TowerSpec:
    """vision_config of this tower. Raises CheckpointError for norms on queries and keys, and for what else has no graph."""
    if vision.flag("use_qk_norm", False):
        raise vision.refuse(
            "use_qk_norm", "false (norms on queries and keys over all heads, as in the 6B tower, have no graph)"
        )
    if not vision.flag("use_absolute_position_embeddings", True):
        raise vision.refuse("use_absolute_position_embeddings", "true")
    if not vision.flag("use_mean_pooling", True):
        raise vision.refuse("use_mean_pooling", "true (a norm behind the last block would follow)")
    norm = vision.text("norm_type", "layer_norm")
    if norm not in _NORMS:
        raise vision.refuse("norm_type", f"one of {', '.join(_NORMS)}")
    return plain_tower(
        vision,
        _DEFAULTS,
        norm=_NORMS[norm],
        qkv_bias=vision.flag("attention_bias", False),
        layer_scale=True,
    )


INTERNVIT = TowerKind(
    "internvit", read, {**VIT.names, "attention.projection_layer": "o", "lambda_1": "scale1", "lambda_2": "scale2"}
)
