"""One prompt of Qwen-VL that has everything: three turns, and text before, between and after two pictures of different shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.references.qwen_generate import merged_grids, noise, qwen_inputs
from tests.references.qwen_pixels import image_processor

IMAGES = (noise(90, 60, 1), noise(40, 130, 2))
#: Three turns; text before, between and after two pictures.
TALK: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "look at this: "},
            {"type": "image", "image": IMAGES[0]},
            {"type": "text", "text": "what is the colour?"},
        ],
    },
    {"role": "assistant", "content": "red"},
    {
        "role": "user",
        "content": [{"type": "image", "image": IMAGES[1]}, {"type": "text", "text": " and in this picture?"}],
    },
]


def talk_sizes(folder: Path) -> list[tuple[int, int]]:
    """Of 6 x 4 and 2 x 7 cells: of several windows each, and some of them cut by a border."""
    processor = image_processor(folder)
    unit = processor.patch_size * processor.merge_size
    return [(6 * unit, 4 * unit), (2 * unit, 7 * unit)]


def talk(folder: Path) -> dict[str, torch.Tensor]:
    """What the forward pass takes for it."""
    return qwen_inputs(folder, TALK, talk_sizes(folder))


def some_kept(folder: Path, inputs: dict[str, torch.Tensor], share: float = 0.4) -> list[list[int]]:
    """Tokens of each picture that stay, drawn by chance and always the same."""
    draw = np.random.default_rng(3)
    return [
        sorted(draw.permutation(rows * columns)[: max(1, int(share * rows * columns))].tolist())
        for rows, columns in merged_grids(folder, inputs)
    ]
