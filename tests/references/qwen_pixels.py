"""What Qwen-VL's image processor makes of a picture: the library's own, the one of Pillow and NumPy, and back to a picture."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor


def stretched(image: Image.Image, grid_px: tuple[int, int]) -> Image.Image:
    """The picture resized straight to height x width pixels, as the processor would to a size of its own choice."""
    height, width = grid_px
    return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def library_pixels(folder: Path, image: Image.Image) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Rows [patches, 3 * 2 * patch * patch] of a picture that has its size already, and its grid of patches."""
    inputs = image_processor(folder)(image, do_resize=False, return_tensors="np")
    _, rows, columns = inputs["image_grid_thw"][0].tolist()
    return inputs["pixel_values"], (rows, columns)


def unflattened(pixels: NDArray[np.float32], rows: int, columns: int, patch_px: int, merge: int) -> NDArray[np.float32]:
    """The normalised picture [3, H, W] of the processor's rows, which hold channel, moment, y, x of one patch each.

    Patches come cell by cell of merge x merge. Both moments of a still are the same picture.
    """
    moments = np.full((2, 3, rows * patch_px, columns * patch_px), np.nan, dtype=np.float32)
    index = 0
    for cell_row in range(rows // merge):
        for cell_column in range(columns // merge):
            for inner_row in range(merge):
                for inner_column in range(merge):
                    top = (cell_row * merge + inner_row) * patch_px
                    left = (cell_column * merge + inner_column) * patch_px
                    _place(moments, pixels[index], top, left, patch_px)
                    index += 1
    if index != len(pixels) or not np.array_equal(moments[0], moments[1]):
        raise ValueError(f"{len(pixels)} rows are no still of {rows} x {columns} patches")
    return moments[0]


def _place(moments: NDArray[np.float32], row: NDArray[np.float32], top: int, left: int, patch_px: int) -> None:
    element = 0
    for channel in range(3):
        for moment in range(2):
            for y in range(patch_px):
                for x in range(patch_px):
                    moments[moment, channel, top + y, left + x] = row[element]
                    element += 1


@functools.lru_cache(maxsize=4)
def image_processor(folder: Path) -> Any:
    """The folder's image processor without torchvision."""
    return AutoImageProcessor.from_pretrained(folder, backend="pil")
