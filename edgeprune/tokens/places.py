"""Where tokens lie: rows and columns in their tile and on the canvas, neighbours, and cells of a coarse grid.

A token that is no patch (DeiT's distillation token) lies where the first patch lies.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.readings import Geometry, TowerOutputs

if TYPE_CHECKING:
    from torch import Tensor


def patch(geometry: Geometry) -> Tensor:
    """Number of every token of a tile in raster order [N], negative for a token that is no patch."""
    return torch.arange(geometry.extra + geometry.side**2) - geometry.extra


def in_tile(geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Row and column of every token in its tile, [N] each."""
    place = torch.clamp(patch(geometry), min=0)
    return torch.div(place, geometry.side, rounding_mode="floor"), place % geometry.side


def on_canvas(outputs: TowerOutputs) -> tuple[Tensor, Tensor]:
    """Row and column of every token on the unpadded canvas, [T, N] each; nothing of meaning for the overview and padding."""
    places = torch.clamp(outputs.places, min=0)
    return places[:, :, 0], places[:, :, 1]


def canvas_size(outputs: TowerOutputs) -> tuple[Tensor, Tensor]:
    """Rows and columns of the unpadded canvas, [] each; 0 for a picture that has an overview only."""
    canvas = outputs.places[int(outputs.geometry.overview) :].flatten(0, 1)
    if not len(canvas):  # a model of one tile
        return torch.tensor(0), torch.tensor(0)
    size = canvas.amax(dim=0) + 1
    return size[0], size[1]


def in_overview(outputs: TowerOutputs) -> Tensor:
    """[T, 1] bool: whether a tile is the overview."""
    first = torch.arange(outputs.slot.shape[0])[:, None] == 0
    return first if outputs.geometry.overview else first & False


def beside(marked: Tensor, geometry: Geometry) -> Tensor:
    """Patches that are a neighbour (p - 1, p + 1, p - side, p + side) of a marked token: [T, N] bool.

    Numbers are clamped to the tile and wrap at row ends, as in HiPrune's code.
    """
    number, side = patch(geometry), geometry.side
    steps = torch.tensor([-1, 1, -side, side])
    reached = torch.clamp(torch.clamp(number, min=0)[:, None] + steps, 0, side * side - 1)  # [N, 4]
    reaches = (reached[:, :, None] == number).any(dim=1)  # [N, N]: from, to
    return (marked[:, :, None] & reaches).any(dim=1)


def cells(outputs: TowerOutputs, size: Fraction) -> Tensor:
    """Cell of every token when overview and canvas are cut into size x size cells: [T, N], numbers not contiguous.

    Row r is in row floor(r / size) of cells; VFlowOpt's sizes are no whole numbers.
    """
    tiles, side = outputs.slot.shape[0], outputs.geometry.side
    longest = tiles * side  # no canvas is longer than all tiles in a line
    start = torch.tensor([math.floor(i / size) for i in range(longest + 1)])
    across = longest + 1
    row, column = in_tile(outputs.geometry)
    overview = (start[row] * across + start[column]).expand(outputs.slot.shape)
    row, column = on_canvas(outputs)
    canvas = across * across + start[row] * across + start[column]
    return torch.where(in_overview(outputs), overview, canvas)
