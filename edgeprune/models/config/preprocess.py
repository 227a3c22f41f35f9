"""From the image processor file of a LLaVA checkpoint or a classifier to the runtime's `Preprocess`.

transformers 4 writes preprocessor_config.json; transformers 5 writes the same object into processor_config.json under
"image_processor", which wins where both exist. Only settings that lead to tiles of one fixed size are accepted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgeprune.models.config.section import REPAIR, Section, json_object
from edgeprune.models.spec import Family, TowerSpec
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.spec import Preprocess

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
_CLIP: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": _CLIP_MEAN,
    "image_std": _CLIP_STD,
}
_SQUASH: dict[str, Any] = {"size": {"height": 224, "width": 224}, "do_center_crop": False, "resample": 2}
_FILES = ("processor_config.json", "preprocessor_config.json")
#: Classes that read an integer size as both sides of a square; to the others it is the shortest edge.
_SQUARE = ("ViTImageProcessor", "DeiTImageProcessor")
#: What each processor class does with a key that the file leaves out.
_CLASSES: dict[str, dict[str, Any]] = {
    "LlavaNextImageProcessor": {**_CLIP, "image_grid_pinpoints": _PINPOINTS},
    "LlavaImageProcessor": _CLIP,
    "CLIPImageProcessor": _CLIP,
    "BitImageProcessor": _CLIP,
    "ViTImageProcessor": {**_SQUASH, "image_mean": _HALF, "image_std": _HALF},
    "SiglipImageProcessor": {**_SQUASH, "resample": 3, "image_mean": _HALF, "image_std": _HALF},
    "DeiTImageProcessor": {
        "size": {"height": 256, "width": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
    },
}


def preprocess_from_folder(folder: Path, config: Section, family: Family, tower: TowerSpec) -> Preprocess:
    """Read and check how pictures become tiles; the tile must be the size that the tower was built for."""
    section = _llava_section(folder, family)
    common = _common(section, tower)
    if family == "llava":
        return Preprocess(anyres=False, pinpoints=(), **_single_tile(section, tower.image_px), **common)
    _refuse_other_tiles(section, tower.image_px)
    return Preprocess(anyres=True, pinpoints=_pinpoints(section, config, tower.image_px), **common)


def classifier_preprocess(folder: Path, tower: TowerSpec) -> Preprocess:
    """How pictures become the one tile of a classifier; without a file, as the image processor of the tower's kind does it."""
    plain = "DeiTImageProcessor" if tower.kind == "deit" else "ViTImageProcessor"
    stored = _stored_section(folder)
    if stored is None:
        tile = {"height": tower.image_px, "width": tower.image_px}
        # DeiT is shown the middle of a larger square: 224 of 256, and in proportion for other sizes.
        whole = dict.fromkeys(tile, round(tower.image_px * 256 / 224)) if tower.kind == "deit" else tile
        stored = Section("the default image processor", {"size": whole, "crop_size": tile})
    usable = [name for name in _CLASSES if not name.startswith("Llava")]
    section = _with_defaults(stored, plain, usable, "classifiers")
    return Preprocess(anyres=False, pinpoints=(), **_single_tile(section, tower.image_px), **_common(section, tower))


def _common(section: Section, tower: TowerSpec) -> dict[str, Any]:
    """What all ways of making tiles share."""
    if section.has("do_resize") and not section.flag("do_resize", True):
        raise section.refuse("do_resize", "true (tiles of one fixed size)")
    common: dict[str, Any] = {
        "tile_px": tower.image_px,
        "patches": tower.patches,
        "mean": colour(section, "image_mean") if section.flag("do_normalize", True) else (0.0, 0.0, 0.0),
        "std": colour(section, "image_std") if section.flag("do_normalize", True) else (1.0, 1.0, 1.0),
        "rescale": section.number("rescale_factor", 1 / 255) if section.flag("do_rescale", True) else 1.0,
        "resample": section.integer("resample", least=0),
        "extra_tokens": tower.prefix_tokens - tower.class_tokens,  # LLaVA drops the class token only
    }
    if common["resample"] > 5:
        raise section.refuse("resample", "a Pillow filter, 0 to 5")
    return common


