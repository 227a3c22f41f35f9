"""Tiny made checkpoints for tests: each variant is written once and shared (tests/kept.py), so nobody may change it.

folder = tiny_checkpoint(tower="vit", decoder="llama", tied=True)   # read only; options: fields of Recipe
folder = own_copy(folder, tmp_path)                                 # one to damage
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.kept import kept
from tools.checkpoints.recipe import Recipe
from tools.checkpoints.write import make_checkpoint

#: One checkpoint of each tower with each decoder, and between them every variant that the product has to handle.
VARIANTS: tuple[dict[str, Any], ...] = (
    {"tower": "clip", "decoder": "llama", "rope": "llama3", "tied": True, "names": "old", "attention_bias": True},
    {"tower": "clip", "decoder": "mistral", "rope": "default", "names": "hub", "shards": 2, "bos": "tokenizer"},
    {"tower": "clip", "decoder": "qwen2", "rope": "yarn", "names": "new", "dtype": "bfloat16"},
    {"tower": "vit", "decoder": "llama", "rope": "linear", "names": "new", "multi_head": True},
    {"tower": "vit", "decoder": "mistral", "rope": "yarn", "names": "old", "head_dim": 24},
    {"tower": "vit", "decoder": "qwen2", "rope": "default", "names": "hub", "tied": True, "vocab": 160},
    {"tower": "dinov2", "decoder": "llama", "rope": "default", "names": "hub", "dtype": "float16"},
    {"tower": "dinov2", "decoder": "mistral", "rope": "llama3", "names": "new", "swiglu": True, "tied": True},
    {"tower": "dinov2", "decoder": "qwen2", "rope": "linear", "names": "old", "swiglu": True, "multi_head": True},
    {"family": "llava", "tower": "clip", "decoder": "llama", "names": "hub", "processor": "old", "tokenizer": "bytes"},
    {"family": "llava", "tower": "vit", "decoder": "qwen2", "names": "old", "tied": True},
    {"family": "llava", "tower": "dinov2", "decoder": "mistral", "names": "new"},
    {"family": "llava", "tower": "deit", "decoder": "qwen2", "names": "old"},
    {"family": "llava", "tower": "siglip", "decoder": "qwen2", "names": "hub", "processor": "old"},
    {"family": "llava", "tower": "siglip", "decoder": "llama", "names": "old", "dtype": "float16"},
    {"tower": "siglip", "decoder": "mistral", "names": "new"},
)

_UP_TO_NINE = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (2, 3), (3, 2), (3, 3))
#: The families beside LLaVA and LLaVA-NeXT, each variant with another trap: published layouts of the files, merges on
#: odd grids, norms of every kind, silent configurations, line ends that join across a seam.
FAMILY_VARIANTS: tuple[dict[str, Any], ...] = (
    {"family": "internvl", "decoder": "qwen2", "names": "hub", "processor": "old"},
    {
        "family": "internvl",
        "decoder": "qwen3",
        "head_dim": 24,
        "norm": "rms_norm",
        "tower_bias": False,
        "tied": True,
        "silent_tie": True,
        "max_patches": 6,
    },
    {
        "family": "internvl",
        "decoder": "llama",
        "patches": 10,
        "eps": 1e-2,
        "rope": "llama3",
        "names": "new",
        "shards": 2,
    },
    {
        "family": "internvl",
        "decoder": "qwen2",
        "tokenizer": "bytes",
        "min_patches": 2,
        "dtype": "float16",
        "vocab": 400,
    },
    {"family": "smolvlm", "merge": 2, "processor": "old", "tied": True, "eps": 1e-2},
    {"family": "smolvlm", "merge": 3, "spare_px": 5, "names": "hub", "multi_head": True},
    {"family": "smolvlm", "merge": 4, "patches": 8, "longest_px": 100, "dtype": "bfloat16", "tokenizer": "bytes"},
    {"family": "idefics3", "merge": 3, "bos": "tokenizer", "rope": "llama3", "attention_bias": True},
    {"family": "idefics3", "merge": 2, "patches": 10, "processor": "old", "head_dim": 24, "longest_px": 160},
    {"family": "llava_onevision", "tied": True, "silent_tie": True, "pinpoints": _UP_TO_NINE, "processor": "old"},
    {"family": "llava_onevision", "names": "hub", "eps": 1e-2, "dtype": "float16", "rope": "yarn"},
)

#: Qwen-VL, each variant with another trap: flat, nested and doubled configurations, older names, sections that fit no
#: period of three, windows and blocks at odd places, tables of positions of other sides, heads wider than hidden / heads.
QWEN_VARIANTS: tuple[dict[str, Any], ...] = (
    {
        "family": "qwen2_vl",
        "config": "hub",
        "processor": "old",
        "pixel_keys": "pixels",
        "tied": True,
        "shards": 2,
    },
    {"family": "qwen2_vl", "names": "new", "sections": (1, 2, 5), "kv_heads": 1, "eps": 1e-2, "vocab": 512},
    {"family": "qwen2_vl", "config": "both", "merge": 3, "sections": (4, 1, 3), "dtype": "bfloat16"},
    {
        "family": "qwen2_5_vl",
        "config": "hub",
        "processor": "old",
        "pixel_keys": "both",
        "tied": True,
        "vision_layers": 4,
        "full_blocks": (0, 2),
    },
    {
        "family": "qwen2_5_vl",
        "names": "new",
        "sections": (3, 4, 1),
        "multi_head": True,
        "window_px": 56,
        "eps": 1e-2,
        "shards": 3,
        "tokenizer": "bytes",
    },
    {
        "family": "qwen2_5_vl",
        "config": "hub",
        "called": "Cosmos-Reason1-7B",
        "dtype": "bfloat16",
        "full_blocks": (2,),
    },
    {
        "family": "qwen2_5_vl",
        "config": "both",
        "called": "UI-TARS-1.5-7B",
        "tied": True,
        "silent_tie": True,
        "kv_heads": 1,
        "full_blocks": (0,),
        "window_px": 16,
    },
    {"family": "qwen3_vl", "config": "hub", "processor": "old", "tied": True, "patches": 9},
    {
        "family": "qwen3_vl",
        "head_dim": 24,
        "sections": (3, 4, 5),
        "layers": 3,
        "vision_layers": 4,
        "deepstack": (0, 2, 3),
        "patches": 7,
        "kv_heads": 1,
        "eps": 1e-2,
        "shards": 2,
        "vocab": 512,
    },
    {
        "family": "qwen3_vl",
        "config": "hub",
        "called": "Cosmos-Reason2-2B",
        "silent_tie": True,
        "head_dim": 24,
        "sections": (2, 5, 5),
        "deepstack": (0, 2),
        "attention_bias": True,
        "dtype": "float16",
        "pixel_keys": "both",
        "multi_head": True,
    },
)


def variant_name(variant: dict[str, Any]) -> str:
    """Readable test id of a variant."""
    words = {True: "{key}", False: "no_{key}"}
    return "-".join(
        f"{len(value)}_{key}" if isinstance(value, tuple) else words.get(value, str(value)).format(key=key)
        for key, value in variant.items()
    )


@functools.cache
def _made(recipe: Recipe) -> Path:
    return kept("checkpoint", asdict(recipe), lambda folder: make_checkpoint(folder, recipe))


def tiny_checkpoint(**variant: Any) -> Path:
    """Folder of a tiny checkpoint; the options are the fields of Recipe."""
    return _made(Recipe(**variant))


def own_copy(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(folder, tmp_path / "checkpoint"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a JSON file after `change` has altered its object in place."""
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
