"""The plain vision transformer, and DeiT, which has a distillation token beside the class token."""

from __future__ import annotations

from edgeprune.models.config.section import Section
from edgeprune.models.spec import TowerSpec
from edgeprune.models.towers.base import TowerDefaults, TowerKind, plain_tower

_VIT = TowerDefaults("vit", 16, "gelu", 1e-12, prefix_tokens=1)
_DEIT = TowerDefaults("deit", 16, "gelu", 1e-12, prefix_tokens=2)
_NAMES = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.q_proj": "q",
    "attention.k_proj": "k",
    "attention.v_proj": "v",
    "attention.o_proj": "o",
    "attention.attention.query": "q",
    "attention.attention.key": "k",
    "attention.attention.value": "v",
    "attention.output.dense": "o",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}


def read_vit(vision: Section) -> TowerSpec:
    """vision_config of model type vit."""
    return plain_tower(vision, _VIT, qkv_bias=vision.flag("qkv_bias", True))


def read_deit(vision: Section) -> TowerSpec:
    """vision_config of model type deit."""
    return plain_tower(vision, _DEIT, qkv_bias=vision.flag("qkv_bias", True))


VIT = TowerKind("vit", read_vit, _NAMES)
DEIT = TowerKind("deit", read_deit, _NAMES)
