"""What to make: sizes and variants of a checkpoint, and the transformers configuration that they amount to."""

from __future__ import annotations

from dataclasses import dataclass
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
    SiglipVisionConfig,
    ViTConfig,
)

Names = Literal["new", "old", "hub"]
_DECODERS: dict[str, Any] = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}


@dataclass(frozen=True)
class Size:
    """Widths and depths. `pinpoints` are grids (rows, columns) of tiles."""

    patches: int
    patch_px: int
    vision_hidden: int
    vision_heads: int
    vision_mlp: int
    vision_layers: int
    hidden: int
    heads: int
    kv_heads: int
    mlp: int
    layers: int
    vocab: int | None  # None: exactly the tokenizer's
    pinpoints: tuple[tuple[int, int], ...]

    @property
    def tile_px(self) -> int:
        return self.patches * self.patch_px


#: Grids of LLaVA-NeXT: at most 2 x 2 tiles and the thumbnail.
NEXT_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
SIZES = {
    "tiny": Size(6, 8, 48, 3, 96, 3, 64, 4, 2, 128, 2, None, ((1, 2), (2, 1), (2, 2))),
    # Qwen2-0.5B's decoder behind a ViT-B tower with LLaVA-NeXT's 576 tokens per tile.
    "0.5b": Size(24, 14, 768, 12, 3072, 12, 896, 14, 2, 4864, 24, 151936, NEXT_GRIDS),
    # Over 2 GB in float16.
    "2gb": Size(24, 14, 768, 12, 3072, 12, 1536, 12, 2, 8960, 20, 151936, NEXT_GRIDS),
}


@dataclass(frozen=True)
class Recipe:
    """One checkpoint. Everything not given is what the family usually has."""

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

    @property
    def shape(self) -> Size:
        return SIZES[self.size]

    @property
    def tile_px(self) -> int:
        """Half a patch more than whole patches for SigLIP, whose usual 384 pixels are no multiple of 14 either."""
        return self.shape.tile_px + (self.shape.patch_px // 2 if self.tower == "siglip" else 0)

    @property
    def strategy(self) -> str:
        """Which visual tokens go on: all but the class token, or all where there is none."""
        return "full" if self.tower == "siglip" else "default"

    @property
    def grids_px(self) -> list[list[int]]:
        tile = self.tile_px
        return [[rows * tile, columns * tile] for rows, columns in self.pinpoints or self.shape.pinpoints]


def rope_parameters(kind: str, longest: int) -> dict[str, Any]:
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
    return {"rope_type": kind, "rope_theta": 500000.0 if kind == "llama3" else 10000.0, **extra[kind]}


def model_config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    """The whole model's configuration. `ids` holds the special token ids: bos, eos, pad, image."""
    common: dict[str, Any] = {"vision_config": _vision_config(recipe), "text_config": _text_config(recipe, vocab, ids)}
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


def _text_config(recipe: Recipe, vocab: int, ids: dict[str, int]) -> PretrainedConfig:
    size, longest = recipe.shape, 4096 if recipe.size == "tiny" else 32768
    values: dict[str, Any] = {
        "vocab_size": recipe.vocab or size.vocab or vocab,
        "hidden_size": size.hidden,
        "intermediate_size": size.mlp,
        "num_hidden_layers": recipe.layers or size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads if recipe.multi_head else size.kv_heads,
        "max_position_embeddings": longest,
        "rope_parameters": rope_parameters(recipe.rope, longest),
        "tie_word_embeddings": recipe.tied,
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "pad_token_id": ids["pad"],
    }
    if recipe.head_dim is not None:
        values["head_dim"] = recipe.head_dim
    if recipe.decoder == "llama":
        values["attention_bias"] = recipe.attention_bias
    if recipe.decoder == "mistral":
        values["sliding_window"] = recipe.sliding_window
    if recipe.decoder == "qwen2" and recipe.sliding_window:
        values |= {"use_sliding_window": True, "sliding_window": recipe.sliding_window, "max_window_layers": 0}
    config: PretrainedConfig = _DECODERS[recipe.decoder](**values)
    return config
