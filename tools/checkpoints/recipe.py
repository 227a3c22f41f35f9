"""What to make: sizes and variants of a checkpoint, and the transformers configuration that they amount to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import (
    CLIPVisionConfig,
    DeiTConfig,
    Dinov2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
    ViTConfig,
)

from .sizes import SIZES as SIZES
from .sizes import Size as Size

Names = Literal["new", "old", "hub"]
LLAVA = ("llava", "llava_next")
_DECODERS: dict[str, Any] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}


@dataclass(frozen=True)
class Recipe:
    """One checkpoint. Everything not given is what the family usually has.

    InternVL has its own tower, Idefics3 and SmolVLM theirs and a Llama decoder, and LLaVA-OneVision has SigLIP, whatever
    `tower` and `decoder` say.
    """

    family: str = "llava_next"
    tower: str = "clip"
    decoder: str = "qwen2"
    size: str = "tiny"
    dtype: str = "float32"
    names: Names = "old"
    shards: int = 1
    seed: int = 0
    tied: bool = False
    multi_head: bool = False  # as many key-value heads as query heads
    attention_bias: bool = False  # Llama only; Qwen2 always has it, Mistral never
    head_dim: int | None = None
    rope: str = "default"
    sliding_window: int | None = None
    swiglu: bool = False  # DINOv2 only
    tokenizer: str = "words"  # or "bytes": one token per byte, so that a character may need several
    bos: str = "template"  # who writes the first token: "template", "tokenizer" or "none"
    processor: str = "new"  # "new": processor_config.json alone; "old": preprocessor_config.json and chat_template.json
    pinpoints: tuple[tuple[int, int], ...] | None = None  # grids (rows, columns); None: the size's own
    vocab: int | None = None
    layers: int | None = None
    vision_layers: int | None = None
    patches: int | None = None  # per side of a tile; None: the size's own
    spare_px: int = 0  # pixels of a tile beyond its last patch
    eps: float | None = None  # of every norm whose epsilon config.json names; None: what the family has
    silent_tie: bool = False  # config.json says nothing about tied heads at its root, which means `tied` in InternVL
    merge: int = 2  # InternVL, Idefics3, SmolVLM: so many patches per side become one visual token
    norm: str = "layer_norm"  # InternVL's tower: or "rms_norm"
    tower_bias: bool = True  # InternVL's tower: biases on q, k and v
    min_patches: int = 1  # InternVL: tiles of a picture, the thumbnail not counted
    max_patches: int = 4
    longest_px: int | None = None  # Idefics3, SmolVLM: a picture's longer side; None: four tiles
    kv_heads: int | None = None  # None: the size's own
    # Qwen-VL. `patches` is the side of Qwen3-VL's table of positions; pictures have any size.
    config: Literal["new", "hub", "both"] = "new"  # config.json nested, as published, or with both of it
    sections: tuple[int, int, int] | None = None  # rotated pairs for time, rows and columns; None: 2 : 3 : 3
    window_px: int = 32  # Qwen2.5-VL
    full_blocks: tuple[int, ...] = (1,)  # Qwen2.5-VL: blocks that see the whole picture
    deepstack: tuple[int, ...] = (1,)  # Qwen3-VL: blocks whose output enters the decoder, in this order
    pixel_keys: Literal["edges", "pixels", "both"] = "edges"  # how the processor's file spells its limits
    called: str | None = None  # the name of another model that config.json gives, as derivatives have it

    @property
    def shape(self) -> Size:
        size = SIZES[self.size]
        return size if self.patches is None else replace(size, patches=self.patches)

    @property
    def tile_px(self) -> int:
        """Half a patch more than whole patches for SigLIP, whose usual 384 pixels are no multiple of 14 either."""
        siglip = self.family == "llava_onevision" or (self.family in LLAVA and self.tower == "siglip")
        return self.shape.tile_px + (self.shape.patch_px // 2 if siglip else 0) + self.spare_px

    @property
    def strategy(self) -> str:
        """Which visual tokens go on: all but the class token, or all where there is none."""
        return "full" if self.tower == "siglip" else "default"

    @property
    def grids_px(self) -> list[list[int]]:
        tile = self.tile_px
        return [[rows * tile, columns * tile] for rows, columns in self.pinpoints or self.shape.pinpoints]


def rope_parameters(kind: str, longest: int, theta: float = 10000.0) -> dict[str, Any]:
    """Plausible numbers for each scaling, with an original context short enough to matter in a tiny model."""
    extra: dict[str, dict[str, Any]] = {
        "default": {},
        "linear": {"factor": 2.0},
        "llama3": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": longest // 8,
        },
        "yarn": {"factor": 4.0, "original_max_position_embeddings": longest // 4},
    }
    return {"rope_type": kind, "rope_theta": 500000.0 if kind == "llama3" else theta, **extra[kind]}


def model_config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    """The whole model's configuration. `ids` holds the special token ids: bos, eos, pad, image."""
    common: dict[str, Any] = {"vision_config": _vision_config(recipe), "text_config": text_config(recipe, vocab, ids)}
    common |= {"image_token_index": ids["image"], "tie_word_embeddings": recipe.tied, "dtype": recipe.dtype}
    common["vision_feature_select_strategy"] = recipe.strategy
    if recipe.tower == "siglip":
        common["vision_feature_layer"] = -1  # as llava-interleave has it
    if recipe.family == "llava":
        return LlavaConfig(**common)
    return LlavaNextConfig(**common, image_grid_pinpoints=recipe.grids_px)


