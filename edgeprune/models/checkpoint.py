"""Open a LLaVA checkpoint: everything checked, nothing loaded.

Reads configuration files and safetensors headers only; neither torch nor transformers is needed. What transformers
would accept silently and answer wrongly (a missing tensor, a negative layer count, a foreign model type) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeprune.models.config.preprocess import preprocess_from_folder
from edgeprune.models.config.prompting import prompting_from_folder
from edgeprune.models.config.section import REPAIR, Section, config_of_folder, refuse_quantised
from edgeprune.models.config.structure_key import widths_from_config
from edgeprune.models.decoders.read import decoder_from_config
from edgeprune.models.source import resolve_source
from edgeprune.models.spec import Family, ModelSpec, ProjectorSpec, Width
from edgeprune.models.towers.read import activation, feature_block, require_selection, tower_from_config
from edgeprune.models.weights.shapes import later_tensors, needed_tensors
from edgeprune.models.weights.shards import tensors_of_folder, weight_bytes_on_disk
from edgeprune.models.weights.stored import StoredTensor
from edgeprune.models.weights.tensors import Parts, Weights, checked_weights, named_parts
from edgeprune_runtime.errors import CheckpointError

FAMILIES: tuple[Family, ...] = ("llava_next", "llava")


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


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint folder or hub id. Raises CheckpointError, in one sentence, for anything not supported."""
    folder = resolve_source(path)
    config = config_of_folder(folder)
    family = _family(config)
    vision, text = _part(config, "vision_config"), _part(config, "text_config")
    refuse_quantised(config, text, vision)
    tower = tower_from_config(vision, family)
    tower = replace(tower, widths=widths_from_config(config, "tower", tower.layers, Width(tower.heads, tower.mlp)))
    require_selection(config, tower)
    feature_layer = feature_block(config, tower.layers)
    tensors = tensors_of_folder(folder)
    parts = named_parts(tensors)
    parts, tied = _tied_head(parts, config, text)
    language = decoder_from_config(text, tied=tied)
    most = Width(language.kv_heads, language.mlp)
    language = replace(language, widths=widths_from_config(config, "language", language.layers, most))
    projector = ProjectorSpec(
        inputs=tower.hidden,
        outputs=language.hidden,
        activation=activation(config, "projector_hidden_act", "gelu"),
        bias=config.flag("multimodal_projector_bias", True),
    )
    image_token_id = _image_token_id(config)
    prompting = prompting_from_folder(folder, config, text, image_token_id, language.vocab)
    spec = ModelSpec(
        family=family,
        vision=tower,
        projector=projector,
        language=language,
        image_token_id=image_token_id,
        bos_token_id=prompting.bos_token_id,
        eos_token_ids=prompting.eos_token_ids,
        preprocess=preprocess_from_folder(folder, config, family, tower),
        feature_layer=feature_layer,
        prefix_tokens=tower.prefix_tokens,
        source=str(path),
    )
    later = {name: shape for name, shape in later_tensors(tower, feature_layer).items() if name in parts}
    weights = checked_weights(needed_tensors(family, tower, projector, language, feature_layer) | later, parts)
    return Checkpoint(
        path=folder,
        spec=spec,
        weights=weights,
        chat_template=prompting.chat_template,
        special_tokens=prompting.special_tokens,
        image_token=prompting.image_token,
        weight_bytes=weight_bytes_on_disk(tensors),
    )


def _family(config: Section) -> Family:
    kind = config.text("model_type")
    for family in FAMILIES:
        if family == kind:
            return family
    raise CheckpointError(
        f"config.json.model_type is {kind!r}; supported are {' and '.join(FAMILIES)} (LLaVA-NeXT and LLaVA-1.5); "
        "choose a checkpoint of one of these"
    )


def _part(config: Section, key: str) -> Section:
    if not config.has(key):
        # transformers would fill in its default here, a model of 7 billion parameters unrelated to the weights.
        raise CheckpointError(
            f"config.json has no {key}; expected an object that describes this part of the model; {REPAIR}"
        )
    return config.section(key)


def _image_token_id(config: Section) -> int:
    key = "image_token_id" if config.has("image_token_id") else "image_token_index"
    return config.integer(key, 32000, least=0)


def _tied_head(parts: Mapping[str, Parts], config: Section, text: Section) -> tuple[dict[str, Parts], bool]:
    """Decide from configuration and files whether the head is the embedding table; a doubled head is dropped.

    As in transformers: where both tables are stored, they are tied only if the configuration says so and both agree.
    """
    said = config.flag("tie_word_embeddings", False) or text.flag("tie_word_embeddings", False)
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
