"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: a rotary tower for pictures of any size, merged patches, positions of three axes."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig, Qwen3VLVisionConfig

from ..byte_pairs import Specials
from ..recipe import Recipe, text_values
from .family import Family
from .qwen_files import generation, published, template, three_template, video_processor

_SPECIALS = Specials(
    first=(),
    last=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|object_ref_start|>",
        "<|object_ref_end|>",
        "<|box_start|>",
        "<|box_end|>",
        "<|quad_start|>",
        "<|quad_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ),
    roles={"eos": "<|im_end|>", "pad": "<|endoftext|>"},
    image="<|image_pad|>",
    stop="<|im_end|>",
    also={"video": "<|video_pad|>", "vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"},
)


def _text(recipe: Recipe, vocab: int, ids: dict[str, int], theta: float) -> dict[str, Any]:
    if recipe.size == "tiny":
        theta = theta**0.35  # a few pairs turn too little for wrong positions to show
    values = text_values(recipe, vocab, ids, round(theta))
    width = values.get("head_dim", values["hidden_size"] // values["num_attention_heads"]) // 2
    rows = 3 * width // 8
    values["rope_parameters"]["mrope_section"] = list(recipe.sections or (width - 2 * rows, rows, rows))
    if recipe.eps is None:
        values["rms_norm_eps"] = 1e-6  # published files; the classes of 2 and 2.5 have 1e-5
    return values


def _whole(recipe: Recipe, ids: dict[str, int], root: Any, text: Any, vision: Any) -> PretrainedConfig:
    config: PretrainedConfig = root(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image"],
        video_token_id=ids["video"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=recipe.tied,
        dtype=recipe.dtype,
    )
    return config


def _two_text(recipe: Recipe, vocab: int, ids: dict[str, int]) -> dict[str, Any]:
    if recipe.head_dim is not None:
        raise ValueError(f"head_dim {recipe.head_dim}: heads of Qwen2-VL and Qwen2.5-VL are hidden / heads wide")
    return _text(recipe, vocab, ids, 1e6)


def _two_config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    size = recipe.shape
    vision: Any = Qwen2VLVisionConfig(
        embed_dim=size.vision_hidden,
        hidden_size=size.hidden,
        mlp_ratio=size.vision_mlp // size.vision_hidden,
        num_heads=size.vision_heads,
        depth=recipe.vision_layers or size.vision_layers,
        patch_size=size.patch_px,
        spatial_merge_size=recipe.merge,
    )
    text: Any = Qwen2VLTextConfig
    return _whole(recipe, ids, Qwen2VLConfig, text(**_two_text(recipe, vocab, ids)), vision)


def _two_five_config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    size = recipe.shape
    vision: Any = Qwen2_5_VLVisionConfig(
        hidden_size=size.vision_hidden,
        intermediate_size=size.vision_mlp,
        out_hidden_size=size.hidden,
        num_heads=size.vision_heads,
        depth=recipe.vision_layers or size.vision_layers,
        patch_size=size.patch_px,
        spatial_merge_size=recipe.merge,
        window_size=recipe.window_px,
        fullatt_block_indexes=list(recipe.full_blocks),
        tokens_per_second=2,
    )
    text: Any = Qwen2_5_VLTextConfig
    return _whole(recipe, ids, Qwen2_5_VLConfig, text(**_two_text(recipe, vocab, ids)), vision)


def _three_config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    size = recipe.shape
    vision: Any = Qwen3VLVisionConfig(
        hidden_size=size.vision_hidden,
        intermediate_size=size.vision_mlp,
        out_hidden_size=size.hidden,
        num_heads=size.vision_heads,
        depth=recipe.vision_layers or size.vision_layers,
        patch_size=size.patch_px,
        spatial_merge_size=recipe.merge,
        num_position_embeddings=size.patches**2,
        deepstack_visual_indexes=list(recipe.deepstack),
    )
    values = _text(recipe, vocab, ids, 5e6)
    values.setdefault("head_dim", size.hidden // size.heads)  # the class has 128, whatever the widths
    values["rope_parameters"]["mrope_interleaved"] = True
    values["attention_bias"] = recipe.attention_bias
    if recipe.silent_tie:
        if recipe.tied:
            raise ValueError("Qwen3-VL's head is not tied where the root of config.json is silent")
        values["tie_word_embeddings"] = True  # which nobody reads
    text: Any = Qwen3VLTextConfig
    return _whole(recipe, ids, Qwen3VLConfig, text(**values), vision)


def _image(recipe: Recipe, fewest: int, **normalisation: Any) -> dict[str, Any]:
    """Pictures become `fewest` to 16384 tokens, as published; tiny ones 4 to 64."""
    unit = recipe.shape.patch_px * recipe.merge
    least, most = (tokens * unit * unit for tokens in ((4, 64) if recipe.size == "tiny" else (fewest, 16384)))
    make: Any = Qwen2VLImageProcessorPil
    settings: dict[str, Any] = make(
        size={"shortest_edge": least, "longest_edge": most},
        patch_size=recipe.shape.patch_px,
        merge_size=recipe.merge,
        **normalisation,
    ).to_dict()
    if recipe.pixel_keys != "edges":
        settings |= {"min_pixels": least, "max_pixels": most}
    if recipe.pixel_keys == "pixels":
        del settings["size"]
    if recipe.pixel_keys == "both":  # the old keys are those that count
        settings["size"] = {"shortest_edge": least // 2, "longest_edge": most * 4}
    if recipe.processor == "old":
        settings["image_processor_type"] = "Qwen2VLImageProcessor" + ("Fast" if normalisation else "")
    return settings


def _two_image(recipe: Recipe) -> dict[str, Any]:
    return _image(recipe, 4)


def _three_image(recipe: Recipe) -> dict[str, Any]:
    return _image(recipe, 64, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def _processor(recipe: Recipe) -> dict[str, Any]:
    return {}


def _files(recipe: Recipe, ids: dict[str, int], config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    files = {"config.json": published(recipe, config), "generation_config.json": generation(recipe, ids)}
    if recipe.processor == "old":
        files["video_preprocessor_config.json"] = video_processor(recipe)
    return files


QWEN2_VL = Family(
    processor_class="Qwen2VLProcessor",
    specials=_SPECIALS,
    config=_two_config,
    template=template,
    image=_two_image,
    processor=_processor,
    video={"video_processor_type": "Qwen2VLVideoProcessor"},
    files=_files,
)
QWEN2_5_VL = Family(
    processor_class="Qwen2_5_VLProcessor",
    specials=_SPECIALS,
    config=_two_five_config,
    template=template,
    image=_two_image,
    processor=_processor,
    video={"video_processor_type": "Qwen2VLVideoProcessor"},
    files=_files,
)
QWEN3_VL = Family(
    processor_class="Qwen3VLProcessor",
    specials=_SPECIALS,
    config=_three_config,
    template=three_template,
    image=_three_image,
    processor=_processor,
    video={"video_processor_type": "Qwen3VLVideoProcessor"},
    files=_files,
)