def _vision_config(recipe: Recipe) -> PretrainedConfig:
    size = recipe.shape
    common: dict[str, Any] = {
        "hidden_size": size.vision_hidden,
        "num_hidden_layers": recipe.vision_layers or size.vision_layers,
        "num_attention_heads": size.vision_heads,
        "image_size": recipe.tile_px,
        "patch_size": size.patch_px,
    }
    if recipe.tower == "dinov2":
        ratio = size.vision_mlp // size.vision_hidden
        return Dinov2Config(**common, mlp_ratio=ratio, use_swiglu_ffn=recipe.swiglu)
    towers: dict[str, Any] = {
        "clip": CLIPVisionConfig,
        "vit": ViTConfig,
        "deit": DeiTConfig,
        "siglip": SiglipVisionConfig,
    }
    config: PretrainedConfig = towers[recipe.tower](**common, intermediate_size=size.vision_mlp)
    return config


def text_config(recipe: Recipe, vocab: int, ids: dict[str, int], theta: float = 10000.0) -> PretrainedConfig:
    """The decoder's configuration."""
    values = text_values(recipe, vocab, ids, theta)
    if recipe.decoder == "llama":
        values["attention_bias"] = recipe.attention_bias
    if recipe.decoder == "mistral":
        values["sliding_window"] = recipe.sliding_window
    if recipe.decoder == "qwen2" and recipe.sliding_window:
        values |= {"use_sliding_window": True, "sliding_window": recipe.sliding_window, "max_window_layers": 0}
    config: PretrainedConfig = _DECODERS[recipe.decoder](**values)
    return config


def text_values(recipe: Recipe, vocab: int, ids: dict[str, int], theta: float) -> dict[str, Any]:
    """What every decoder's configuration holds."""
    size, longest = recipe.shape, 4096 if recipe.size == "tiny" else 32768
    values: dict[str, Any] = {
        "vocab_size": recipe.vocab or size.vocab or vocab,
        "hidden_size": size.hidden,
        "intermediate_size": size.mlp,
        "num_hidden_layers": recipe.layers or size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads if recipe.multi_head else recipe.kv_heads or size.kv_heads,
        "max_position_embeddings": longest,
        "rope_parameters": rope_parameters(recipe.rope, longest, theta),
        "tie_word_embeddings": recipe.tied,
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "pad_token_id": ids["pad"],
    }
    if recipe.head_dim is not None:
        values["head_dim"] = recipe.head_dim
    elif recipe.decoder == "qwen3":
        values["head_dim"] = size.hidden // size.heads  # the class has 128, whatever the widths
    if recipe.eps is not None:
        values["rms_norm_eps"] = recipe.eps
    return values
