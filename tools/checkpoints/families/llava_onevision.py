"""LLaVA-OneVision: LLaVA-NeXT's mosaic of tiles with SigLIP's last block and a Qwen2 decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import LlavaOnevisionConfig, PretrainedConfig, SiglipVisionConfig
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from ..byte_pairs import Specials
from ..recipe import Recipe, text_config
from .family import Family

_ASPECT = "anyres_max_9"
_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{# Render all images first #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + content['text'] }}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ '\n' + content['text'] }}{% endgeneration %}{% endfor %}{% endif %}"
    "{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    size = recipe.shape
    vision: Any = SiglipVisionConfig(
        hidden_size=size.vision_hidden,
        num_hidden_layers=recipe.vision_layers or size.vision_layers,
        num_attention_heads=size.vision_heads,
        intermediate_size=size.vision_mlp,
        image_size=recipe.tile_px,
        patch_size=size.patch_px,
        vision_use_head=False,
        **({} if recipe.eps is None else {"layer_norm_eps": recipe.eps}),
    )
    make: Any = LlavaOnevisionConfig
    config: PretrainedConfig = make(
        vision_config=vision,
        text_config=text_config(replace(recipe, decoder="qwen2"), vocab, ids, theta=1e6),
        image_token_index=ids["image"],
        video_token_index=ids["video"],
        image_grid_pinpoints=recipe.grids_px,
        vision_aspect_ratio=_ASPECT,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=recipe.tied,
        dtype=recipe.dtype,
    )
    return config


def _template(recipe: Recipe) -> str:
    return _TEMPLATE


def _image(recipe: Recipe) -> dict[str, Any]:
    tile, half = recipe.tile_px, [0.5] * 3
    make: Any = LlavaOnevisionImageProcessorPil
    settings: dict[str, Any] = make(
        size={"height": tile, "width": tile},
        image_grid_pinpoints=recipe.grids_px,
        image_mean=half,
        image_std=half,
    ).to_dict()
    return settings


def _processor(recipe: Recipe) -> dict[str, Any]:
    return {
        "num_image_tokens": recipe.shape.patches**2,
        "image_token": "<image>",
        "video_token": "<video>",
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": _ASPECT,
    }


LLAVA_ONEVISION = Family(
    processor_class="LlavaOnevisionProcessor",
    specials=Specials(
        first=(),
        last=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"),
        roles={"eos": "<|im_end|>", "pad": "<|endoftext|>"},
        image="<image>",
        stop="<|im_end|>",
        named={"image_token": "<image>", "video_token": "<video>"},
    ),
    config=_config,
    template=_template,
    image=_image,
    processor=_processor,
    video={"video_processor_type": "LlavaOnevisionVideoProcessor"},
)
