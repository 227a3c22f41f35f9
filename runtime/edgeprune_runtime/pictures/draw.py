"""Show which visual tokens were kept: the picture with dropped tokens dimmed, and the overview beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.pictures.packed import PackedPicture
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Placement, TileSpec
from edgeprune_runtime.spec import SelectionSpec

_BESIDE_PX = (600, 640)  # box (width, height) of the picture when the overview stands beside it
_BELOW_PX = (1200, 700)  # and when the overview stands below it
_LEAST_PX = 320  # either side of the overview: a thin picture is drawn wider there, as the tower sees it
_WIDE = 1.6  # from this aspect ratio on, the overview goes below
_LEAST_WIDTH_PX = 600
_MARGIN_PX = 16
_TITLE_PX, _CAPTION_PX = 36, 32
_TITLE_FONT_PX, _FONT_PX = 24, 18
_MEANING, _BORDERS = "clear: kept    grey: dropped", "    blue lines: borders of tiles"
_JOINED = "clear: kept    faint: merged with a kept one    grey: dropped"
_FAINT = 0.6  # brightness of a patch that merged with a kept one
_SOFT = (96, 96, 96)
_PAPER, _INK, _OUTLINE, _TILE_BORDER = (255, 255, 255), (32, 32, 32), (255, 200, 0), (0, 200, 255)
_DIM, _HAZE = (
    0.4,
    40,
)  # a dropped patch becomes grey: this share of its brightness, lifted a little so that dark ones show


def draw_kept(
    image: Image.Image,
    picture: PackedPicture,
    spec: PictureSpec,
    kept: Sequence[int],
    title: str = "",
    joined: Sequence[int] = (),
) -> Image.Image:
    """One RGB sheet: kept tokens clear and outlined, dropped ones dark grey, tile borders blue; what the colours mean stands below.

    image    the upright RGB picture that was packed
    picture  how it was packed
    kept     flat indices t*N+n; -1 entries are skipped
    title    above everything; see `kept_title`
    joined   flat indices of tokens that merged with a kept one: a little darker

    The overview has a panel of the picture's size and shape, so that both can be compared; a picture of one tile has one panel. What a centre
    crop cuts off is shown as dropped. Raises RequestError when the indices or the packing do not belong to this picture and model.
    """
    place, tile = picture.place, spec.tile
    if place.size != (image.height, image.width) or picture.slot.shape != (spec.tiles_max, tile.units):
        raise RequestError(
            f"the tokens are of a picture of {place.size[1]}x{place.size[0]} pixels or of another model, this picture has "
            f"{image.width}x{image.height}; expected the picture that was looked at"
        )
    marks, faint = (_marks(tokens, picture, spec) for tokens in (kept, joined))
    canvas = slice(place.first, place.tiles)
    below = not place.overview or image.width / image.height >= _WIDE
    shown = _scaled(image, _BELOW_PX if below else _BESIDE_PX)
    whole = _panel(shown, _raster(marks[canvas], place), _raster(faint[canvas], place), place, tile)
    meaning = (_JOINED if len(joined) else _MEANING) + (_BORDERS if place.rows * place.cols > 1 else "")
    if not place.overview:
        name = "picture" if place.tiles - place.first == 1 else "tiles"
        return _sheet([(whole, _caption(name, marks[canvas], picture, canvas))], title, meaning, below=True)
    one = Placement((tile.px, tile.px), 1, 1, 0, 0, tile.px, tile.px)  # the overview shows all of the picture
    if min(shown.size) < _LEAST_PX:
        size = max(shown.width, _LEAST_PX), max(shown.height, _LEAST_PX)
        shown = image.resize(size, Image.Resampling.BICUBIC)
    first = slice(0, 1)
    overview = _panel(shown, _raster(marks[first], one), _raster(faint[first], one), one, tile)
    panels = [
        (whole, _caption("tiles", marks[canvas], picture, canvas)),
        (overview, _caption("overview", marks[first], picture, first)),
    ]
    return _sheet(panels, title, meaning, below=below)


def _marks(tokens: Sequence[int], picture: PackedPicture, spec: PictureSpec) -> NDArray[np.bool_]:
    """[tiles, side, side]: where these tokens are."""
    marks = np.zeros((spec.tiles_max, spec.tile.side, spec.tile.side), dtype=np.bool_)
    for number, row, col in picture.triples(tokens, spec.tile):
        marks[number, row, col] = True
    return marks


def kept_title(selection: SelectionSpec, picture: PackedPicture, kept: int) -> str:
    """How many tokens of how many were kept, by what, under which budget."""
    if selection.whole:
        return f"all {kept} visual tokens (budget {selection.budget})"
    return f"{kept} of {picture.candidates} visual tokens kept by {selection.method} at budget {selection.budget}"


def _caption(name: str, marks: NDArray[np.bool_], picture: PackedPicture, tiles: slice) -> str:
    return f"{name}: {int(marks.sum())} of {int((picture.slot[tiles] >= 0).sum())} kept"


def _raster(marks: NDArray[np.bool_], place: Placement) -> NDArray[np.bool_]:
    """[tiles, side, side] -> [rows*side, cols*side]: the marks as they lie on the canvas of tiles."""
    side = marks.shape[1]
    present = marks.reshape(place.rows, place.cols, side, side)
    raster: NDArray[np.bool_] = present.transpose(0, 2, 1, 3).reshape(place.rows * side, place.cols * side)
    return raster


def _scaled(image: Image.Image, box: tuple[int, int]) -> Image.Image:
    scale = min(box[0] / image.width, box[1] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def _panel(
    picture: Image.Image, raster: NDArray[np.bool_], faint: NDArray[np.bool_], place: Placement, tile: TileSpec
) -> Image.Image:
    """The picture with everything outside the marked patches dimmed, faint ones a little."""
    rows = _cells(picture.height, place.top, place.height, tile)
    cols = _cells(picture.width, place.left, place.width, tile)
    # A frame of unmarked cells stands for what lies outside the canvas.
    row_index = np.clip(rows + 1, 0, raster.shape[0] + 1)[:, None]
    col_index = np.clip(cols + 1, 0, raster.shape[1] + 1)
    clear, soft = (np.pad(cells, 1)[row_index, col_index] for cells in (raster, faint))
    pixels = np.array(picture)
    grey = (np.asarray(picture.convert("L")) * _DIM + _HAZE).astype(np.uint8)
    pixels[~clear & ~soft] = grey[~clear & ~soft][:, None]
    pixels[~clear & soft] = (pixels[~clear & soft] * _FAINT).astype(np.uint8)
    pixels[_outline(clear)] = _OUTLINE
    for lines, axis in ((_borders(rows, tile.side), 0), (_borders(cols, tile.side), 1)):
        pixels[(slice(None),) * axis + (lines,)] = _TILE_BORDER
    return Image.fromarray(pixels)


def _cells(shown: int, start: int, extent: int, tile: TileSpec) -> NDArray[np.int64]:
    """[shown]: row (or column) of units of the canvas under each displayed pixel; negative or too large outside it.

    Pixels of a tile beyond its last whole patch count as the last unit.
    """
    position = start + (np.arange(shown) + 0.5) * extent / shown
    number, within = np.divmod(position, tile.px)
    unit = np.minimum(within // tile.unit_px, tile.side - 1)
    cells: NDArray[np.int64] = (number * tile.side + unit).astype(np.int64)
    return cells


def _outline(clear: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Dimmed pixels that touch a clear one, so that no kept pixel is painted over."""
    near = np.zeros_like(clear)
    near[1:] |= clear[:-1]
    near[:-1] |= clear[1:]
    near[:, 1:] |= clear[:, :-1]
    near[:, :-1] |= clear[:, 1:]
    return near & ~clear


