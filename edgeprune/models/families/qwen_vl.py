"""What the three generations of Qwen-VL share: free sizes that become a few grids, merged patches, positions of three axes.

Hub folders are flat (what belongs to the language model stands at the root of config.json), newer ones are nested; tensors have two spellings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from edgeprune.models.config.processor import CLIP_MEAN, CLIP_STD, ProcessorFiles, colour
from edgeprune.models.config.section import Section
from edgeprune.models.families.base import Family, ModulePaths
from edgeprune.models.families.common import part
from edgeprune.models.grids import having, step_px
from edgeprune.models.spec import ConnectorSpec, DecoderSpec, DeepstackSpec, TowerSpec
from edgeprune.models.towers.base import TowerKind
from edgeprune.models.towers.qwen_vit import blocks
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.spec import Coordinates, PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import Grids, Placement, TileSpec, sizes_for

#: Visual tokens of a picture where nobody says how many: a quarter of a megapixel, what a board can do.
TOKENS = 256
_CLASSES: Mapping[str, Mapping[str, Any]] = {
    "Qwen2VLImageProcessor": {
        "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
}
_EPS = 1e-6  # of the connectors' norms
_RENAMES = (
    (r"^(?:model\.)?visual\.merger\.(?:ln_q|norm)\.", "multi_modal_projector.layer_norm."),
    (r"^(?:model\.)?visual\.merger\.(?:mlp\.0|linear_fc1)\.", "multi_modal_projector.linear_1."),
    (r"^(?:model\.)?visual\.merger\.(?:mlp\.2|linear_fc2)\.", "multi_modal_projector.linear_2."),
    (r"^(?:model\.)?visual\.deepstack_merger_list\.(\d+)\.norm\.", r"deepstack.\1.layer_norm."),
    (r"^(?:model\.)?visual\.deepstack_merger_list\.(\d+)\.linear_fc([12])\.", r"deepstack.\1.linear_\2."),
    (r"^(?:model\.)?visual\.", "vision_tower."),
    (r"^model\.(?=(?:layers|embed_tokens|norm)\.)", "language_model."),
)


def family(
    name: str,
    title: str,
    tower: TowerKind,
    norm: Literal["layer", "rms"],
    width: str,
    coordinates: Coordinates,
    *,
    deepstack: bool = False,
) -> Family:
    """One generation.

    norm   kind of the connector's norm
    width  key in vision_config of the connector's outputs
    """
    return Family(
        name,
        title,
        tower=lambda config: tower.read(part(config, "vision_config")),
        connector=_connector(norm, width),
        feature=lambda config, tower: tower.layers - 1,
        picture=_picture(name, coordinates),
        modules=ModulePaths(
            "model.visual",
            "model.visual.merger",
            "model.language_model",
            deepstack="model.visual.deepstack_merger_list" if deepstack else None,
        ),
        image_token_id=151655,
        renames=_RENAMES,
        foreign=(f"{name}_moe",),
        refuse=_refuse,
        reference=_reference,
        text=_text(name),
        rows=True,
        deepstack=_deepstack if deepstack else lambda config, connector: (),
    )


def _refuse(config: Section) -> None:
    kind = config.text("model_type")
    if kind.endswith("_moe"):
        raise CheckpointError(
            f"config.json.model_type is {kind!r}, whose layers choose among experts; expected a dense model; take one of the same family"
        )


def _text(name: str) -> Callable[[Section], Section]:
    def read(config: Section) -> Section:
        kind = f"{name}_text"
        if not config.has("text_config"):
            return Section(config.where, {**config.values, "model_type": kind})
        text = config.section("text_config")
        return text if text.has("model_type") else Section(text.where, {**text.values, "model_type": kind})

    return read


def _connector(norm: Literal["layer", "rms"], width: str) -> Callable[[Section, TowerSpec, DecoderSpec], ConnectorSpec]:
    def read(config: Section, tower: TowerSpec, decoder: DecoderSpec) -> ConnectorSpec:
        vision = part(config, "vision_config")
        if vision.integer(width, 3584) != decoder.hidden:
            raise vision.refuse(width, f"{decoder.hidden}, the width of the language model")
        merge = vision.integer("spatial_merge_size", 2)
        inner = tower.hidden * merge**2
        return ConnectorSpec(
            tower.hidden, decoder.hidden, merge=merge, norm="before", norm_kind=norm, eps=_EPS, inner=inner
        )

    return read


def _deepstack(config: Section, connector: ConnectorSpec) -> tuple[DeepstackSpec, ...]:
    vision = part(config, "vision_config")
    where = blocks(vision, "deepstack_visual_indexes", (8, 16, 24), vision.integer("depth", 27))
    if list(where) != sorted(set(where)):
        raise vision.refuse("deepstack_visual_indexes", "ascending block numbers")
    own = replace(connector, norm="after", norm_kind="layer")
    return tuple(DeepstackSpec(block, own) for block in where)


def _picture(
    name: str, coordinates: Coordinates
) -> Callable[[Section, ProcessorFiles, TowerSpec, ConnectorSpec], PictureSpec]:
    def read(config: Section, files: ProcessorFiles, tower: TowerSpec, connector: ConnectorSpec) -> PictureSpec:
        section = files.settings(_CLASSES, "Qwen2VLImageProcessor", name)
        for key, wanted in (
            ("patch_size", tower.patch_px),
            ("temporal_patch_size", tower.frames),
            ("merge_size", connector.merge),
        ):
            if section.integer(key) != wanted:
                raise section.refuse(key, f"{wanted}, as config.json has it")
        if not section.flag("do_normalize", True) or not section.flag("do_rescale", True):
            raise section.refuse("do_normalize", "true, and do_rescale too")
        tile = TileSpec(
            px=tower.patch_px * connector.merge,
            patches=connector.merge,
            mean=colour(section, "image_mean"),
            std=colour(section, "image_std"),
            merge=connector.merge,
            rescale=section.number("rescale_factor", 1 / 255),
            resample=section.integer("resample", least=0),
        )
        sequence = SequenceSpec(positions="canvas")
        sizes = sizes_for(TOKENS, tile.unit_px, step_px(tower, connector))
        return having(PictureSpec(tile, Grids(()), sequence, coordinates), sizes)

    return read


def _reference(picture: PictureSpec, place: Placement) -> Mapping[str, Any]:
    """The picture is resized before: the processor's own choice is any size."""
    return {"do_resize": False}
