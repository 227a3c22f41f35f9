"""InternVL 2.5, 3 and 3.5 in transformers' layout (the folders whose names end in -hf): tiles by nearest proportions, 2 x 2 patches merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.models.config.processor import CLIP_MEAN, CLIP_STD, ProcessorFiles, tile_spec
from edgeprune.models.config.section import Section
from edgeprune.models.families.base import Family, ModulePaths
from edgeprune.models.families.common import part
from edgeprune.models.families.llava_next import refuse_other_tiles
from edgeprune.models.spec import ConnectorSpec, DecoderSpec, TowerSpec
from edgeprune.models.towers import internvit
from edgeprune.models.towers.base import activation, feature_block, require_selection
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import NearestRatio, Placement

_CLASSES: Mapping[str, Mapping[str, Any]] = {
    "GotOcr2ImageProcessor": {
        "size": {"height": 384, "width": 384},
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "min_patches": 1,
        "max_patches": 12,
    }
}


def _refuse(config: Section) -> None:
    if config.has("auto_map") or config.has("llm_config"):
        raise CheckpointError(
            "config.json belongs to an original InternVL repository, which runs code of its own; expected transformers' layout; "
            "take the converted folder of the same model, whose name ends in -hf"
        )


def _tower(config: Section) -> TowerSpec:
    vision = part(config, "vision_config")
    if (kind := vision.text("model_type", "internvl_vision")) != "internvl_vision":
        raise vision.refuse("model_type", f"'internvl_vision', which InternVL has, not {kind!r}")
    return internvit.read(vision)


def _connector(config: Section, tower: TowerSpec, decoder: DecoderSpec) -> ConnectorSpec:
    ratio = config.number("downsample_ratio", 0.5)
    merge = round(1 / ratio)
    if abs(merge * ratio - 1) > 1e-6 or tower.patches % merge:
        raise config.refuse(
            "downsample_ratio", f"1 / n, n a divisor of the {tower.patches} patches along a side of a tile"
        )
    act = activation(config, "projector_hidden_act", "gelu")
    return ConnectorSpec(tower.hidden, decoder.hidden, act, merge=merge, norm="after", eps=1e-5)


def _feature(config: Section, tower: TowerSpec) -> int:
    require_selection(config, tower)
    return feature_block(config, tower.layers, -1)


def _picture(config: Section, files: ProcessorFiles, tower: TowerSpec, connector: ConnectorSpec) -> PictureSpec:
    section = files.settings(_CLASSES, "GotOcr2ImageProcessor", INTERNVL.name)
    tile = tile_spec(section, tower, connector.merge)
    refuse_other_tiles(section, tower.image_px, ("size",))
    # The model's processor always crops to tiles, whatever crop_to_patches says in the file.
    least, most = section.integer("min_patches"), section.integer("max_patches")
    if least > most:
        raise section.refuse("min_patches", f"at most max_patches = {most}")
    return PictureSpec(tile, NearestRatio(least, most), SequenceSpec(overview="last", before="<img>", after="</img>"))


def _reference(picture: PictureSpec, place: Placement) -> Mapping[str, Any]:
    assert isinstance(picture.tiling, NearestRatio)
    return {"crop_to_patches": True, "min_patches": picture.tiling.least, "max_patches": picture.tiling.most}


INTERNVL = Family(
    "internvl",
    "InternVL",
    tower=_tower,
    connector=_connector,
    feature=_feature,
    picture=_picture,
    modules=ModulePaths("model.vision_tower", "model.multi_modal_projector", "model.language_model"),
    image_token_id=151667,
    tied=True,
    foreign=("internvl_chat",),
    refuse=_refuse,
    reference=_reference,
)