def _stored_section(folder: Path) -> Section | None:
    new, old = (folder / name for name in _FILES)
    if new.is_file() and "image_processor" in (values := json_object(new)):
        return Section(new.name, values).section("image_processor")
    return Section(old.name, json_object(old)) if old.is_file() else None


def _llava_section(folder: Path, family: Family) -> Section:
    section = _stored_section(folder)
    if section is None:
        raise CheckpointError(
            f"{folder} has no image processor settings; expected {_FILES[1]}, or {_FILES[0]} with an image_processor; "
            "copy it from the original model"
        )
    default = "LlavaNextImageProcessor" if family == "llava_next" else "CLIPImageProcessor"
    usable = [name for name in _CLASSES if (name == "LlavaNextImageProcessor") == (family == "llava_next")]
    return _with_defaults(section, default, usable, family)


def _with_defaults(section: Section, default: str, usable: list[str], what: str) -> Section:
    """The settings with what their processor class, `default` if none is named, does where the file is silent."""
    name = section.text("image_processor_type", section.text("feature_extractor_type", default))
    plain = re.sub(r"FeatureExtractor$", "ImageProcessor", re.sub(r"(Fast|Pil)$", "", name))
    if plain not in usable:
        raise section.refuse("image_processor_type", f"one of {', '.join(sorted(usable))} for {what}")
    values = {**_CLASSES[plain], **{key: value for key, value in section.values.items() if value is not None}}
    if plain in _SQUARE and type(values["size"]) is int:
        values["size"] = dict.fromkeys(("height", "width"), values["size"])
    # Other classes have a do_pad of another meaning; only LLaVA's own pads a picture to a square.
    return Section(section.where, {**values, "do_pad": values.get("do_pad") is True and plain == "LlavaImageProcessor"})


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


def _pinpoints(section: Section, config: Section, tile_px: int) -> tuple[tuple[int, int], ...]:
    """The grids; processor (tiling) and model (packing) each read their own file, so both must say the same."""
    lists = []
    for holder in (section, config):
        value = holder.values.get("image_grid_pinpoints") or _PINPOINTS
        if not isinstance(value, (list, tuple)) or not all(_is_grid(pair, tile_px) for pair in value):
            raise holder.refuse(
                "image_grid_pinpoints", f"pairs [height, width], each a multiple of the tile, {tile_px}"
            )
        lists.append(tuple((pair[0], pair[1]) for pair in value))
    if lists[0] != lists[1]:
        raise CheckpointError(
            f"image_grid_pinpoints differ: {section.where} has {list(lists[0])}, config.json has {list(lists[1])}; "
            f"expected the same list in the same order; {REPAIR}"
        )
    return lists[0]


def _is_grid(pair: Any, tile_px: int) -> bool:
    return (
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and all(type(v) is int and v > 0 and v % tile_px == 0 for v in pair)
    )


def _sides(section: Section, key: str) -> tuple[int, int] | int:
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


def _refuse_other_tiles(section: Section, tile_px: int) -> None:
    """LLaVA-NeXT cuts tiles of the final size: its resize and crop of each tile must change nothing."""
    for key in ("size", "crop_size"):
        if _sides(section, key) not in (tile_px, (tile_px, tile_px)):
            raise section.refuse(key, f"{tile_px}, the image size of the vision tower")


def _single_tile(section: Section, tile_px: int) -> dict[str, Any]:
    """LLaVA-1.5 resizes, then crops the centre; what comes out must be the tower's tile for every picture."""
    sides = _sides(section, "size")
    key = "crop_size" if section.flag("do_center_crop", False) else "size"
    final = _sides(section, key)
    if final != (tile_px, tile_px) and (key == "size" or final != tile_px):
        raise section.refuse(key, f"{tile_px} x {tile_px}, the image size of the vision tower")
    resize = {"resize_shortest": sides} if isinstance(sides, int) else {"resize_exact": sides}
    return {**resize, "pad_to_square": section.flag("do_pad", False)}
