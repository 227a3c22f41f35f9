"""Image processor files: how pictures become tiles, as the checkpoint's own processor does it.

transformers 4 writes preprocessor_config.json; transformers 5 writes the same object into processor_config.json under
"image_processor", which wins where both exist. Only settings that lead to tiles of one fixed size are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.models.config.section import Section, json_object
from edgeprune.models.spec import TowerSpec
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Single, TileSpec

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
#: What CLIP's processor, and those made after it, do with a key that the file leaves out.
CLIP_DEFAULTS: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}
_SQUASH: dict[str, Any] = {"size": {"height": 224, "width": 224}, "do_center_crop": False, "resample": 2}
_FILES = ("processor_config.json", "preprocessor_config.json")
#: Classes that read an integer size as both sides of a square; to the others it is the shortest edge.
_SQUARE = ("ViTImageProcessor", "DeiTImageProcessor")
#: Processor classes that make one tile of a picture, and their defaults.
SINGLE: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": CLIP_DEFAULTS,
    "BitImageProcessor": CLIP_DEFAULTS,
    "ViTImageProcessor": {**_SQUASH, "image_mean": HALF, "image_std": HALF},
    "SiglipImageProcessor": {**_SQUASH, "resample": 3, "image_mean": HALF, "image_std": HALF},
    "DeiTImageProcessor": {
        "size": {"height": 256, "width": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
    },
}


@dataclass(frozen=True)
class ProcessorFiles:
    """The image processor files of one checkpoint folder; `given` stands in their place where there is no folder."""

    folder: Path
    given: Section | None = None

    def settings(self, classes: Mapping[str, Mapping[str, Any]], default: str, what: str) -> Section:
        """The settings, with what their processor class, `default` if none is named, does where the file is silent.

        classes  the processor classes that `what` may have, and their defaults
        """
        section = self.stored()
        if section is None:
            raise CheckpointError(
                f"{self.folder} has no image processor settings; expected {_FILES[1]}, or {_FILES[0]} with an image_processor; "
                "copy it from the original model"
            )
        return with_defaults(section, classes, default, what)

    def stored(self) -> Section | None:
        """The settings as they are stored, or None."""
        if self.given is not None:
            return self.given
        new, old = (self.folder / name for name in _FILES)
        if new.is_file() and "image_processor" in (values := json_object(new)):
            return Section(new.name, values).section("image_processor")
        return Section(old.name, json_object(old)) if old.is_file() else None


def with_defaults(section: Section, classes: Mapping[str, Mapping[str, Any]], default: str, what: str) -> Section:
    """Settings as `ProcessorFiles.settings` gives them."""
    name = section.text("image_processor_type", section.text("feature_extractor_type", default))
    plain = re.sub(r"FeatureExtractor$", "ImageProcessor", re.sub(r"(Fast|Pil)$", "", name))
    if plain not in classes:
        raise section.refuse("image_processor_type", f"one of {', '.join(sorted(classes))} for {what}")
    values = {**classes[plain], **{key: value for key, value in section.values.items() if value is not None}}
    if plain in _SQUARE and type(values["size"]) is int:
        values["size"] = dict.fromkeys(("height", "width"), values["size"])
    return Section(section.where, values)


def classifier_picture(folder: Path, tower: TowerSpec) -> PictureSpec:
    """How pictures become the one tile of a classifier; without a file, as the image processor of the tower's kind does it."""
    deit = tower.prefix_tokens == 2
    stored = ProcessorFiles(folder).stored()
    if stored is None:
        tile = {"height": tower.image_px, "width": tower.image_px}
        # DeiT is shown the middle of a larger square: 224 of 256, and in proportion for other sizes.
        whole = dict.fromkeys(tile, round(tower.image_px * 256 / 224)) if deit else tile
        stored = Section("the default image processor", {"size": whole, "crop_size": tile})
    section = with_defaults(stored, SINGLE, "DeiTImageProcessor" if deit else "ViTImageProcessor", "classifiers")
    return PictureSpec(tile_spec(section, tower), single_rule(section, tower.image_px))


def tile_spec(section: Section, tower: TowerSpec, merge: int = 1) -> TileSpec:
    """What all ways of making tiles share; the tile must be the size that the tower was built for."""
    if section.has("do_resize") and not section.flag("do_resize", True):
        raise section.refuse("do_resize", "true (tiles of one fixed size)")
    normalised = section.flag("do_normalize", True)
    resample = section.integer("resample", least=0)
    if resample > 5:
        raise section.refuse("resample", "a Pillow filter, 0 to 5")
    return TileSpec(
        px=tower.image_px,
        patches=tower.patches,
        mean=colour(section, "image_mean") if normalised else (0.0, 0.0, 0.0),
        std=colour(section, "image_std") if normalised else (1.0, 1.0, 1.0),
        merge=merge,
        extra=tower.prefix_tokens - tower.class_tokens,  # the class token alone is dropped
        rescale=section.number("rescale_factor", 1 / 255) if section.flag("do_rescale", True) else 1.0,
        resample=resample,
    )


def colour(section: Section, key: str) -> tuple[float, float, float]:
    """Red, green and blue under `key`, one number standing for three; a standard deviation must be positive."""
    value = section.values.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value] * 3
    if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(type(part) in (int, float) for part in value):
        raise section.refuse(key, "three numbers, red, green, blue")
    if key.endswith("std") and not all(part > 0 for part in value):
        raise section.refuse(key, "three positive numbers")
    red, green, blue = (float(part) for part in value)
    return red, green, blue


def sides(section: Section, key: str) -> tuple[int, int] | int:
    """(height, width), or one integer for the shortest edge."""
    value = section.values.get(key)
    if type(value) is int and value > 0:
        return value
    if isinstance(value, dict):
        sides = {name: side for name, side in value.items() if side is not None}
        if all(type(side) is int and side > 0 for side in sides.values()):
            if set(sides) == {"shortest_edge"}:
                return int(sides["shortest_edge"])
            if set(sides) == {"height", "width"}:
                return sides["height"], sides["width"]
    raise section.refuse(key, "pixels: an integer, a shortest_edge, or height and width")


def single_rule(section: Section, tile_px: int, *, pad_to_square: bool = False) -> Single:
    """Resize, then crop the centre; what comes out must be the tower's tile for every picture."""
    whole = sides(section, "size")
    key = "crop_size" if section.flag("do_center_crop", False) else "size"
    final = sides(section, key)
    if final != (tile_px, tile_px) and (key == "size" or final != tile_px):
        raise section.refuse(key, f"{tile_px} x {tile_px}, the image size of the vision tower")
    if isinstance(whole, int):
        return Single(resize_shortest=whole, pad_to_square=pad_to_square)
    return Single(resize_exact=whole, pad_to_square=pad_to_square)
