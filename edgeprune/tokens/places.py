"""Where tokens lie: rows and columns in their tile and in the mosaic, neighbours, and cells of a coarse grid.

A token that is no patch (DeiT's distillation token) lies where the first patch lies.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from edgeprune.tokens.seen import TowerOutputs


def patch(tokens: int) -> tuple[Tensor, int]:
    """Patch number of every token of a tile [N], negative for a token that is no patch, and how many patches make a side."""
    side = math.isqrt(tokens)
    return torch.arange(tokens) - (tokens - side * side), side


def in_tile(tokens: int) -> tuple[Tensor, Tensor, int]:
    """Row and column of every token in its tile ([N] each), and the side."""
    number, side = patch(tokens)
    place = torch.clamp(number, min=0)
    return torch.div(place, side, rounding_mode="floor"), place % side, side


def in_mosaic(seen: TowerOutputs) -> tuple[Tensor, Tensor]:
    """Row and column of every token in the unpadded mosaic, [T, N] each; nothing of meaning for thumbnail and padding.

    Slots go on after the thumbnail, row by row, with one place for the newline at the end of each row.
    """
    within = torch.clamp(seen.slot - seen.slot.shape[1], min=0)
    width = torch.clamp(seen.mosaic[1], min=1) + 1
    return torch.div(within, width, rounding_mode="floor"), within % width


def beside(marked: Tensor) -> Tensor:
    """Patches that are a neighbour (p - 1, p + 1, p - side, p + side) of a marked token: [T, N] bool.

    Numbers are clamped to the tile and wrap at row ends, as in HiPrune's code.
    """
    number, side = patch(marked.shape[1])
    steps = torch.tensor([-1, 1, -side, side])
    reached = torch.clamp(torch.clamp(number, min=0)[:, None] + steps, 0, side * side - 1)  # [N, 4]
    reaches = (reached[:, :, None] == number).any(dim=1)  # [N, N]: from, to
    return (marked[:, :, None] & reaches).any(dim=1)


def cells(seen: TowerOutputs, size: Fraction) -> Tensor:
    """Cell of every token when thumbnail and mosaic are cut into size x size cells: [T, N], numbers not contiguous.

    Row r is in row floor(r / size) of cells; VFlowOpt's sizes are no whole numbers.
    """
    tiles, tokens = seen.slot.shape
    row, column, side = in_tile(tokens)
    longest = tiles * side  # no mosaic is longer than all tiles in a line
    start = torch.tensor([math.floor(i / size) for i in range(longest + 1)])
    across = longest + 1
    thumbnail = (start[row] * across + start[column]).expand(tiles, tokens)
    row, column = (torch.clamp(place, max=longest) for place in in_mosaic(seen))
    mosaic = across * across + start[row] * across + start[column]
    return torch.where(torch.arange(tiles)[:, None] == 0, thumbnail, mosaic)
