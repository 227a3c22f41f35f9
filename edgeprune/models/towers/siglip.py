"""SigLIP's vision tower: no class token; a norm behind the last block, which some models' connectors read through."""

from __future__ import annotations

from edgeprune.models.config.section import Section
from edgeprune.models.spec import TowerSpec
from edgeprune.models.towers.base import TowerDefaults, TowerKind, plain_tower
from edgeprune.models.towers.clip import CLIP

DEFAULTS = TowerDefaults("siglip", 16, "gelu_pytorch_tanh", 1e-6, prefix_tokens=0, spare=True)


def read(vision: Section, defaults: TowerDefaults = DEFAULTS, *, final_norm: bool = False) -> TowerSpec:
    """vision_config of model type siglip_vision_model, or of one that differs in its defaults only."""
    return plain_tower(vision, defaults, final_norm=final_norm)


SIGLIP = TowerKind("siglip_vision_model", read, CLIP.names)
