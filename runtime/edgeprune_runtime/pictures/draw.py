"""Show which visual tokens were kept: the picture with dropped patches dimmed, and the thumbnail beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.pictures.packed import Layout
from edgeprune_runtime.pictures.tiling.anyres import Placement, best_grid, placement_from_size
from edgeprune_runtime.spec import Preprocess

_SHEET_WIDTH_PX = 960
_BESIDE_PX = (600, 640)  # box (width, height) of the picture when the thumbnail stands beside it
_BELOW_PX = (1200, 700)  # and when the thumbnail stands below it
_THUMBNAIL_PX = 480
_WIDE = 1.6  # from this aspect ratio on, the thumbnail goes below
_MARGIN_PX = 16
_CAPTION_PX = 32
_FONT_PX = 20
_PAPER, _INK, _OUTLINE, _TILE_BORDER = (255, 255, 255), (32, 32, 32), (255, 200, 0), (0, 200, 255)
_DIM, _HAZE = (
    0.4,
    40,
)  # a dropped patch becomes grey: this share of its brightness, lifted a little so that dark ones show


def draw_kept(image: Image.Image, layout: Layout, preprocess: Preprocess, kept: Sequence[int]) -> Image.Image:
    """One RGB sheet, at least 960 pixels wide: kept patches clear and outlined, dropped ones dark grey, tile borders blue.

    image  the upright RGB picture that `layout` was made for
    kept   flat indices t*N+n; -1 entries are skipped

    LLaVA-1.5 has one tile, so one panel; what its centre crop cuts off is shown as dropped.
    Raises RequestError when the indices or the layout do not belong to this picture and model.
    """
    if layout.grid != best_grid(image.height, image.width, preprocess):
        raise RequestError(
            f"the layout has a grid of {layout.grid} tiles, the {image.width}x{image.height} picture another; "
            "expected the layout of this picture; make it with layout_from_size"
        )
    side = preprocess.patches
    marks = np.zeros((preprocess.tiles_max, side * side), dtype=np.bool_)
    for tile, row, col in layout.triples(kept):
        marks[tile, row * side + col] = True
    whole = Placement(1, 1, 0, 0, preprocess.tile_px, preprocess.tile_px)  # the thumbnail shows all of the picture
    place = placement_from_size(image.height, image.width, preprocess)
    if not preprocess.anyres:
        panel = _panel(_scaled(image, _BELOW_PX), _raster(marks, place, side), place, preprocess)
        return _sheet([(panel, _caption("picture", marks, layout))], below=True)
    below = image.width / image.height >= _WIDE
    picture = _scaled(image, _BELOW_PX if below else _BESIDE_PX)
    tiles, thumbnail = slice(1, None), slice(0, 1)
    shrunk = image.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BICUBIC)
    return _sheet(
        [
            (
                _panel(picture, _raster(marks[tiles], place, side), place, preprocess),
                _caption("tiles", marks[tiles], layout, first_tile=1),
            ),
            (
                _panel(shrunk, _raster(marks[thumbnail], whole, side), whole, preprocess),
                _caption("thumbnail", marks[thumbnail], layout),
            ),
        ],
        below=below,
    )


def _caption(name: str, marks: NDArray[np.bool_], layout: Layout, first_tile: int = 0) -> str:
    candidates = int((layout.slot[first_tile : first_tile + len(marks)] >= 0).sum())
    return f"{name}: {int(marks.sum())} of {candidates} kept"


def _raster(marks: NDArray[np.bool_], place: Placement, side: int) -> NDArray[np.bool_]:
    """[tiles, N] -> [rows*side, cols*side]: the marks as they lie on the canvas of tiles."""
    present = marks[: place.rows * place.cols].reshape(place.rows, place.cols, side, side)
    raster: NDArray[np.bool_] = present.transpose(0, 2, 1, 3).reshape(place.rows * side, place.cols * side)
    return raster


def _scaled(image: Image.Image, box: tuple[int, int]) -> Image.Image:
    scale = min(box[0] / image.width, box[1] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def _panel(picture: Image.Image, raster: NDArray[np.bool_], place: Placement, preprocess: Preprocess) -> Image.Image:
    """The picture with everything outside the marked patches dimmed."""
    rows = _cells(picture.height, place.top, place.height, preprocess)
    cols = _cells(picture.width, place.left, place.width, preprocess)
    # A frame of unmarked cells stands for what lies outside the canvas.
    framed = np.pad(raster, 1)
    row_index = np.clip(rows + 1, 0, framed.shape[0] - 1)
    col_index = np.clip(cols + 1, 0, framed.shape[1] - 1)
    clear = framed[row_index[:, None], col_index]
    pixels = np.array(picture)
    grey = (np.asarray(picture.convert("L")) * _DIM + _HAZE).astype(np.uint8)
    pixels[~clear] = grey[~clear][:, None]
    pixels[_outline(clear)] = _OUTLINE
    for lines, axis in ((_borders(rows, preprocess), 0), (_borders(cols, preprocess), 1)):
        pixels[(slice(None),) * axis + (lines,)] = _TILE_BORDER
    return Image.fromarray(pixels)


def _cells(shown: int, start: int, extent: int, preprocess: Preprocess) -> NDArray[np.int64]:
    """[shown]: patch row (or column) of the canvas under each displayed pixel; negative or too large outside it.

    Pixels of a tile beyond its last whole patch count as that patch.
    """
    position = start + (np.arange(shown) + 0.5) * extent / shown
    tile, within = np.divmod(position, preprocess.tile_px)
    patch = np.minimum(within // preprocess.patch_px, preprocess.patches - 1)
    cells: NDArray[np.int64] = (tile * preprocess.patches + patch).astype(np.int64)
    return cells


def _outline(clear: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Dimmed pixels that touch a clear one, so that no kept pixel is painted over."""
    near = np.zeros_like(clear)
    near[1:] |= clear[:-1]
    near[:-1] |= clear[1:]
    near[:, 1:] |= clear[:, :-1]
    near[:, :-1] |= clear[:, 1:]
    return near & ~clear


def _borders(cells: NDArray[np.int64], preprocess: Preprocess) -> NDArray[np.int64]:
    """Displayed pixels at which a new tile begins."""
    tile = cells // preprocess.patches
    starts: NDArray[np.int64] = np.flatnonzero(np.diff(tile)) + 1
    return starts


def _sheet(panels: Sequence[tuple[Image.Image, str]], *, below: bool) -> Image.Image:
    """The panels with their captions above them, in a column or in a row."""
    font = ImageFont.load_default(_FONT_PX)
    widths = [max(panel.width, round(font.getlength(caption))) for panel, caption in panels]
    heights = [panel.height + _CAPTION_PX for panel, _ in panels]
    gaps = (len(panels) + 1) * _MARGIN_PX
    width = max(widths) + 2 * _MARGIN_PX if below else sum(widths) + gaps
    height = sum(heights) + gaps if below else max(heights) + 2 * _MARGIN_PX
    sheet = Image.new("RGB", (max(width, _SHEET_WIDTH_PX), height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    x, y = _MARGIN_PX, _MARGIN_PX
    for (panel, caption), panel_width, panel_height in zip(panels, widths, heights, strict=True):
        pen.text((x, y), caption, fill=_INK, font=font)
        sheet.paste(panel, (x, y + _CAPTION_PX))
        x, y = (x, y + panel_height + _MARGIN_PX) if below else (x + panel_width + _MARGIN_PX, y)
    return sheet
