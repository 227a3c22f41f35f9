"""Which visual token stands where: the tiles of one picture as a list of rows and texts, in the order of the prompt.

Rows are what the language model is given vectors for: visual tokens, and learned rows such as LLaVA-NeXT's newline. Texts between them
become token ids together with the prompt. A text or learned row may belong to a group of rows: it separates them, and may leave with them.
Where a picture stands on its tiles, and the rounding that decides which tokens are padding, are transformers' (5.23), repeated exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_runtime.errors import BundleError, RequestError
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Placement, TileSpec

#: What a row is that is no visual token; `PackedPicture.unit` is at least 0 for those.
LEARNED = -1
RowRange = tuple[int, int]
#: The group of what always stays.
ALWAYS: RowRange = (-1, -1)


@dataclass(frozen=True)
class Segment:
    """A piece of a packed picture: a text, or where it has none, the rows start .. stop - 1.

    group  rows first .. behind - 1 that a text belongs to
    """

    text: str = ""
    start: int = 0
    stop: int = 0
    group: RowRange = ALWAYS


@dataclass(frozen=True, eq=False)
class PackedPicture:
    """One picture as the prompt will hold it. T tiles at most, N visual tokens per tile, R rows; arrays are read-only.

    place     where the picture lies on its tiles; tile 0 is the overview where `place.overview` says so
    segments  texts and runs of rows, in the order of the prompt
    unit      int64 [R]: visual token t * N + n of each row, LEARNED for a learned one
    group     int64 [R, 2]: rows first .. behind - 1 that a learned row belongs to
    slot      int64 [T, N]: row of each visual token, -1 for padding and absent tiles
    places    int64 [T, N, 2]: row and column of a token on the unpadded canvas, the overview's in its own tile; -1 without a place
    region    float32 [T, N]: 1.0 where the centre of the overview's unit n lies in tile t; row 0 is 0
    canvas    rows and columns of units of the unpadded canvas, either may be 0; (0, 0) for a picture of one tile
    """

    place: Placement
    segments: tuple[Segment, ...]
    unit: NDArray[np.int64]
    group: NDArray[np.int64]
    slot: NDArray[np.int64]
    places: NDArray[np.int64]
    region: NDArray[np.float32]
    canvas: tuple[int, int]

    @property
    def tiles(self) -> int:
        """T of this picture, overview included."""
        return self.place.tiles

    @property
    def length(self) -> int:
        """R, visual tokens and learned rows."""
        return len(self.unit)

    @property
    def candidates(self) -> int:
        """Visual tokens of this picture."""
        return int((self.unit >= 0).sum())

    @property
    def left_out(self) -> int:
        """Visual tokens that are no candidates, because they show what another one shows."""
        return self.candidates - int((self.slot >= 0).sum())

    @property
    def tile_order(self) -> tuple[int, ...]:
        """Numbers of the tiles in the order of the prompt."""
        tiles = self.unit[self.unit >= 0] // self.slot.shape[1]
        return tuple(dict.fromkeys(tiles.tolist()))

    def require_kept(self, kept: NDArray[np.int64], graph: str) -> None:
        """Raise BundleError unless `kept` are visual tokens of this picture, ascending by slot, as a select graph promises."""
        inside = ((kept >= 0) & (kept < self.slot.size)).all()
        slots = self.slot.reshape(-1)[kept] if inside else np.full(1, -1)
        if (slots < 0).any() or (np.diff(slots) <= 0).any():
            raise BundleError(
                f"graph {graph} keeps visual tokens that this picture does not have; expected some of its {self.candidates} in their order; "
                "do not use this bundle"
            )

    def triples(self, kept: Iterable[int], tile: TileSpec) -> tuple[tuple[int, int, int], ...]:
        """(tile, row, column in that tile) of visual tokens; -1 entries (nothing was left to keep) are skipped, and so are tokens that
        are no patch (DeiT's distillation token).

        Raises RequestError for an index outside the model's candidates.
        """
        triples: list[tuple[int, int, int]] = []
        for index in kept:
            if not -1 <= index < self.slot.size:
                raise RequestError(
                    f"kept index {index} does not exist; expected 0 to {self.slot.size - 1} or -1; "
                    "use the indices of a run with the same model"
                )
            number, place = divmod(int(index), self.slot.shape[1])
            place -= tile.extra
            if index >= 0 and place >= 0:
                triples.append((number, place // tile.side, place % tile.side))
        return tuple(triples)


def pack_picture(place: Placement, spec: PictureSpec) -> PackedPicture:
    """Put the tiles of a placed picture in the order of the prompt."""
    tile, tiles = spec.tile, spec.tiles_max
    padding = _padding_units(place, tile) if spec.sequence.unpad and place.overview else (0, 0)
    order = _Order()
    _write_picture(order, place, spec, padding)
    unit, group = order.arrays()
    slot = np.full((tiles, tile.units), -1, np.int64)
    visual = np.flatnonzero(unit >= 0)
    slot.reshape(-1)[unit[visual]] = visual
    places = _places(place, tile, padding, tiles)
    places[slot < 0] = -1
    region = np.zeros((tiles, tile.units), np.float32)
    canvas = (0, 0)
    if place.overview:
        region[place.first : place.tiles, tile.extra :] = _regions(place, tile)
    if place.tiles > 1:
        canvas = place.rows * tile.side - 2 * padding[0], place.cols * tile.side - 2 * padding[1]
    for array in (unit, group, slot, places, region):
        array.flags.writeable = False
    return PackedPicture(place, tuple(order.segments), unit, group, slot, places, region, canvas)


class _Order:
    """Segments and rows in the order in which they are added."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.count = 0
        self._units: list[NDArray[np.int64]] = []
        self._learned: list[tuple[int, RowRange]] = []

    def text(self, text: str, group: RowRange = ALWAYS) -> None:
        if text:
            self.segments.append(Segment(text, group=group))

    def run(self, units: NDArray[np.int64], *, closed: bool = False) -> None:
        """Append visual tokens and, where `closed`, the learned row that belongs to them. Neighbouring runs become one."""
        start = self.count
        self._units.append(units)
        self.count += len(units)
        if closed:
            self._learned.append((self.count, (start, self.count)))
            self._units.append(np.full(1, LEARNED, np.int64))
            self.count += 1
        if self.segments and not self.segments[-1].text:
            start = self.segments.pop().start
        self.segments.append(Segment(start=start, stop=self.count))

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`unit` and `group` of a PackedPicture."""
        group = np.full((self.count, 2), -1, np.int64)
        for row, rows in self._learned:
            group[row] = rows
        return np.concatenate(self._units), group


def _write_picture(order: _Order, place: Placement, spec: PictureSpec, padding: tuple[int, int]) -> None:
    sequence, units = spec.sequence, spec.tile.units
    order.text(sequence.before)
    canvas = _write_mosaic if sequence.order == "mosaic" else _write_tiles
    if place.overview:
        parts = [_write_overview, canvas] if sequence.overview == "first" else [canvas, _write_overview]
        for write in parts:
            write(order, place, spec, padding)
    elif place.tiles > 1:
        canvas(order, place, spec, padding)
    else:
        order.text(sequence.alone, (order.count, order.count + units))
        order.run(spec.tile.units_of(place.view))
    order.text(sequence.after)


def _write_overview(order: _Order, place: Placement, spec: PictureSpec, padding: tuple[int, int]) -> None:
    order.text(spec.sequence.whole, (order.count, order.count + spec.tile.units))
    order.run(np.arange(spec.tile.units, dtype=np.int64))


def _write_tiles(order: _Order, place: Placement, spec: PictureSpec, padding: tuple[int, int]) -> None:
    sequence, units = spec.sequence, spec.tile.units
    for row in range(place.rows):
        start = order.count
        for col in range(place.cols):
            order.text(sequence.tile.format(row=row + 1, col=col + 1), (order.count, order.count + units))
            order.run((place.first + row * place.cols + col) * units + np.arange(units, dtype=np.int64))
        order.text(sequence.row, (start, order.count))


def _write_mosaic(order: _Order, place: Placement, spec: PictureSpec, padding: tuple[int, int]) -> None:
    side, units = spec.tile.side, spec.tile.units
    row, col = np.meshgrid(np.arange(place.rows * side), np.arange(place.cols * side), indexing="ij")
    tile = place.first + (row // side) * place.cols + col // side
    token = tile * units + (row % side) * side + col % side
    inner = token[padding[0] : token.shape[0] - padding[0], padding[1] : token.shape[1] - padding[1]]
    for line in inner.astype(np.int64):
        order.run(line, closed=spec.sequence.row_end is not None)


def _padding_units(place: Placement, tile: TileSpec) -> tuple[int, int]:
    """Rows of units cut at the top and at the bottom, columns cut at the left and at the right.

    The order of the float operations and the seven decimals decide borderline sizes: keep them.
    """
    height, width = place.size
    rows, cols = place.rows * tile.side, place.cols * tile.side
    if width / height > cols / rows:
        return (rows - int(round(height * (cols / width), 7))) // 2, 0
    return 0, (cols - int(round(width * (rows / height), 7))) // 2


def _places(place: Placement, tile: TileSpec, padding: tuple[int, int], tiles: int) -> NDArray[np.int64]:
    """[T, N, 2]: places on the unpadded canvas; an overview's in its own tile."""
    places = np.full((tiles, tile.units, 2), -1, np.int64)
    inside = np.stack(np.divmod(np.arange(tile.side**2), tile.side), axis=1)
    if place.overview or place.tiles == 1:
        places[0, tile.extra :] = inside
    for number in range(place.rows * place.cols):
        corner = np.asarray(divmod(number, place.cols)) * tile.side - padding
        places[place.first + number, tile.extra :] = corner + inside
    return places


def _regions(place: Placement, tile: TileSpec) -> NDArray[np.float32]:
    """[rows*cols, side*side]: which unit of the overview has its centre in which tile. In integers, so no centre can slip between."""
    tile_row = _tile_of_centres(place.top, place.height, tile)
    tile_col = _tile_of_centres(place.left, place.width, tile)
    in_row = tile_row == np.arange(place.rows)[:, None]  # [rows, side]
    in_col = tile_col == np.arange(place.cols)[:, None]  # [cols, side]
    inside = in_row[:, None, :, None] & in_col[None, :, None, :]  # [rows, cols, side, side]
    regions: NDArray[np.float32] = inside.reshape(place.rows * place.cols, -1).astype(np.float32)
    return regions


def _tile_of_centres(start: int, extent: int, tile: TileSpec) -> NDArray[np.int64]:
    """[side]: tile (row or column) under the centre of each unit of the overview, start + (i + 1/2) * unit_px * extent / px."""
    doubled = 2 * np.arange(tile.side, dtype=np.int64) + 1
    number: NDArray[np.int64] = start * 2 * tile.px + doubled * tile.unit_px * extent
    number //= 2 * tile.px**2
    return number