def _borders(cells: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Displayed pixels at which a new tile begins."""
    starts: NDArray[np.int64] = np.flatnonzero(np.diff(cells // side)) + 1
    return starts


def _sheet(panels: Sequence[tuple[Image.Image, str]], title: str, meaning: str, *, below: bool) -> Image.Image:
    """Title, the panels with their captions above them in a column or in a row, in the middle, and what the colours mean."""
    font, large = ImageFont.load_default(_FONT_PX), ImageFont.load_default(_TITLE_FONT_PX)
    widths = [max(panel.width, round(font.getlength(caption))) for panel, caption in panels]
    heights = [panel.height + _CAPTION_PX for panel, _ in panels]
    gaps = _MARGIN_PX * (len(panels) - 1)
    wide, high = (max(widths), sum(heights) + gaps) if below else (sum(widths) + gaps, max(heights))
    texts = (large.getlength(title), font.getlength(meaning))
    width = max(wide, _LEAST_WIDTH_PX, *map(round, texts)) + 2 * _MARGIN_PX
    top = _MARGIN_PX + (_TITLE_PX if title else 0)
    sheet = Image.new("RGB", (width, top + high + _CAPTION_PX + _MARGIN_PX), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN_PX, _MARGIN_PX), title, fill=_INK, font=large)
    x, y = (width - wide) // 2, top
    for (panel, caption), panel_width, panel_height in zip(panels, widths, heights, strict=True):
        pen.text((x, y), caption, fill=_INK, font=font)
        sheet.paste(panel, (x, y + _CAPTION_PX))
        x, y = (x, y + panel_height + _MARGIN_PX) if below else (x + panel_width + _MARGIN_PX, y)
    pen.text((_MARGIN_PX, top + high + 8), meaning, fill=_SOFT, font=font)
    return sheet
