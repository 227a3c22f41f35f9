"""Idefics3 and SmolVLM: a SigLIP-like tower, merged patches, tiles of the longest edge, text between the tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import Idefics3Config, Idefics3VisionConfig, PretrainedConfig, SmolVLMConfig, SmolVLMVisionConfig
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from ..byte_pairs import Specials
from ..recipe import Recipe, text_config
from .family import Family

_MOST_TILES = 6  # per side: the tokenizers name no more rows and columns
_TEMPLATE = (
    "{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, _MOST_TILES + 1))


def _config(recipe: Recipe, vocab: int, ids: dict[str, int], root: Any, tower: Any) -> PretrainedConfig:
    size = recipe.shape
    vision = tower(
        hidden_size=size.vision_hidden,
        num_hidden_layers=recipe.vision_layers or size.vision_layers,
        num_attention_heads=size.vision_heads,
        intermediate_size=size.vision_mlp,
        image_size=recipe.tile_px,
        patch_size=size.patch_px,
        **({} if recipe.eps is None else {"layer_norm_eps": recipe.eps}),
    )
    llama = replace(recipe, decoder="llama", eps=1e-5 if recipe.eps is None else recipe.eps)
    config: PretrainedConfig = root(
        vision_config=vision,
        text_config=text_config(llama, vocab, ids, theta=1e5),
        image_token_id=ids["image"],
        scale_factor=recipe.merge,
        tie_word_embeddings=recipe.tied,
        dtype=recipe.dtype,
    )
    return config


def _idefics3_config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    return _config(recipe, vocab, ids, Idefics3Config, Idefics3VisionConfig)


def _smolvlm_config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    return _config(recipe, vocab, ids, SmolVLMConfig, SmolVLMVisionConfig)


def _image(recipe: Recipe, kind: Any) -> dict[str, Any]:
    longest = recipe.longest_px or 4 * recipe.tile_px
    if longest > _MOST_TILES * recipe.tile_px:
        raise ValueError(f"longest_px {longest} needs over {_MOST_TILES} tiles of {recipe.tile_px} pixels per side")
    settings: dict[str, Any] = kind(
        size={"longest_edge": longest}, max_image_size={"longest_edge": recipe.tile_px}, do_image_splitting=True
    ).to_dict()
    return settings


def _idefics3_image(recipe: Recipe) -> dict[str, Any]:
    return _image(recipe, Idefics3ImageProcessorPil)


def _smolvlm_image(recipe: Recipe) -> dict[str, Any]:
    return _image(recipe, SmolVLMImageProcessorPil)


def _processor(recipe: Recipe) -> dict[str, Any]:
    return {"image_seq_len": (recipe.shape.patches // recipe.merge) ** 2}


def _idefics3_template(recipe: Recipe) -> str:
    return ("<|begin_of_text|>" if recipe.bos == "template" else "") + _TEMPLATE


def _smolvlm_template(recipe: Recipe) -> str:
    return ("<|im_start|>" if recipe.bos == "template" else "") + _TEMPLATE


IDEFICS3 = Family(
    processor_class="Idefics3Processor",
    specials=Specials(
        first=(),
        last=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<fake_token_around_image>",
            "<image>",
            "<end_of_utterance>",
            *_PLACES,
            "<global-img>",
        ),
        roles={"bos": "<|begin_of_text|>", "eos": "<end_of_utterance>", "pad": "<|end_of_text|>"},
        image="<image>",
        stop="<|end_of_text|>",
        split="smollm",
    ),
    config=_idefics3_config,
    template=_idefics3_template,
    image=_idefics3_image,
    processor=_processor,
)
SMOLVLM = Family(
    processor_class="SmolVLMProcessor",
    specials=Specials(
        first=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        last=("<global-img>", *_PLACES, "<fake_token_around_image>", "<image>", "<end_of_utterance>"),
        roles={"bos": "<|im_start|>", "eos": "<end_of_utterance>", "pad": "<|im_end|>", "unk": "<|endoftext|>"},
        image="<image>",
        stop="<|im_end|>",
        named={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
        split="smollm",
    ),
    config=_smolvlm_config,
    template=_smolvlm_template,
    image=_smolvlm_image,
    processor=_processor,
    video={"video_processor_type": "SmolVLMVideoProcessor"},
)
