"""Idefics3, and what SmolVLM shares with it: tiles by the longest edge with texts between them, patches merged, one linear layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeprune.models.config.processor import HALF, ProcessorFiles, tile_spec
from edgeprune.models.config.section import Section
from edgeprune.models.families.base import Family, ModulePaths
from edgeprune.models.families.common import part
from edgeprune.models.spec import ConnectorSpec, DecoderSpec, TowerSpec
from edgeprune.models.towers import siglip
from edgeprune.models.towers.base import TowerDefaults
from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import Placement, Split

_TOWER = TowerDefaults("siglip", 32, "gelu_pytorch_tanh", 1e-6, prefix_tokens=0, hidden=1152, heads=16, spare=True)
_PROCESSOR: Mapping[str, Any] = {
    "size": {"longest_edge": 4 * 364},
    "max_image_size": {"longest_edge": 364},
    "do_image_splitting": True,
    "resample": 1,
    "image_mean": HALF,
    "image_std": HALF,
}
_FAKE, _WHOLE = "<fake_token_around_image>", "<global-img>"
_SEQUENCE = SequenceSpec(
    overview="last",
    tile=_FAKE + "<row_{row}_col_{col}>",
    row="\n",
    whole=f"\n{_FAKE}{_WHOLE}",
    alone=_FAKE + _WHOLE,
    after=_FAKE,
)


def family(name: str, title: str, processor: str, image_token_id: int, *, embeds: bool = False) -> Family:
    """A family of this shape whose image processor class is `processor`."""
    return Family(
        name,
        title,
        tower=_tower(name),
        connector=_connector,
        feature=lambda config, tower: tower.layers - 1,
        picture=_picture(name, {processor: _PROCESSOR}),
        modules=ModulePaths(
            "model.vision_model", "model.connector.modality_projection", "model.text_model", norm="post_layernorm"
        ),
        image_token_id=image_token_id,
        renames=(
            (r"^model\.vision_model\.", "vision_tower."),
            (r"^model\.connector\.modality_projection\.proj\.", "multi_modal_projector.linear_1."),
            (r"^model\.text_model\.", "language_model."),
        ),
        reference=_reference,
        embeds=embeds,
    )


def _tower(name: str) -> Callable[[Section], TowerSpec]:
    def read(config: Section) -> TowerSpec:
        vision = part(config, "vision_config")
        usable = (f"{name}_vision", name, "siglip_vision_model")
        if vision.text("model_type", usable[0]) not in usable:
            raise vision.refuse("model_type", f"one of {', '.join(usable)}")
        return siglip.read(vision, _TOWER, final_norm=True)

    return read


def _connector(config: Section, tower: TowerSpec, decoder: DecoderSpec) -> ConnectorSpec:
    merge = config.integer("scale_factor", 2)
    if tower.patches % merge:
        raise config.refuse("scale_factor", f"a divisor of the {tower.patches} patches along a side of a tile")
    return ConnectorSpec(tower.hidden, decoder.hidden, bias=False, merge=merge, layers=1)


def _picture(
    name: str, classes: Mapping[str, Mapping[str, Any]]
) -> Callable[[Section, ProcessorFiles, TowerSpec, ConnectorSpec], PictureSpec]:
    def read(config: Section, files: ProcessorFiles, tower: TowerSpec, connector: ConnectorSpec) -> PictureSpec:
        section = files.settings(classes, next(iter(classes)), name)
        tile = tile_spec(section, tower, connector.merge)
        view = section.section("max_image_size").integer("longest_edge")
        if view != tile.px:
            raise section.refuse("max_image_size", f"a longest_edge of {tile.px}, the image size of the vision tower")
        longest = section.section("size").integer("longest_edge")
        split = section.flag("do_image_splitting", True)
        return PictureSpec(tile, Split(longest, None if split else 0), _SEQUENCE)

    return read


def _reference(picture: PictureSpec, place: Placement) -> Mapping[str, Any]:
    rule = picture.tiling
    assert isinstance(rule, Split)
    if rule.most == 0:
        return {"do_image_splitting": False}
    return {"do_image_splitting": True, "size": {"longest_edge": rule.edge(*place.size, picture.tile)}}


IDEFICS3 = family("idefics3", "Idefics3", "Idefics3ImageProcessor", 128257, embeds=True)
