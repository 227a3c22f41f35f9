"""What a person sees: kept patches clear, dropped ones dim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.pictures.draw import draw_kept, kept_title
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Grids, NearestRatio, Single, Split
from edgeprune_runtime.spec import SelectionSpec
from tests.tilings import MOSAIC, NAMED, PLAIN, WRAPPED, canvases, tile_spec

COLOUR = (200, 60, 40)
TILE = tile_spec(28, 4)
ANYRES = PictureSpec(TILE, canvases(28, (2, 2), (1, 3), (3, 1)), MOSAIC)
RATIO = PictureSpec(TILE, NearestRatio(1, 6), WRAPPED)
SPLIT = PictureSpec(tile_spec(28, 4, merge=2), Split(84), NAMED)
SINGLE = PictureSpec(TILE, Single(resize_shortest=28), PLAIN)


def sheet(size: tuple[int, int], spec: PictureSpec, kept: list[int] | None = None, tiles: int | None = None) -> Any:
    image = Image.new("RGB", size, COLOUR)
    picture = pack_picture(spec.limited(tiles).place(size[1], size[0]), spec)
    chosen = np.flatnonzero(picture.slot.ravel() >= 0).tolist() if kept is None else kept
    return np.asarray(draw_kept(image, picture, spec, chosen))


def share(pixels: Any, colour: tuple[int, int, int]) -> float:
    return float((pixels == colour).all(axis=-1).mean())


DIM = (int(40 + 0.4 * Image.new("RGB", (1, 1), COLOUR).convert("L").getpixel((0, 0))),) * 3  # type: ignore[operator]


CASES = [
    ((56, 56), ANYRES), ((84, 28), ANYRES), ((28, 28), SINGLE), ((84, 56), RATIO), ((28, 28), RATIO), ((84, 84), SPLIT),
    ((84, 28), SPLIT),
]  # fmt: skip


@pytest.mark.parametrize(("size", "spec"), CASES)
def test_nothing_is_dimmed_when_all_is_kept(size: tuple[int, int], spec: PictureSpec) -> None:
    pixels = sheet(size, spec)
    assert share(pixels, DIM) < 1e-4  # the soft edge of a letter may have this grey
    assert share(pixels, COLOUR) > 0.3


@pytest.mark.parametrize(("size", "spec"), CASES)
def test_nothing_is_clear_when_nothing_is_kept(size: tuple[int, int], spec: PictureSpec) -> None:
    pixels = sheet(size, spec, [-1])
    assert share(pixels, COLOUR) == 0 and share(pixels, DIM) > 0.3


def test_a_patch_that_merged_with_a_kept_one_is_faint() -> None:
    image = Image.new("RGB", (84, 28), COLOUR)
    picture = pack_picture(ANYRES.place(28, 84), ANYRES)
    kept, merged = np.flatnonzero(picture.slot.ravel() >= 0)[:2].tolist()
    pixels = np.asarray(draw_kept(image, picture, ANYRES, [kept], joined=[merged]))
    faint = (120, 36, 24)
    assert share(pixels, faint) > 0.001 and share(pixels, COLOUR) > 0.001 and share(pixels, DIM) > 0.1
    assert share(np.asarray(draw_kept(image, picture, ANYRES, [kept])), faint) == 0


def test_a_kept_patch_is_clear_where_it_lies_and_the_rest_is_dim() -> None:
    pixels = sheet((56, 56), ANYRES, [16 + 5])  # tile 1, row 1, column 1 of a 2x2 grid of 4x4 patches
    panel = pixels[48 : 48 + 600, 16 : 16 + 600]
    assert tuple(panel[75 + 37, 75 + 37]) == COLOUR
    assert tuple(panel[75 + 37, 150 + 37]) == DIM
    assert tuple(panel[500, 500]) == DIM


def test_pixels_beyond_the_last_whole_patch_go_with_it() -> None:
    """4 patches of 7 and 2 pixels more, as SigLIP has 27 of 14 on 384."""
    spec = PictureSpec(tile_spec(30, 4), Single(resize_exact=(30, 30)))
    assert spec.tile.unit_px == 7
    assert share(sheet((30, 30), spec), DIM) < 1e-4
    pixels = sheet((30, 30), spec, [15])
    panel = pixels[48 : 48 + 700, 16 : 16 + 700]
    edge = round(21 / 30 * 700)
    assert tuple(panel[edge + 10, edge + 10]) == COLOUR and tuple(panel[-2, -2]) == COLOUR
    assert tuple(panel[edge - 10, edge - 10]) == DIM and tuple(panel[edge + 10, edge - 10]) == DIM


def test_what_the_centre_crop_cuts_off_is_dim() -> None:
    pixels = sheet((84, 28), SINGLE)
    row = pixels[150]
    assert 0.25 < share(row, COLOUR) < 0.4 and share(row, DIM) > 0.6


@pytest.mark.parametrize("size", [(56, 56), (3000, 200), (30, 900), (900, 30), (1, 1), (2000, 1), (1, 2000)])
@pytest.mark.parametrize("spec", [ANYRES, RATIO, SPLIT])
def test_any_picture_gives_a_readable_sheet(size: tuple[int, int], spec: PictureSpec) -> None:
    height, width, _ = sheet(size, spec).shape
    assert 630 <= width <= 1300 and 400 <= height <= 1600


def test_a_kept_unit_of_merged_patches_is_clear_as_a_whole() -> None:
    """Tile 3 of 3 x 3 tiles, whose units are 2 x 2 patches: its lower right unit fills a sixth of the picture's sides."""
    pixels = sheet((84, 84), SPLIT, [3 * 4 + 3])
    panel = pixels[48 : 48 + 600, 16 : 16 + 600]
    assert tuple(panel[150, 550]) == COLOUR
    assert all(tuple(panel[y, x]) == DIM for y, x in ((50, 550), (150, 450), (250, 550), (50, 50)))
    assert share(panel, COLOUR) * 36 == pytest.approx(1), "its outline lies outside"


