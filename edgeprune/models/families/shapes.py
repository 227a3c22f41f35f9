"""Shapes of published models: what their config.json says, without weights, tokenizer or network, for questions that need no more.

Widths, depths and tiles are all that counting takes. The texts that some families write around their tiles are not counted: of the
models here, InternVL has two such tokens for a whole picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.models.config.processor import ProcessorFiles
from edgeprune.models.config.section import Section
from edgeprune.models.decoders import decoder_from_config
from edgeprune.models.families import FAMILIES
from edgeprune.models.families.common import part
from edgeprune.models.spec import ModelSpec
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.registry import unknown


class Shape(NamedTuple):
    """`config` and `processor`: the keys of config.json and of the image processor's file that decide sizes. `source`: the hub id."""

    source: str
    family: str
    config: Mapping[str, Any]
    processor: Mapping[str, Any]


_CLIP_L = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
_SO400M = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}


def _decoder(kind: str, hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, vocab: int) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
    }


def _onevision(text: dict[str, Any], tied: bool) -> dict[str, Any]:
    return {
        "model_type": "llava_onevision",
        "vision_config": _SO400M,
        "text_config": text,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": "anyres_max_9",
        "tie_word_embeddings": tied,
    }


_CLIP_336 = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
_SQUARE_384 = {"size": {"height": 384, "width": 384}}
#: By the name to call them by.
SHAPES: dict[str, Shape] = {
    "llava-1.5-7b": Shape(
        "llava-hf/llava-1.5-7b-hf",
        "llava",
        {
            "model_type": "llava",
            "vision_config": _CLIP_L,
            "text_config": _decoder("llama", 4096, 11008, 32, 32, 32, 32064),
            "vision_feature_layer": -2,
        },
        {"image_processor_type": "CLIPImageProcessor", **_CLIP_336},
    ),
    "llava-next-7b": Shape(
        "llava-hf/llava-v1.6-mistral-7b-hf",
        "llava_next",
        {
            "model_type": "llava_next",
            "vision_config": _CLIP_L,
            "text_config": _decoder("mistral", 4096, 14336, 32, 32, 8, 32064) | {"sliding_window": None},
            "vision_feature_layer": -2,
        },
        {"image_processor_type": "LlavaNextImageProcessor", **_CLIP_336},
    ),
    "llava-onevision-0.5b": Shape(
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "llava_onevision",
        _onevision(_decoder("qwen2", 896, 4864, 24, 14, 2, 152000), tied=True),
        {"image_processor_type": "LlavaOnevisionImageProcessor", **_SQUARE_384},
    ),
    "llava-onevision-7b": Shape(
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "llava_onevision",
        _onevision(_decoder("qwen2", 3584, 18944, 28, 28, 4, 152128), tied=False),
        {"image_processor_type": "LlavaOnevisionImageProcessor", **_SQUARE_384},
    ),
    "internvl3-1b": Shape(
        "OpenGVLab/InternVL3-1B-hf",
        "internvl",
        {
            "model_type": "internvl",
            "vision_config": {
                "model_type": "internvl_vision",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": [448, 448],
                "patch_size": [14, 14],
                "attention_bias": True,
                "use_mask_token": False,
                "norm_type": "layer_norm",
            },
            "text_config": _decoder("qwen2", 896, 4864, 24, 14, 2, 151674),
            "downsample_ratio": 0.5,
        },
        {
            "image_processor_type": "GotOcr2ImageProcessor",
            "size": {"height": 448, "width": 448},
            "crop_to_patches": True,
            "min_patches": 1,
            "max_patches": 12,
        },
    ),
}


def spec_of_shape(name: str, tiles: int | None = None) -> ModelSpec:
    """The model of this name, as `open_checkpoint` would read its folder. Raises CheckpointError for a name that is not here."""
    if name not in SHAPES:
        raise CheckpointError(unknown("shape", name, SHAPES))
    shape = SHAPES[name]
    family = FAMILIES.get(shape.family)
    config = Section("config.json", dict(shape.config))
    text = part(config, "text_config")
    tower = family.tower(config)
    language = decoder_from_config(text, tied=config.flag("tie_word_embeddings", family.tied))
    connector = family.connector(config, tower, language)
    files = ProcessorFiles(Path(shape.source), Section("preprocessor_config.json", dict(shape.processor)))
    return ModelSpec(
        family=family.name,
        vision=tower,
        connector=connector,
        language=language,
        image_token_id=family.image_token_id,
        bos_token_id=None,
        eos_token_ids=(),
        picture=family.picture(config, files, tower, connector).limited(tiles),
        feature_layer=family.feature(config, tower),
        source=shape.source,
        learned=family.learned,
    )
