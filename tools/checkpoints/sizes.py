"""Widths and depths: tiny ones for tests, and those of published models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
    "smolvlm2-500m": Size(32, 16, 768, 12, 3072, 12, 960, 15, 5, 2560, 32, 49280, ()),
    "internvl3-1b": Size(32, 14, 1024, 16, 4096, 24, 896, 14, 2, 4864, 24, 151674, ()),
    # Of Qwen3-VL's towers, `patches` is the side of the table of positions; the others have none.
    "qwen2-vl-2b": Size(32, 14, 1280, 16, 5120, 32, 1536, 12, 2, 8960, 28, 151936, ()),
    "qwen2.5-vl-3b": Size(32, 14, 1280, 16, 3420, 32, 2048, 16, 2, 11008, 36, 151936, ()),
    "qwen3-vl-2b": Size(48, 16, 1024, 16, 4096, 24, 2048, 16, 8, 6144, 28, 151936, ()),
    "qwen3-vl-4b": Size(48, 16, 1024, 16, 4096, 24, 2560, 32, 8, 9728, 36, 151936, ()),
}
_QWEN2 = {"sections": (16, 24, 24), "config": "hub", "processor": "old", "tied": True, "dtype": "bfloat16"}
_QWEN3 = {**_QWEN2, "sections": (24, 20, 20), "head_dim": 128, "deepstack": (5, 11, 17)}
#: What else belongs to a size that is one published model's.
MODELS: dict[str, dict[str, Any]] = {
    "smolvlm2-500m": {"family": "smolvlm", "merge": 4, "tied": True, "dtype": "float16"},
    "internvl3-1b": {"family": "internvl", "decoder": "qwen2", "max_patches": 12, "dtype": "float16"},
    "qwen2-vl-2b": {"family": "qwen2_vl", **_QWEN2},
    "qwen2.5-vl-3b": {"family": "qwen2_5_vl", "window_px": 112, "full_blocks": (7, 15, 23, 31), **_QWEN2},
    "qwen3-vl-2b": {"family": "qwen3_vl", **_QWEN3},
    "qwen3-vl-4b": {"family": "qwen3_vl", **_QWEN3},
}
