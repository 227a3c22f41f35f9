"""LLaVA-OneVision (single pictures): LLaVA-NeXT's packing over SigLIP's last block, before its final norm.

Where a mosaic has more tiles than `vision_aspect_ratio` names ("anyres_max_9"), transformers shrinks it to another number of tokens for
every size of picture. Such canvases are left out here, of the processor's choice too: a picture is then shown on the best of those with
fewer tiles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgeprune.models.config.processor import CLIP_MEAN, CLIP_STD, ProcessorFiles, tile_spec
from edgeprune.models.config.section import Section
from edgeprune.models.families.base import Family
from edgeprune.models.families.common import part, two_linears
from edgeprune.models.families.llava import MODULES
from edgeprune.models.families.llava_next import MOSAIC, NEWLINE, configure, pinpoints, reference, refuse_other_tiles
from edgeprune.models.spec import ConnectorSpec, TowerSpec
from edgeprune.models.towers import tower_from_config
from edgeprune.models.towers.base import feature_block, require_selection
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Anyres

_PINPOINTS = tuple((384 * rows, 384 * cols) for rows in range(1, 7) for cols in range(1, 7))
_CLASSES: Mapping[str, Mapping[str, Any]] = {
    "LlavaOnevisionImageProcessor": {
        "size": {"height": 384, "width": 384},
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "image_grid_pinpoints": _PINPOINTS,
    }
}


def _tower(config: Section) -> TowerSpec:
    return tower_from_config(part(config, "vision_config"), ("siglip_vision_model", "clip_vision_model"))


def _feature(config: Section, tower: TowerSpec) -> int:
    require_selection(config, tower, "full")
    return feature_block(config, tower.layers, -1)


def _picture(config: Section, files: ProcessorFiles, tower: TowerSpec, connector: ConnectorSpec) -> PictureSpec:
    section = files.settings(_CLASSES, "LlavaOnevisionImageProcessor", LLAVA_ONEVISION.name)
    tile = tile_spec(section, tower)
    refuse_other_tiles(section, tower.image_px, ("size",))
    ratio = re.fullmatch(r"anyres_max_(\d+)", config.text("vision_aspect_ratio", "anyres_max_9"))
    if ratio is None:
        raise config.refuse("vision_aspect_ratio", "anyres_max_N with a number of tiles, such as anyres_max_9")
    canvases = Anyres(pinpoints(section, config, tower.image_px, _PINPOINTS)).limited(int(ratio[1]), tile)
    if not canvases.pinpoints:
        raise config.refuse("vision_aspect_ratio", "at least the tiles of the smallest canvas of image_grid_pinpoints")
    return PictureSpec(tile, canvases, MOSAIC)


LLAVA_ONEVISION = Family(
    "llava_onevision",
    "LLaVA-OneVision",
    tower=_tower,
    connector=two_linears,
    feature=_feature,
    picture=_picture,
    modules=MODULES,
    image_token_id=151646,
    learned=NEWLINE,
    reference=reference,
    configure=configure,
)
