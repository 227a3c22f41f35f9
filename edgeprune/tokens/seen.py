"""What a token-reduction method may look at, and what it returns.

Axes: T tiles (tile 0 is the thumbnail), N tokens per tile, H heads, C channels, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Seen(NamedTuple):
    """One picture after the vision tower.

    features   [T, N, C]  output of the feature layer, class token removed
    attention  {layer: [T, H, N]}  class-token attention rows of the layers the method asked for; softmax over N + 1 keys, class column removed
    slot       [T, N] int64  position in the unpruned packed sequence; -1 for padding and absent tiles, which are never kept
    region     [T, N] 0/1  thumbnail patch n lies in the area of tile t; row 0 is zero
    mosaic     [2] int64  rows and columns of the unpadded mosaic
    """

    features: Tensor
    attention: Mapping[int, Tensor]
    slot: Tensor
    region: Tensor
    mosaic: Tensor


@dataclass(frozen=True)
class Reduction:
    """`index` [K] int64: flat token t * N + n of each output row, ascending by slot, -1 where nothing is left to keep.

    `transform` [K, T * N]: rows that sum to 1 (zero where index is -1) when tokens are merged; None when they are dropped.
    """

    index: Tensor
    transform: Tensor | None
