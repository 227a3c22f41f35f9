"""What the reference methods read from one tiled picture, and the few steps that most of them share.

The references of the method modules next to this one are written from the description of each method only, in plain
loops over Python floats; numpy holds the arrays and nothing else. Nothing here is meant to be fast.

Terms: T tiles (tile 0 is the thumbnail), N tokens per tile, flat index = t * N + n, `slot[t, n]` = place of the token
in the unpruned sequence or -1 (padding or absent tile: never kept and never read). A token with a slot is a candidate.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .selection import candidates_by_slot, sainte_lague

Array = NDArray[np.generic]
Vector = Sequence[float]
Row = tuple[int, dict[int, float]]  # flat index whose place the row takes, weight of every token that goes into it

SMALLEST_NORM = 1e-12


def _nothing() -> Array:
    return np.zeros((0, 0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Picture:
    """The readings of one picture. What a method does not read may be left out."""

    features: Array  # [T, N, C] output of the feature layer
    slot: Array  # [T, N] int64
    region: Array = field(default_factory=_nothing)  # [T, N] 1 where thumbnail patch n lies in tile t
    mosaic: tuple[int, int] = (0, 0)  # rows, columns of the unpadded mosaic in tokens; every row ends with a newline
    grid: tuple[int, int] | None = None  # instead of a mosaic: rows, columns of whole tiles, one after another
    whole: bool = True  # tile 0 is the thumbnail; without one it is a crop like the others
    class_token: bool = True  # the tower has one
    attention: dict[int, Array] = field(default_factory=dict)  # layer -> [T, H, N] class attention
    wide: dict[int, Array] = field(default_factory=dict)  # layer -> [T, N] class attention with one wide head
    maps: dict[int, Array] = field(default_factory=dict)  # layer -> [T, N + 1, N] head mean; query 0: class token
    received: dict[int, Array] = field(default_factory=dict)  # layer -> [T, N] mean over heads and patches that ask
    keys: dict[int, Array] = field(default_factory=dict)  # layer -> [T, N, C] heads side by side
    class_feature: Array = field(default_factory=_nothing)  # [T, C]
    projected: Array = field(default_factory=_nothing)  # [T, N, D]
    question: Array = field(default_factory=_nothing)  # [M, D]
    question_weight: Array = field(default_factory=lambda: np.zeros(0, dtype=np.float32))  # [M]
    entropy: Array = field(default_factory=_nothing)  # [T, N]
    heads: int = 1

    @property
    def tiles(self) -> int:
        return int(self.slot.shape[0])

    @property
    def tokens(self) -> int:
        """N, tokens per tile."""
        return int(self.slot.shape[1])

    @property
    def side(self) -> int:
        """Patches per row and per column of a tile: N = extra + side * side."""
        return math.isqrt(self.tokens)

    @property
    def extra(self) -> int:
        """Tokens in front of the patches of every tile (DeiT's distillation token)."""
        return self.tokens - self.side * self.side

    def by_slot(self) -> list[int]:
        """All candidates in the order of the unpruned sequence."""
        return candidates_by_slot(self.slot)

    def by_index(self) -> list[int]:
        """All candidates by ascending flat index."""
        return sorted(self.by_slot())

    def in_tile(self, t: int) -> list[int]:
        """The candidates of one tile by ascending flat index."""
        return [t * self.tokens + n for n in range(self.tokens) if self.slot[t, n] >= 0]

    def patch(self, i: int) -> int:
        """Raster number of the token inside its tile; tokens in front of the patches count as patch 0."""
        return max(i % self.tokens - self.extra, 0)

    def patch_row_column(self, i: int) -> tuple[int, int]:
        return divmod(self.patch(i), self.side)

    def mosaic_row_column(self, i: int) -> tuple[int, int]:
        """Where a crop's candidate lies in the unpadded mosaic, which follows the N slots of the thumbnail.

        Of whole tiles one after another: where it lies in their grid, row by row.
        """
        if self.grid is not None:
            tile_row, tile_column = divmod(i // self.tokens - int(self.whole), self.grid[1])
            row, column = self.patch_row_column(i)
            return tile_row * self.side + row, tile_column * self.side + column
        rows, columns = self.mosaic
        row, column = divmod(int(self.slot.flat[i]) - self.tokens, columns + 1)
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError("the slots do not describe a whole thumbnail followed by a mosaic with newlines")
        return row, column

    def is_crop(self, i: int) -> bool:
        """Whether the token belongs to the mosaic (or grid) and not to the thumbnail."""
        return i >= self.tokens or not self.whole

    def ascending(self, rows: Iterable[Row]) -> list[Row]:
        """Rows in the order of the unpruned sequence."""
        return sorted(rows, key=lambda row: int(self.slot.flat[row[0]]))

    def unchanged(self, chosen: Iterable[int]) -> list[Row]:
        """The chosen tokens as they are, in the order of the unpruned sequence."""
        return self.ascending((i, {i: 1.0}) for i in chosen)


Method = Callable[..., list[Row]]


def kept_whole_when_it_fits(method: Method) -> Method:
    """With no more than K candidates every method keeps everything as it is."""

    @functools.wraps(method)
    def checked(picture: Picture, keep: int, **settings: Any) -> list[Row]:
        if keep <= 0:
            return []
        found = picture.by_slot()
        return picture.unchanged(found) if len(found) <= keep else method(picture, keep, **settings)

    return checked


# ---------------------------------------------------------------------------------------------------------------------
# numbers


def written(share: float | Fraction) -> Fraction:
    """The number as it is written: 0.3 means 3/10, not the nearest binary number (which is slightly smaller)."""
    return share if isinstance(share, Fraction) else Fraction(str(share))


def floor_share(count: int, share: float | Fraction) -> int:
    return math.floor(count * written(share))


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


def dot(a: Vector, b: Vector) -> float:
    return math.fsum(map(operator.mul, a, b))


def length(a: Vector) -> float:
    return max(math.sqrt(dot(a, a)), SMALLEST_NORM)


def cosine(a: Vector, b: Vector) -> float:
    return dot(a, b) / (length(a) * length(b))


def cosines(rows: Sequence[Vector], columns: Sequence[Vector]) -> list[list[float]]:
    """cosine(row, column) for all pairs."""
    row_lengths = [length(a) for a in rows]
    column_lengths = [length(b) for b in columns]
    return [
        [dot(a, b) / (m * n) for b, n in zip(columns, column_lengths, strict=True)]
        for a, m in zip(rows, row_lengths, strict=True)
    ]


def softmax(values: Sequence[float]) -> list[float]:
    highest = max(values)
    parts = [math.exp(v - highest) for v in values]
    total = math.fsum(parts)
    return [p / total for p in parts]


def flat_vectors(array: Array) -> list[list[float]]:
    """[T, N, C] -> T * N lists of C floats."""
    vectors: list[list[float]] = array.reshape(-1, array.shape[-1]).tolist()
    return vectors


def flat_values(array: Array) -> list[float]:
    """[T, N] -> T * N floats."""
    values: list[float] = array.reshape(-1).tolist()
    return values


def over_heads(attention: Array) -> list[float]:
    """[T, H, N] -> the sum over heads of every token, T * N floats."""
    return [math.fsum(heads) for tile in attention.tolist() for heads in zip(*tile, strict=True)]


def attended(picture: Picture, layer: int) -> list[float]:
    """How much attention every token gets in a layer, T * N floats: of the class token, summed over heads; of the
    tile's patches where the tower has no class token."""
    if picture.class_token:
        return over_heads(picture.attention[layer])
    return flat_values(picture.received[layer])


def evenly_spaced(count: int, of: int) -> list[int]:
    """floor((i + 1/2) * of / count) for i = 0 .. count - 1."""
    return [(2 * i + 1) * of // (2 * count) for i in range(count)]


# ---------------------------------------------------------------------------------------------------------------------
# choices


def best_first(indices: Iterable[int], score: Sequence[float] | dict[int, float]) -> list[int]:
    """Highest score first, equal scores by lower flat index."""
    return sorted(indices, key=lambda i: (-score[i], i))


def apportion(capacity: Sequence[int], keep: int, weights: Sequence[Fraction] | None = None) -> list[int]:
    """Tokens per tile (Sainte-Lague): each next token goes to the tile with room and the highest w / (count + 1/2)."""
    return sainte_lague(list(weights) if weights is not None else [Fraction(1)] * len(capacity), list(capacity), keep)


def share_out(ranked: Sequence[Sequence[int]], keep: int) -> list[int]:
    """Equal shares: the first tokens of every tile's ranking, `keep` in all as far as there are so many."""
    counts = apportion([len(tile) for tile in ranked], keep)
    return [i for tile, count in zip(ranked, counts, strict=True) for i in tile[:count]]


def ranked_by(picture: Picture, score: Sequence[float]) -> list[list[int]]:
    """The candidates of every tile, highest score first."""
    return [best_first(picture.in_tile(t), score) for t in range(picture.tiles)]
