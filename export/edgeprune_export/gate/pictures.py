"""Fixed pictures for the gates: drawn, not shipped, and of shapes that use different tile grids."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from edgeprune_runtime.pictures.spec import PictureSpec

_SIZES = ((640, 480), (300, 700))
_LEAST_PX = 480


def fixed_pictures() -> tuple[Image.Image, ...]:
    """A landscape and a portrait picture with texture, shapes and lettering; the same on every machine."""
    return tuple(_picture(width, height, seed) for seed, (width, height) in enumerate(_SIZES))


def pictures_for(spec: PictureSpec) -> tuple[Image.Image, ...]:
    """The fixed ones, and one of the proportions of each view that none of them has: every graph of a tower sees a picture."""
    fixed = fixed_pictures()
    seen = {spec.place(picture.height, picture.width).view for picture in fixed}
    unseen = [view for view in spec.views if view not in seen]
    drawn = [_picture(*_size_for(view, spec), seed) for seed, view in enumerate(unseen, len(fixed))]
    return (*fixed, *drawn)


def _size_for(view: tuple[int, int], spec: PictureSpec) -> tuple[int, int]:
    """(width, height) of a picture of exactly these proportions that comes to this view: a large one, or where there is a larger view of
    the same proportions one of three quarters of its sides."""
    height, width = view
    times = _LEAST_PX // min(view) + 1
    if spec.place(times * height, times * width).view != view:
        return max(1, 3 * width // 4), max(1, 3 * height // 4)
    return times * width, times * height


def _picture(width: int, height: int, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 216, (max(height // 20, 1), max(width // 20, 1), 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        size = int(random.integers(10, 80))
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)((x, y, x + size, y + size), fill=colour)
        draw.text((y % width, x % height), str(int(random.integers(0, 1000))), fill=(0, 0, 0))
    return picture
