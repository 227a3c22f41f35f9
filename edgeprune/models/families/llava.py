"""LLaVA-1.5: one tile per picture, its tokens in one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.models.config.processor import CLIP_DEFAULTS, SINGLE, ProcessorFiles, single_rule, tile_spec
from edgeprune.models.config.section import Section
from edgeprune.models.families.base import Family, ModulePaths
from edgeprune.models.families.common import part, two_linears
from edgeprune.models.spec import ConnectorSpec, TowerSpec
from edgeprune.models.towers import tower_from_config
from edgeprune.models.towers.base import feature_block, require_selection
from edgeprune_runtime.pictures.spec import PictureSpec

TOWERS = ("clip_vision_model", "vit", "dinov2", "deit", "siglip_vision_model")
_CLASSES: Mapping[str, Mapping[str, Any]] = {**SINGLE, "LlavaImageProcessor": CLIP_DEFAULTS}
MODULES = ModulePaths("model.vision_tower", "model.multi_modal_projector", "model.language_model")


def feature(config: Section, tower: TowerSpec) -> int:
    """The block named by vision_feature_layer, its class token dropped."""
    require_selection(config, tower)
    return feature_block(config, tower.layers)


def _tower(config: Section) -> TowerSpec:
    return tower_from_config(part(config, "vision_config"), TOWERS)


def _picture(config: Section, files: ProcessorFiles, tower: TowerSpec, connector: ConnectorSpec) -> PictureSpec:
    section = files.settings(_CLASSES, "CLIPImageProcessor", LLAVA.name)
    # Other classes have a do_pad of another meaning; only LLaVA's own pads a picture to a square.
    own = section.text("image_processor_type", "").startswith("LlavaImageProcessor")
    rule = single_rule(section, tower.image_px, pad_to_square=own and section.flag("do_pad", False))
    return PictureSpec(tile_spec(section, tower), rule)


LLAVA = Family(
    "llava",
    "LLaVA-1.5",
    tower=_tower,
    connector=two_linears,
    feature=feature,
    picture=_picture,
    modules=MODULES,
    image_token_id=32000,
)
