"""Random pictures for selection tests: real layouts, thin ones included, and scores in which ties are true ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edgeprune.tokens.seen import Seen
from edgeprune_runtime.layout import layout_from_size
from edgeprune_runtime.spec import Preprocess

GRIDS = ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1))
EARLY, LATE = 0, 1
#: (height, width) of thin pictures: unpadding leaves no rows or no columns of tile tokens, or very few.
THIN = ((3, 900), (900, 3), (20, 400), (400, 25), (1, 1))


def preprocess_of(patches: int) -> Preprocess:
    px = 8 * patches
    return Preprocess(
        anyres=True,
        tile_px=px,
        patches=patches,
        pinpoints=tuple((rows * px, cols * px) for rows, cols in GRIDS),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )


@dataclass(frozen=True)
class Case:
    """One picture after the tower, and a budget."""

    seen: Seen
    keep: int

    @property
    def slot(self) -> np.ndarray:
        return self.seen.slot.numpy()

    @property
    def region(self) -> np.ndarray:
        return self.seen.region.numpy()

    @property
    def early(self) -> np.ndarray:
        """Early attention on the thumbnail, [H, N]."""
        return self.seen.attention[EARLY][0].numpy()

    @property
    def feature(self) -> np.ndarray:
        return self.seen.attention[LATE].numpy()

    @property
    def candidates(self) -> int:
        return int((self.slot >= 0).sum())


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    if rng.random() < 0.2:
        return THIN[int(rng.integers(len(THIN)))]
    return int(rng.integers(1, 300)), int(rng.integers(1, 300))


def random_keep(rng: np.random.Generator, most: int, candidates: int) -> int:
    """Any K, and often one at an edge."""
    edges = (1, 2, candidates - 1, candidates, candidates + 1, most)
    keep = int(rng.choice(edges)) if rng.random() < 0.3 else int(rng.integers(1, most + 1))
    return min(max(keep, 1), most)


def dyadic_case(rng: np.random.Generator, patches: int, heads: int = 2, width: int = 3) -> Case:
    """Scores are small multiples of 1/16, early attention sums to a power of two: float32 rounds nowhere."""
    preprocess = preprocess_of(patches)
    layout = layout_from_size(*random_size(rng), preprocess)
    tiles, tokens = layout.slot.shape
    late = rng.integers(0, 9, (tiles, heads, tokens)).astype(np.float32) / 16
    early = np.zeros((tiles, heads, tokens), np.float32)
    if rng.random() < 0.95:  # otherwise the early layer saw nothing
        counts = rng.integers(0, 4, (heads, tokens)) * rng.integers(0, 2, (heads, tokens))
        rest = (1 << int(counts.sum()).bit_length()) - int(counts.sum())
        counts[int(rng.integers(heads)), int(rng.integers(tokens))] += rest
        early[0] = counts / 16
        early[1:] = 7  # attention on tiles has no say in the shares
    return Case(_seen(layout, early, late, rng, width), random_keep(rng, tiles * tokens, int((layout.slot >= 0).sum())))


def float_case(rng: np.random.Generator, patches: int, heads: int = 3, width: int = 3) -> Case:
    """Attention as a softmax gives it."""
    preprocess = preprocess_of(patches)
    layout = layout_from_size(*random_size(rng), preprocess)
    tiles, tokens = layout.slot.shape
    early, late = (np.exp(2 * rng.normal(size=(tiles, heads, tokens))) for _ in range(2))
    early, late = ((a / a.sum(axis=-1, keepdims=True)).astype(np.float32) for a in (early, late))
    return Case(_seen(layout, early, late, rng, width), random_keep(rng, tiles * tokens, int((layout.slot >= 0).sum())))


def _seen(layout: object, early: np.ndarray, late: np.ndarray, rng: np.random.Generator, width: int) -> Seen:
    tiles, tokens = layout.slot.shape  # type: ignore[attr-defined]
    features = rng.normal(size=(tiles, tokens, width)).astype(np.float32)
    host = (layout.slot, layout.region, np.asarray(layout.mosaic, np.int64))  # type: ignore[attr-defined]
    return Seen(
        torch.from_numpy(features),
        {EARLY: torch.from_numpy(early), LATE: torch.from_numpy(late)},
        *(torch.from_numpy(np.array(a)) for a in host),
    )
