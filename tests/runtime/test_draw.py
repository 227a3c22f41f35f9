"""What a person sees: kept patches clear, dropped ones dim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.pictures.draw import draw_kept
from edgeprune_runtime.pictures.packed import layout_from_size
from edgeprune_runtime.spec import Preprocess

COLOUR = (200, 60, 40)
ANYRES = Preprocess(
    anyres=True, tile_px=28, patches=4, pinpoints=((56, 56), (28, 84), (84, 28)), mean=(0.5,) * 3, std=(0.5,) * 3
)
SINGLE = Preprocess(
    anyres=False, tile_px=28, patches=4, pinpoints=(), mean=(0.5,) * 3, std=(0.5,) * 3, resize_shortest=28
)


def sheet(size: tuple[int, int], preprocess: Preprocess, kept: list[int] | None = None) -> Any:
    image = Image.new("RGB", size, COLOUR)
    layout = layout_from_size(size[1], size[0], preprocess)
    chosen = np.flatnonzero(layout.slot.ravel() >= 0).tolist() if kept is None else kept
    return np.asarray(draw_kept(image, layout, preprocess, chosen))


def share(pixels: Any, colour: tuple[int, int, int]) -> float:
    return float((pixels == colour).all(axis=-1).mean())


DIM = (int(40 + 0.4 * Image.new("RGB", (1, 1), COLOUR).convert("L").getpixel((0, 0))),) * 3  # type: ignore[operator]


@pytest.mark.parametrize(("size", "preprocess"), [((56, 56), ANYRES), ((84, 28), ANYRES), ((28, 28), SINGLE)])
def test_nothing_is_dimmed_when_all_is_kept(size: tuple[int, int], preprocess: Preprocess) -> None:
    pixels = sheet(size, preprocess)
    assert share(pixels, DIM) < 1e-4  # the soft edge of a letter may have this grey
    assert share(pixels, COLOUR) > 0.3


@pytest.mark.parametrize(("size", "preprocess"), [((56, 56), ANYRES), ((84, 28), ANYRES), ((28, 28), SINGLE)])
def test_nothing_is_clear_when_nothing_is_kept(size: tuple[int, int], preprocess: Preprocess) -> None:
    pixels = sheet(size, preprocess, [-1])
    assert share(pixels, COLOUR) == 0 and share(pixels, DIM) > 0.3


def test_a_kept_patch_is_clear_where_it_lies_and_the_rest_is_dim() -> None:
    pixels = sheet((56, 56), ANYRES, [16 + 5])  # tile 1, row 1, column 1 of a 2x2 grid of 4x4 patches
    panel = pixels[48 : 48 + 600, 16 : 16 + 600]
    assert tuple(panel[75 + 37, 75 + 37]) == COLOUR
    assert tuple(panel[75 + 37, 150 + 37]) == DIM
    assert tuple(panel[500, 500]) == DIM


def test_pixels_beyond_the_last_whole_patch_go_with_it() -> None:
    """4 patches of 7 and 2 pixels more, as SigLIP has 27 of 14 on 384."""
    preprocess = Preprocess(
        anyres=False, tile_px=30, patches=4, pinpoints=(), mean=(0.5,) * 3, std=(0.5,) * 3, resize_exact=(30, 30)
    )
    assert preprocess.patch_px == 7
    assert share(sheet((30, 30), preprocess), DIM) < 1e-4
    pixels = sheet((30, 30), preprocess, [15])
    panel = pixels[48 : 48 + 700, 16 : 16 + 700]
    edge = round(21 / 30 * 700)
    assert tuple(panel[edge + 10, edge + 10]) == COLOUR and tuple(panel[-2, -2]) == COLOUR
    assert tuple(panel[edge - 10, edge - 10]) == DIM and tuple(panel[edge + 10, edge - 10]) == DIM


def test_what_the_centre_crop_cuts_off_is_dim() -> None:
    pixels = sheet((84, 28), SINGLE)
    row = pixels[150]
    assert 0.25 < share(row, COLOUR) < 0.4 and share(row, DIM) > 0.6


@pytest.mark.parametrize("size", [(56, 56), (3000, 200), (30, 900), (900, 30), (1, 1), (2000, 1), (1, 2000)])
def test_any_picture_gives_a_readable_sheet(size: tuple[int, int]) -> None:
    height, width, _ = sheet(size, ANYRES).shape
    assert 900 <= width <= 1300 and 480 <= height <= 1400


def test_the_layout_of_another_picture_is_refused() -> None:
    layout = layout_from_size(56, 56, ANYRES)
    with pytest.raises(RequestError, match="expected the layout of this picture"):
        draw_kept(Image.new("RGB", (300, 30)), layout, ANYRES, [])
