"""Down-sampling: thumbnail and mosaic averaged into exactly K rectangular cells."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeprune.tokens import combine, places
from edgeprune.tokens.seen import Reduction, TowerOutputs
from edgeprune.tokens.select import ascending, inverse

_LAST = torch.iinfo(torch.int32).max
_MANY = 1 << 24  # above every slot, and all integers below it are exact in float32


def pool(seen: TowerOutputs, keep: int) -> Reduction:
    """Down-sample thumbnail and mosaic into exactly `keep` rectangular cells of nearly equal size.

    Thumbnail and mosaic share `keep` by their token counts. An h x w grid is cut into R bands of rows, band r into
    floor((r+1)k/R) - floor(rk/R) cells; R is the rounded square root of k*h/w, clamped so that every cell holds a token.
    `index` is the first token of each cell. With fewer candidates than `keep` each token is its own cell.
    """
    tiles, tokens = seen.slot.shape
    slot = seen.slot.flatten()
    height, width = seen.mosaic[0], torch.clamp(seen.mosaic[1], min=1)
    in_mosaic = height * seen.mosaic[1]
    k_thumbnail, k_mosaic = _split(keep, tokens, in_mosaic)

    row, column, side = places.in_tile(tokens)
    thumbnail_cell = _cell(row, column, torch.tensor(side), torch.tensor(side), k_thumbnail, side)
    row, column = (place.flatten() for place in places.in_mosaic(seen))
    mosaic_cell = k_thumbnail + _cell(row, column, height, width, k_mosaic, tiles * side)
    pooled = torch.where(torch.arange(tiles * tokens) < tokens, thumbnail_cell.repeat(tiles), mosaic_cell)
    sequence = inverse(ascending(torch.where(slot >= 0, slot, _LAST)))
    cell = torch.where(keep >= tokens + in_mosaic, sequence, pooled)

    member = combine.joined(torch.arange(keep), torch.where(slot >= 0, cell, -2))  # [K, T * N]
    first = torch.argmax(member * (_MANY - slot), dim=1)
    return Reduction(torch.where(member.sum(dim=1) > 0, first, -1), combine.mean(member))


def _split(keep: int, tokens: int, in_mosaic: Tensor) -> tuple[Tensor, Tensor]:
    """Cells for thumbnail and mosaic, in proportion to their tokens: [] int64 each."""
    total = tokens + in_mosaic
    share = torch.clamp(_div(2 * keep * tokens + total, 2 * total), min=min(keep, 1), max=min(tokens, keep))
    mosaic = torch.minimum(keep - share, in_mosaic)
    return torch.clamp(keep - mosaic, max=tokens), mosaic


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
