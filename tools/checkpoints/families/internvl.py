"""InternVL: a tower with a class token and layer scales, merged patches, tiles by aspect ratio."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import InternVLConfig, InternVLVisionConfig, PretrainedConfig
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from ..byte_pairs import Specials
from ..recipe import Recipe, text_config
from .family import Family

_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def _config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    size, tile = recipe.shape, recipe.tile_px
    vision: Any = InternVLVisionConfig(
        hidden_size=size.vision_hidden,
        num_hidden_layers=recipe.vision_layers or size.vision_layers,
        num_attention_heads=size.vision_heads,
        intermediate_size=size.vision_mlp,
        image_size=[tile, tile],
        patch_size=[size.patch_px, size.patch_px],
        attention_bias=recipe.tower_bias,
        norm_type=recipe.norm,
        **({} if recipe.eps is None else {"layer_norm_eps": recipe.eps}),
    )
    # The head is the root's affair: a silent root means tied, whatever the decoder's own configuration says.
    text = text_config(replace(recipe, tied=recipe.tied and not recipe.silent_tie), vocab, ids, theta=1e6)
    make: Any = InternVLConfig
    config: PretrainedConfig = make(
        vision_config=vision,
        text_config=text,
        image_token_id=ids["image"],
        image_seq_length=_tokens(recipe),
        downsample_ratio=1 / recipe.merge,
        tie_word_embeddings=recipe.tied,
        dtype=recipe.dtype,
    )
    return config


def _tokens(recipe: Recipe) -> int:
    return (recipe.shape.patches // recipe.merge) ** 2


def _template(recipe: Recipe) -> str:
    return _TEMPLATE


def _image(recipe: Recipe) -> dict[str, Any]:
    tile = recipe.tile_px
    make: Any = GotOcr2ImageProcessorPil
    settings: dict[str, Any] = make(
        size={"height": tile, "width": tile},
        # Published files say false and the processor cuts all the same.
        crop_to_patches=recipe.processor == "new",
        min_patches=recipe.min_patches,
        max_patches=recipe.max_patches,
        **_IMAGENET,
    ).to_dict()
    return settings


def _processor(recipe: Recipe) -> dict[str, Any]:
    return {"image_seq_length": _tokens(recipe)}


INTERNVL = Family(
    processor_class="InternVLProcessor",
    specials=Specials(
        first=(),
        last=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        roles={"eos": "<|im_end|>", "pad": "<|endoftext|>"},
        image="<IMG_CONTEXT>",
        stop="<|im_end|>",
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    config=_config,
    template=_template,
    image=_image,
    processor=_processor,
    video={"video_processor_type": "InternVLVideoProcessor"},
)
