"""CLIP's vision tower: a norm before the first block, no bias on the patches."""

from __future__ import annotations

from edgeprune.models.config.section import Section
from edgeprune.models.spec import TowerSpec
from edgeprune.models.towers.base import TowerDefaults, TowerKind, plain_tower

_DEFAULTS = TowerDefaults("clip", 32, "quick_gelu", 1e-5, prefix_tokens=1)


def read(vision: Section) -> TowerSpec:
    """vision_config of model type clip_vision_model."""
    return plain_tower(vision, _DEFAULTS, pre_norm=True, patch_bias=False)


CLIP = TowerKind(
    "clip_vision_model",
    read,
    {
        "layer_norm1": "norm1",
        "layer_norm2": "norm2",
        "self_attn.q_proj": "q",
        "self_attn.k_proj": "k",
        "self_attn.v_proj": "v",
        "self_attn.out_proj": "o",
        "mlp.fc1": "fc1",
        "mlp.fc2": "fc2",
    },
)
