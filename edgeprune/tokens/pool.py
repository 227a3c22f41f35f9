"""Down-sampling: overview and canvas averaged into exactly K rectangular cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens import combine, places
from edgeprune.tokens.readings import Reduction, TowerOutputs
from edgeprune.tokens.select import ascending, inverse

if TYPE_CHECKING:
    from torch import Tensor

_LAST = 2**31 - 1  # of int32
_MANY = 1 << 24  # above every slot, and all integers below it are exact in float32


def pool(outputs: TowerOutputs, keep: int) -> Reduction:
    """Down-sample overview and canvas into exactly `keep` rectangular cells of nearly equal size.

    Overview and canvas share `keep` by their token counts. An h x w grid is cut into R bands of rows, band r into
    floor((r+1)k/R) - floor(rk/R) cells; R is the rounded square root of k*h/w, clamped so that every cell holds a token.
    `index` is the first token of each cell. With fewer candidates than `keep` each token is its own cell.
    """
    tiles, tokens = outputs.slot.shape
    slot, side = outputs.slot.flatten(), outputs.geometry.side
    height, wide = places.canvas_size(outputs)
    on_canvas, width = height * wide, torch.clamp(wide, min=1)
    in_overview = tokens if outputs.geometry.overview else 0
    k_overview, k_canvas = _split(keep, in_overview, on_canvas)

    row, column = places.in_tile(outputs.geometry)
    overview_cell = _cell(row, column, torch.tensor(side), torch.tensor(side), k_overview, side)
    row, column = (place.flatten() for place in places.on_canvas(outputs))
    canvas_cell = k_overview + _cell(row, column, height, width, k_canvas, tiles * side)
    pooled = torch.where(torch.arange(tiles * tokens) < in_overview, overview_cell.repeat(tiles), canvas_cell)
    sequence = inverse(ascending(torch.where(slot >= 0, slot, _LAST)))
    cell = torch.where(keep >= in_overview + on_canvas, sequence, pooled)

    member = combine.joined(torch.arange(keep), torch.where(slot >= 0, cell, -2))  # [K, T * N]
    first = torch.argmax(member * (_MANY - slot), dim=1)
    index = torch.where(member.sum(dim=1) > 0, first, -1)
    return _in_order(index, combine.mean(member), slot)


def _in_order(index: Tensor, transform: Tensor, slot: Tensor) -> Reduction:
    """Rows in the order of the prompt: the overview may stand last."""
    order = ascending(torch.where(index >= 0, slot[torch.clamp(index, min=0)], _LAST))
    return Reduction(index[order], transform[order])


def _split(keep: int, in_overview: int, on_canvas: Tensor) -> tuple[Tensor, Tensor]:
    """Cells for overview and canvas, in proportion to their tokens: [] int64 each."""
    if not in_overview:
        return torch.tensor(0), torch.clamp(on_canvas, max=keep)
    total = in_overview + on_canvas
    share = torch.clamp(_div(2 * keep * in_overview + total, 2 * total), min=min(keep, 1), max=min(in_overview, keep))
    canvas = torch.minimum(keep - share, on_canvas)
    return torch.clamp(keep - canvas, max=in_overview), canvas


def _cell(y: Tensor, x: Tensor, height: Tensor, width: Tensor, cells: Tensor, tallest: int) -> Tensor:
    """Cell number of token (y, x) when a height x width grid, never higher than `tallest`, is cut into `cells` cells.

    The rounded root of k*h/w is the number of odd d with d^2 * w <= 4 k h: whole numbers only.
    """
    odd = 2 * torch.arange(tallest) + 1
    ideal = (odd * odd * width <= 4 * cells * height).sum()
    least = torch.clamp(_div(cells + width - 1, width), min=1)
    bands = torch.maximum(torch.minimum(ideal, height), least)
    band = _div(y * bands, torch.clamp(height, min=1))
    start, end = _div(band * cells, bands), _div((band + 1) * cells, bands)
    return start + _div(x * (end - start), width)


def _div(a: Tensor, b: Tensor | int) -> Tensor:
    return torch.div(a, b, rounding_mode="floor")
