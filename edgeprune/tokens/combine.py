"""What becomes of the tokens that are not kept: dropped, or averaged into cells.

`apply` turns a Reduction into rows; a drop is a gather, a merge one small matrix product.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeprune.tokens.seen import Reduction, Seen


def drop(index: Tensor) -> Reduction:
    """Keep the chosen tokens as they are."""
    return Reduction(index, None)


def pool(seen: Seen, keep: int) -> Reduction:
    """Down-sample thumbnail and mosaic into exactly `keep` rectangular cells of nearly equal size.

    Thumbnail and mosaic share `keep` by their token counts. An h x w grid is cut into R bands of rows, band r into
    floor((r+1)k/R) - floor(rk/R) cells; R is the rounded square root of k*h/w, clamped so that every cell holds a token.
    `index` is the first token of each cell. With fewer candidates than `keep` each token is its own cell.
    """
    tiles, tokens = seen.slot.shape
    side = math.isqrt(tokens)
    slot = seen.slot.flatten()
    height, width = seen.mosaic[0], seen.mosaic[1]
    in_mosaic = height * width
    k_thumbnail, k_mosaic = _split(keep, tokens, in_mosaic)

    position = torch.clamp(
        torch.arange(tokens) - (tokens - side * side), min=0
    )  # a token that is no patch joins the first
    thumbnail_cell = _cell(_div(position, side), position % side, side, side, k_thumbnail)
    within = torch.clamp(slot - tokens, min=0)
    columns = torch.clamp(width, min=1)
    mosaic_cell = k_thumbnail + _cell(_div(within, columns + 1), within % (columns + 1), height, columns, k_mosaic)
    pooled = torch.where(torch.arange(tiles * tokens) < tokens, thumbnail_cell.repeat(tiles), mosaic_cell)
    sequence = torch.sort(
        torch.sort(torch.where(slot >= 0, slot, torch.iinfo(torch.int32).max), stable=True).indices, stable=True
    ).indices
    cell = torch.where(keep >= tokens + in_mosaic, sequence, pooled)
    cell = torch.where(slot >= 0, cell, -1)

    member = (torch.arange(keep)[:, None] == cell[None]).to(seen.features.dtype)  # [K, T * N]
    size = member.sum(dim=1, keepdim=True)
    first = (
        (member * torch.where(slot >= 0, torch.iinfo(torch.int32).max - slot, 0).to(torch.float64)).max(dim=1).indices
    )
    return Reduction(torch.where(size[:, 0] > 0, first, -1), member / torch.clamp(size, min=1.0))


def apply(seen: Seen, reduction: Reduction) -> Tensor:
    """The reduced features [K, C]; rows without a token hold token 0 (drop) or zeros (merge) and are never read."""
    flat = seen.features.flatten(0, 1)
    if reduction.transform is None:
        return flat[torch.clamp(reduction.index, min=0)]
    return reduction.transform @ flat


def _split(keep: int, tokens: int, in_mosaic: Tensor) -> tuple[Tensor, Tensor]:
    """Cells for thumbnail and mosaic, in proportion to their tokens: [] int64 each."""
    total = tokens + in_mosaic
    share = torch.clamp(_div(2 * keep * tokens + total, 2 * total), min=min(keep, 1), max=min(tokens, keep))
    mosaic = torch.minimum(keep - share, in_mosaic)
    return torch.clamp(keep - mosaic, max=tokens), mosaic


def _cell(y: Tensor, x: Tensor, height: Tensor | int, width: Tensor | int, cells: Tensor) -> Tensor:
    """Cell number of token (y, x) when a height x width grid is cut into `cells` cells."""
    ideal = torch.floor(torch.sqrt(cells.to(torch.float64) * height / width) + 0.5).to(torch.int64)
    least = torch.clamp(_div(cells + width - 1, width), min=1)
    bands = torch.maximum(torch.minimum(ideal, torch.as_tensor(height)), least)
    band = _div(y * bands, torch.clamp(torch.as_tensor(height), min=1))
    start, end = _div(band * cells, bands), _div((band + 1) * cells, bands)
    return start + _div(x * (end - start), width)


def _div(a: Tensor, b: Tensor | int) -> Tensor:
    return torch.div(a, b, rounding_mode="floor")