def test_a_request_for_one_view_has_one_panel() -> None:
    """The whole picture is squashed onto one tile: the lower left unit is a strip of the wide picture."""
    pixels = sheet((168, 28), RATIO, [12], tiles=0)
    panel = pixels[48 : 48 + 200, 16 : 16 + 1200]
    assert tuple(panel[190, 150]) == COLOUR and tuple(panel[190, 350]) == DIM and tuple(panel[100, 150]) == DIM
    assert pixels.shape[0] == 200 + 2 * 32 + 2 * 16, "a caption above, what the colours mean below"


def test_the_overview_has_its_own_panel() -> None:
    """A kept token of tile 0 is clear there, and nothing is on the picture itself."""
    pixels = sheet((56, 56), RATIO, [0])
    picture, overview = pixels[48 : 48 + 600, 16 : 16 + 600], pixels[48 : 48 + 600, 16 + 600 + 16 : 16 + 600 + 16 + 600]
    assert share(picture, COLOUR) == 0 and 0.05 < share(overview, COLOUR) < 0.07
    assert tuple(overview[50, 50]) == COLOUR


@pytest.mark.parametrize("other", [ANYRES, SPLIT])
def test_the_tokens_of_another_picture_or_model_are_refused(other: PictureSpec) -> None:
    picture = pack_picture(ANYRES.place(56, 56), ANYRES)
    image = Image.new("RGB", (300, 30) if other is ANYRES else (56, 56))
    with pytest.raises(RequestError, match="expected the picture that was looked at"):
        draw_kept(image, picture, other, [])


@pytest.mark.parametrize("size", [(56, 56), (84, 28), (28, 84), (3000, 200), (200, 3000), (300, 200), (280, 28)])
@pytest.mark.parametrize("spec", [ANYRES, RATIO, SPLIT])
def test_the_sheet_has_no_hole(size: tuple[int, int], spec: PictureSpec) -> None:
    """Between title and legend, every row of a sheet that is as wide as its panels holds a picture up to both margins."""
    pixels = sheet(size, spec, [-1])
    blank = (pixels == 255).all(axis=-1)
    rows = ~blank[48:-60].all(axis=1)
    filled = (~blank[48:-60])[rows].mean(axis=1)
    panels = np.flatnonzero(filled > 0.5)
    across = (~blank[48:-60])[rows][panels]
    left, right = across.argmax(axis=1), across[:, ::-1].argmax(axis=1)
    assert left.max() == left.min() and right.max() == right.min()
    assert abs(int(left[0]) - int(right[0])) <= 1, "in the middle"


def test_a_title_names_method_budget_and_tokens() -> None:
    picture = pack_picture(ANYRES.place(56, 56), ANYRES)
    one = SelectionSpec("0.2", 0.2, "hired", 16, None, "select-hired-k16")
    said = f"16 of {picture.candidates} visual tokens kept by hired at budget 0.2"
    assert kept_title(one, picture, 16) == said
    image = Image.new("RGB", (56, 56), COLOUR)
    plain, titled = (draw_kept(image, picture, ANYRES, [3], title) for title in ("", said))
    assert titled.height == plain.height + 36


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (60, 60)])
def test_on_a_grid_of_any_shape_every_token_is_clear_where_it_lies(size: tuple[int, int]) -> None:
    """The tile is the square that holds all grids; of it a picture has the corner of its own grid."""
    spec = PictureSpec(tile_spec(32, 8, merge=2), Grids(((16, 16), (16, 32), (32, 16))), PLAIN)
    picture = pack_picture(spec.place(size[1], size[0]), spec)
    high, wide = (side // 8 for side in picture.place.view or (0, 0))
    assert np.flatnonzero(picture.slot.ravel() >= 0).tolist() == [r * 4 + c for r in range(high) for c in range(wide)]
    everything = sheet(size, spec)
    lying = np.argwhere((everything == COLOUR).all(axis=-1))
    (top, left), (bottom, right) = lying.min(axis=0), lying.max(axis=0) + 1
    for row, col in ((0, 0), (high - 1, wide - 1), (0, wide - 1), (high - 1, 0)):
        clear = (sheet(size, spec, [row * 4 + col])[top:bottom, left:right] == COLOUR).all(axis=-1)
        inside = np.zeros_like(clear)
        rows, cols = (
            np.linspace(0, length, count + 1) for length, count in zip(clear.shape, (high, wide), strict=True)
        )
        inside[round(rows[row]) : round(rows[row + 1]), round(cols[col]) : round(cols[col + 1])] = True
        assert clear.any() and (clear == inside).mean() > 0.99
