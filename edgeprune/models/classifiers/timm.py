"""timm's classifiers: what their tensors and their config.json say.

timm's config.json names an architecture whose sizes stand in timm's code, so they are read from the tensors, and only the number of
heads, which no tensor shows, from the name. Blocks of different widths (a pruned model) are seen as such.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from edgeprune.models.config.processor import colour
from edgeprune.models.config.section import Section
from edgeprune.models.spec import ClassifierSpec, TowerSpec, Width
from edgeprune.models.weights.stored import DOWNLOAD_AGAIN
from edgeprune.models.weights.tensors import Parts
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Single, TileSpec

_HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16, "giant": 16, "gigantic": 16}
_PLAIN = re.compile(rf"^(?:vit|deit)_({'|'.join(_HEADS)})_patch\d+_\d+$")
_HEAD_DIM = 64
_EPS = 1e-6
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
#: Arguments of timm's model class that the tensors show as well, or that training alone needs.
_SHOWN = {"img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "qkv_bias"}
_SHOWN |= {"drop_rate", "proj_drop_rate", "pos_drop_rate", "attn_drop_rate", "drop_path_rate", "weight_init"}


def bare_classifier(parts: Mapping[str, Parts], source: str) -> ClassifierSpec:
    """A classifier of which there are only tensors; see `open_classifier` for what is taken for granted."""
    hidden = _shape(parts, "tower.patch.weight", 4)[0]
    if hidden % _HEAD_DIM:
        raise CheckpointError(
            f"{_stored_name(parts, 'tower.patch.weight')} has {hidden} rows; expected a multiple of {_HEAD_DIM}, the width of a head that "
            "is assumed for a bare file; give a folder with a config.json instead"
        )
    tower = _tower(parts, hidden // _HEAD_DIM)
    half, px = (0.5, 0.5, 0.5), tower.image_px
    picture = PictureSpec(TileSpec(px, tower.patches, half, half), Single(resize_exact=(px, px)))
    return ClassifierSpec(tower, _shape(parts, "classifier.weight", 2)[0], picture, None, source)


def timm_classifier(parts: Mapping[str, Parts], config: Section, source: str) -> ClassifierSpec:
    """A classifier in a timm folder."""
    arguments = config.section("model_args") if config.has("model_args") else Section("model_args", {})
    if more := sorted(set(arguments.values) - _SHOWN):
        raise arguments.refuse(more[0], "no such argument (it changes the model, and edgeprune knows plain ViTs only)")
    if config.has("global_pool") and config.text("global_pool") != "token":
        raise config.refuse("global_pool", "'token' (the class token's row goes to the head)")
    tower = _tower(parts, _heads(config, arguments))
    settings = _settings(config)
    classes = _shape(parts, "classifier.weight", 2)[0]
    # As in timm's loader, config.json's own values stand above those of pretrained_cfg, which may be the base model's.
    said = config if "num_classes" in config.values else settings
    if said.integer("num_classes", classes, least=0) != classes:
        raise said.refuse("num_classes", f"{classes}, the rows of head.weight")
    return ClassifierSpec(tower, classes, _picture(settings, tower), _labels(config, settings, classes), source)


def _settings(config: Section) -> Section:
    """The section pretrained_cfg; older timm wrote its values beside the architecture."""
    known = config.section("pretrained_cfg") if config.has("pretrained_cfg") else config
    return known if known.values else config


def _heads(config: Section, arguments: Section) -> int:
    name = config.text("architecture").partition(".")[0]
    found = _PLAIN.match(name)
    if found is None:
        raise config.refuse(
            "architecture", f"vit or deit, a size ({', '.join(_HEADS)}) and patch, such as vit_tiny_patch16_224"
        )
    return arguments.integer("num_heads", _HEADS[found[1]])


def _tower(parts: Mapping[str, Parts], heads: int) -> TowerSpec:
    hidden, _, patch_px, _ = _shape(parts, "tower.patch.weight", 4)
    if not patch_px or not hidden or hidden % heads:
        raise CheckpointError(
            f"{_stored_name(parts, 'tower.patch.weight')} has shape {[hidden, 3, patch_px, patch_px]}; expected a width that {heads} heads "
            f"share equally; {DOWNLOAD_AGAIN}"
        )
    widths = _widths(parts, hidden // heads)
    mlp = max(width.mlp for width in widths)
    positions = math.prod(_shape(parts, "tower.position", 3)[:2])
    patches = math.isqrt(max(positions - 1, 0))
    if not patches or patches**2 != positions - 1:
        raise CheckpointError(
            f"{_stored_name(parts, 'tower.position')} has {positions} rows; expected one for the class token and a square of patches; "
            "choose a plain ViT or DeiT"
        )
    return TowerSpec(
        kind="vit",
        layers=len(widths),
        hidden=hidden,
        heads=heads,
        head_dim=hidden // heads,
        mlp=mlp,
        image_px=patches * patch_px,
        patch_px=patch_px,
        activation="gelu",
        eps=_EPS,
        qkv_bias="tower.0.q.bias" in parts,
        prefix_tokens=1,
        widths=widths if any(width != Width(heads, mlp) for width in widths) else (),
    )


def _widths(parts: Mapping[str, Parts], head_dim: int) -> tuple[Width, ...]:
    """Heads and MLP width of every block. A gap in the numbers shows later, as a missing tensor."""
    blocks = {found[1] for name in parts if (found := re.match(r"tower\.(\d+)\.", name))}
    widths = []
    for i in range(max(len(blocks), 1)):
        rows = _shape(parts, f"tower.{i}.q.weight", 2)[0]
        if not rows or rows % head_dim:
            raise CheckpointError(
                f"{_stored_name(parts, f'tower.{i}.q.weight')} has {rows} query rows; expected whole heads of {head_dim}; {DOWNLOAD_AGAIN}"
            )
        widths.append(Width(rows // head_dim, max(_shape(parts, f"tower.{i}.fc1.weight", 2)[0], 1)))
    return tuple(widths)


def _picture(settings: Section, tower: TowerSpec) -> PictureSpec:
    """timm's evaluation transform: the short side, or both, to P / crop_pct, then the centre.

    The crop starts at a whole pixel, rounded down as in transformers; timm rounds to even, which is one pixel more at times.
    """
    px = tower.image_px
    if settings.values.get("input_size", [3, px, px]) != [3, px, px]:
        raise settings.refuse("input_size", f"[3, {px}, {px}], which the position table was made for")
    crop = settings.number("crop_pct", 0.875)
    if crop > 1:
        raise settings.refuse("crop_pct", "a share of at most 1")
    resized = math.floor(px / crop)
    ways = {"center": Single(resize_shortest=resized), "squash": Single(resize_exact=(resized, resized))}
    way, filtered = settings.text("crop_mode", "center"), settings.text("interpolation", "bicubic")
    if way not in ways:
        raise settings.refuse("crop_mode", f"one of {', '.join(ways)}")
    if filtered not in _FILTERS:
        raise settings.refuse("interpolation", f"one of {', '.join(_FILTERS)}")
    tile = TileSpec(px, tower.patches, colour(settings, "mean"), colour(settings, "std"), resample=_FILTERS[filtered])
    return PictureSpec(tile, ways[way])


def _labels(config: Section, settings: Section, classes: int) -> tuple[str, ...] | None:
    """Names of the classes where the file lists them; timm's own tables of ImageNet are not part of it."""
    older = config.values.get("labels") if settings is config else None
    names = config.values.get("label_names", settings.values.get("label_names")) or older
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != classes or not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            f"config.json.label_names is no list of {classes} names; expected one for each class; remove or correct it"
        )
    return tuple(names)


def _stored_name(parts: Mapping[str, Parts], name: str) -> str:
    return parts[name][0].name


def _shape(parts: Mapping[str, Parts], name: str, rank: int) -> tuple[int, ...]:
    """Shape of a tensor that the description needs, of the given rank."""
    if name not in parts:
        raise CheckpointError(
            f"{name} is missing from the weights; expected a ViT classifier with timm's names; {DOWNLOAD_AGAIN}"
        )
    tensor = parts[name][0]
    if len(tensor.shape) != rank:
        raise CheckpointError(
            f"{tensor.name} has shape {list(tensor.shape)}; expected {rank} dimensions; {DOWNLOAD_AGAIN}"
        )
    return tensor.shape
