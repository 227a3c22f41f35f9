"""A picture for those who give none: always the same, as large as the largest tile grid, so that nothing is padded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from edgeprune_runtime.pictures.spec import PictureSpec

NAME = "generated.png"
_SHAPES = 24
_MOST = ", the most work a picture can be."


def draw_picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """A grainy gradient with shapes on it: [height, width] RGB, the same for the same arguments."""
    generator = np.random.default_rng(seed)
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    planes = [60 + 120 * down + 0 * across, 90 + 100 * across + 0 * down, 200 - 120 * down * across]
    grain = generator.normal(0, 12, (height, width, 1))
    picture = Image.fromarray(np.clip(np.stack(planes, axis=-1) + grain, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for number in range(_SHAPES):
        side = float(generator.uniform(0.03, 0.2)) * min(height, width)
        x, y = float(generator.uniform(0, width - side)), float(generator.uniform(0, height - side))
        red, green, blue = (int(value) for value in generator.integers(0, 256, 3))
        outline = pen.ellipse if number % 2 else pen.rectangle
        outline((x, y, x + side, y + side), fill=(red, green, blue))
    return picture


def write_picture(folder: Path, spec: PictureSpec, size: tuple[int, int] | None = None) -> tuple[Path, str]:
    """Draw it into `folder`; returns the file and the sentence that a report needs about it.

    size  (height, width) in pixels; None: of the largest picture
    """
    height, width = size or spec.largest
    path, place = folder / NAME, spec.place(height, width)
    draw_picture(height, width).save(path)
    given = f"No picture was given: {NAME} is a generated one of {width} x {height} pixels"
    if place.view is not None:
        on = f"{place.view[0]}x{place.view[1]} pixels ({spec.tokens_of(place)} visual tokens)"
        return (
            path,
            f"{given}, seen on {'a grid' if size else 'the largest grid'} of {on}{_MOST if size is None else '.'}",
        )
    if size is None:
        return path, f"{given}, which fills the largest tile grid ({spec.tiles_max} tiles){_MOST}"
    return path, f"{given}, seen on {place.tiles} {'tile' if place.tiles == 1 else 'tiles'}."
