"""Vision towers, one file per kind: from a configuration to a TowerSpec, whose values are all that graph code asks.

Adding one is a file with its `TowerKind` and one line here, or an entry point in the group `edgeprune.towers`.
"""

from __future__ import annotations

from collections.abc import Container

from edgeprune.models.config.section import Section
from edgeprune.models.spec import TowerSpec
from edgeprune.models.towers.base import TowerKind
from edgeprune.models.towers.clip import CLIP
from edgeprune.models.towers.dinov2 import DINOV2
from edgeprune.models.towers.internvit import INTERNVIT
from edgeprune.models.towers.qwen_vit import QWEN2_5_VIT, QWEN2_VIT, QWEN3_VIT
from edgeprune.models.towers.siglip import SIGLIP
from edgeprune.models.towers.vit import DEIT, VIT
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.registry import Registry

__all__ = ["TOWERS", "TowerKind", "tower_from_config"]

TOWERS: Registry[TowerKind] = Registry("vision tower", group="edgeprune.towers", kind=TowerKind, error=CheckpointError)
for _kind in (CLIP, VIT, DINOV2, DEIT, SIGLIP, INTERNVIT, QWEN2_VIT, QWEN2_5_VIT, QWEN3_VIT):
    TOWERS.add(_kind.name, _kind)


def tower_from_config(vision: Section, allowed: Container[str] | None = None) -> TowerSpec:
    """Describe the vision tower of a vision_config (or of a classifier's config.json), or refuse it in one sentence.

    allowed  model types that a family may have; None: all
    """
    kind = vision.text("model_type")
    usable = [name for name in TOWERS if allowed is None or name in allowed]
    if kind not in usable:
        raise CheckpointError(
            f"{vision.where}.model_type is {kind!r}; supported towers are {', '.join(usable)}; "
            "choose a checkpoint with one of them"
        )
    return TOWERS.get(kind).read(vision)
