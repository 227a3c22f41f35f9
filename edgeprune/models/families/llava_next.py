"""LLaVA-NeXT: the picture on the best of several canvases, its overview first, a learned newline behind each row of the mosaic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.models.config.processor import CLIP_DEFAULTS, ProcessorFiles, sides, tile_spec
from edgeprune.models.config.section import REPAIR, Section, brief
from edgeprune.models.families import llava
from edgeprune.models.families.base import Family
from edgeprune.models.families.common import part, two_linears
from edgeprune.models.spec import ConnectorSpec, TowerSpec
from edgeprune.models.towers import tower_from_config
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import Anyres, Placement

Pinpoints = tuple[tuple[int, int], ...]
NEWLINE = "newline"
MOSAIC = SequenceSpec(order="mosaic", overview="first", unpad=True, row_end=NEWLINE)
_PINPOINTS: Pinpoints = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
_CLASSES = {"LlavaNextImageProcessor": {**CLIP_DEFAULTS, "image_grid_pinpoints": _PINPOINTS}}


def _tower(config: Section) -> TowerSpec:
    vision = part(config, "vision_config")
    if vision.text("model_type") == "deit":
        raise CheckpointError(
            f"{vision.where}.model_type is 'deit', whose distillation token does not fit the tile grid of LLaVA-NeXT "
            "(transformers cannot run it either); use DeiT with LLaVA-1.5, or clip_vision_model, vit or dinov2 here"
        )
    return tower_from_config(vision, llava.TOWERS)


def _picture(config: Section, files: ProcessorFiles, tower: TowerSpec, connector: ConnectorSpec) -> PictureSpec:
    section = files.settings(_CLASSES, "LlavaNextImageProcessor", LLAVA_NEXT.name)
    tile = tile_spec(section, tower)
    refuse_other_tiles(section, tower.image_px, ("size", "crop_size"))
    return PictureSpec(tile, Anyres(pinpoints(section, config, tower.image_px, _PINPOINTS)), MOSAIC)


def refuse_other_tiles(section: Section, tile_px: int, keys: tuple[str, ...]) -> None:
    """Tiles are cut in the final size: a resize or crop of each must change nothing."""
    for key in keys:
        if sides(section, key) not in (tile_px, (tile_px, tile_px)):
            raise section.refuse(key, f"{tile_px}, the image size of the vision tower")


def pinpoints(section: Section, config: Section, tile_px: int, default: Pinpoints) -> Pinpoints:
    """The canvases; processor (tiling) and model (packing) each read their own file, so both must say the same."""
    lists = []
    for holder in (section, config):
        value = holder.values.get("image_grid_pinpoints") or default
        if not isinstance(value, (list, tuple)) or not all(_is_canvas(pair, tile_px) for pair in value):
            raise holder.refuse(
                "image_grid_pinpoints", f"pairs [height, width], each a multiple of the tile, {tile_px}"
            )
        lists.append(tuple((pair[0], pair[1]) for pair in value))
    if lists[0] != lists[1]:
        raise CheckpointError(
            f"image_grid_pinpoints differ: {section.where} has {brief(list(lists[0]))}, config.json has {brief(list(lists[1]))}; "
            f"expected the same list in the same order; {REPAIR}"
        )
    return lists[0]


def reference(picture: PictureSpec, place: Placement) -> Mapping[str, Any] | None:
    """transformers' processor has no picture without tiles."""
    canvases = configure(picture)
    return canvases if canvases["image_grid_pinpoints"] else None


def configure(picture: PictureSpec) -> Mapping[str, Any]:
    """The model packs by its own list of canvases."""
    assert isinstance(picture.tiling, Anyres)
    return {"image_grid_pinpoints": [list(canvas) for canvas in picture.tiling.pinpoints]}


def _is_canvas(pair: Any, tile_px: int) -> bool:
    return (
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and all(type(v) is int and v > 0 and v % tile_px == 0 for v in pair)
    )


LLAVA_NEXT = Family(
    "llava_next",
    "LLaVA-NeXT",
    tower=_tower,
    connector=two_linears,
    feature=llava.feature,
    picture=_picture,
    modules=llava.MODULES,
    image_token_id=32000,
    learned=NEWLINE,
    reference=reference,
    configure=configure,
)
