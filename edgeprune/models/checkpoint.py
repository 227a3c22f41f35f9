"""Open a vision-language checkpoint: everything checked, nothing loaded.

Reads configuration files and safetensors headers only; neither torch nor transformers is needed. What transformers
would accept silently and answer wrongly (a missing tensor, a negative layer count, a foreign model type) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeprune.models import grids
from edgeprune.models.config.processor import ProcessorFiles
from edgeprune.models.config.prompting import prompting_from_folder, with_text_tokens
from edgeprune.models.config.section import (
    REPAIR,
    Section,
    config_of_folder,
    refuse_quantised,
    sees_pictures,
    text_alone,
)
from edgeprune.models.config.structure_key import widths_from_config
from edgeprune.models.decoders import decoder_from_config
from edgeprune.models.families import FAMILIES, Family
from edgeprune.models.families.common import part
from edgeprune.models.source import resolve_source
from edgeprune.models.spec import ModelSpec, Width
from edgeprune.models.weights.shapes import later_tensors, needed_tensors
from edgeprune.models.weights.shards import tensors_of_folder, weight_bytes_on_disk
from edgeprune.models.weights.stored import StoredTensor
from edgeprune.models.weights.tensors import Parts, Weights, checked_weights, named_parts, require_layers
from edgeprune_runtime.checks.pictures import picture_faults
from edgeprune_runtime.errors import CheckpointError


@dataclass(frozen=True)
class Checkpoint:
    """A source model: what it is (`spec`), its `weights`, and its text side. `path` is the folder read."""

    path: Path
    spec: ModelSpec
    weights: Weights
    chat_template: str | None
    special_tokens: Mapping[str, str]
    image_token: str
    weight_bytes: int  # size of the weight files on disk
    family: Family
    remarks: tuple[str, ...] = ()  # sentences for the user about what was chosen


def open_checkpoint(
    path: str | Path,
    family: Family | None = None,
    tiles: int | None = None,
    sizes: grids.Sizes | None = None,
    tokens: int | None = None,
) -> Checkpoint:
    """Open a checkpoint folder or hub id. Raises CheckpointError, in one sentence, for anything not supported.

    family  how to read it; None: as the family that its config.json names
    tiles   show a picture on at most so many tiles beside the overview, 0: on one; None: as its processor does
    sizes, tokens  where the model takes any size: grids (height, width in pixels) or visual tokens that a picture gets; see `grids.chosen`
    """
    folder = resolve_source(path)
    config = config_of_folder(folder)
    family = family or _family(config)
    family.refuse(config)
    text = family.text(config)
    refuse_quantised(config, text, part(config, "vision_config"))
    tower = family.tower(config)
    tower = replace(tower, widths=widths_from_config(config, "tower", tower.layers, Width(tower.heads, tower.mlp)))
    feature_layer = family.feature(config, tower)
    tensors = tensors_of_folder(folder)
    require_layers(part(config, "vision_config"), tower.layers, tensors)
    require_layers(text, text.integer("num_hidden_layers", 32), tensors)
    parts = named_parts(tensors, family.title)
    if not tower.final_norm:
        parts = {name: stored for name, stored in parts.items() if not name.startswith("tower.norm.")}
    parts, tied = _tied_head(parts, config, text, family.tied)
    language = decoder_from_config(text, tied=tied)
    most = Width(language.kv_heads, language.mlp)
    language = replace(language, widths=widths_from_config(config, "language", language.layers, most))
    connector = family.connector(config, tower, language)
    deepstack = family.deepstack(config, connector)
    if len(deepstack) > language.layers:
        raise CheckpointError(
            f"config.json adds features behind {len(deepstack)} decoder layers, and there are {language.layers}; use files of one model"
        )
    tower = replace(tower, tapped=tuple(one.block for one in deepstack))
    language = replace(language, entered=len(deepstack))
    processor = ProcessorFiles(folder)
    picture = family.picture(config, processor, tower, connector)
    if fault := next(picture_faults(picture), None):
        raise CheckpointError(f"the image processor of {path} says {fault}; {REPAIR}")
    picture = grids.chosen(picture.limited(tiles), tower, connector, sizes, tokens)
    if picture.views:
        tower = replace(tower, image_px=picture.tile.px, view=picture.largest)
    image_token_id = _image_token_id(config, family.image_token_id)
    prompting = prompting_from_folder(folder, config, text, image_token_id, language.vocab)
    spec = ModelSpec(
        family=family.name,
        vision=tower,
        connector=connector,
        language=language,
        image_token_id=image_token_id,
        bos_token_id=prompting.bos_token_id,
        eos_token_ids=prompting.eos_token_ids,
        picture=with_text_tokens(picture, folder, prompting.image_token),
        feature_layer=feature_layer,
        source=str(path),
        learned=family.learned,
        deepstack=deepstack,
    )
    later = {name: shape for name, shape in later_tensors(tower, feature_layer).items() if name in parts}
    needed = needed_tensors(tower, connector, language, feature_layer, family.learned, deepstack)
    weights = checked_weights(needed | later, parts)
    return Checkpoint(
        path=folder,
        spec=spec,
        weights=weights,
        chat_template=prompting.chat_template,
        special_tokens=prompting.special_tokens,
        image_token=prompting.image_token,
        weight_bytes=weight_bytes_on_disk(tensors),
        family=family,
        remarks=grids.remarks(picture, processor.stored(), asked=sizes is not None or tokens is not None),
    )


def _family(config: Section) -> Family:
    kind = config.text("model_type")
    for family in map(FAMILIES.get, FAMILIES):
        if kind in (family.name, *family.foreign):
            return family
    if not sees_pictures(config):
        raise text_alone(config)
    known = ", ".join(f"{name} ({FAMILIES.get(name).title})" for name in FAMILIES)
    raise CheckpointError(
        f"config.json.model_type is {kind!r}; supported are {known}; "
        "choose a checkpoint of one of these, or give --family file.py:NAME"
    )


def _image_token_id(config: Section, default: int) -> int:
    key = "image_token_id" if config.has("image_token_id") else "image_token_index"
    return config.integer(key, default, least=0)


def _tied_head(
    parts: Mapping[str, Parts], config: Section, text: Section, default: bool
) -> tuple[dict[str, Parts], bool]:
    """Decide from configuration and files whether the head is the embedding table; a doubled head is dropped.

    As in transformers: where both tables are stored, they are tied only if the configuration says so and both agree.
    """
    said = config.flag("tie_word_embeddings", default) or text.flag("tie_word_embeddings", False)
    kept = dict(parts)
    head, embed = kept.get("head.weight"), kept.get("embed.weight")
    if not said:
        return kept, False
    if head is None or embed is None:
        if embed is None and head is not None:
            kept["embed.weight"] = kept.pop("head.weight")
        return kept, True
    tied = _equal(head[0], embed[0])
    if tied:
        del kept["head.weight"]
    return kept, tied


def _equal(one: StoredTensor, other: StoredTensor) -> bool:
    if (one.shape, one.kind) != (other.shape, other.kind) or not one.is_float:
        return False
    pairs = zip(one.chunks(0, one.size), other.chunks(0, other.size), strict=True)
    return all(np.array_equal(left, right, equal_nan=True) for left, right in pairs)
