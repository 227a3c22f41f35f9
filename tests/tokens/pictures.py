"""Random pictures for selection tests: real layouts, thin ones included, and readings in which ties are true ties."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from edgeprune.tokens.seen import TowerOutputs
from edgeprune_runtime.pictures.packed import Layout, layout_from_size
from edgeprune_runtime.spec import Preprocess
from tests.references.picture import Picture

GRIDS = ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1))
EARLY, LATE = 0, 1
#: Layers of `full_case`: the feature layer and the last one.
FEATURE, LAST = 3, 4
HEADS = 4
#: (height, width) of thin pictures: unpadding leaves no rows or no columns of tile tokens, or very few.
THIN = ((3, 900), (900, 3), (20, 400), (400, 25), (1, 1))
#: What stands where no token is.
GARBAGE = 1e3


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

    seen: TowerOutputs
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

    @property
    def picture(self) -> Picture:
        """The same readings as the references take them."""

        def plain(value: Any) -> Any:
            return {i: plain(v) for i, v in value.items()} if isinstance(value, dict) else value.numpy()

        known = {field.name for field in fields(Picture)}
        readings = {name: plain(value) for name, value in self.seen._asdict().items() if name in known}
        readings["mosaic"] = tuple(self.seen.mosaic.tolist())
        return Picture(**readings, heads=HEADS)


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
    """For HiRED. Scores are small multiples of 1/16, early attention sums to a power of two: float32 rounds nowhere."""
    layout = layout_from_size(*random_size(rng), preprocess_of(patches))
    tiles, tokens = layout.slot.shape
    late = rng.integers(0, 9, (tiles, heads, tokens)).astype(np.float32) / 16
    early = np.zeros((tiles, heads, tokens), np.float32)
    if rng.random() < 0.95:  # otherwise the early layer saw nothing
        counts = rng.integers(0, 4, (heads, tokens)) * rng.integers(0, 2, (heads, tokens))
        rest = (1 << int(counts.sum()).bit_length()) - int(counts.sum())
        counts[int(rng.integers(heads)), int(rng.integers(tokens))] += rest
        early[0] = counts / 16
        early[1:] = 7  # attention on tiles has no say in the shares
    return _case(rng, layout, {EARLY: early, LATE: late}, width)


def float_case(rng: np.random.Generator, patches: int, heads: int = 3, width: int = 3) -> Case:
    """For HiRED. Attention as a softmax gives it."""
    layout = layout_from_size(*random_size(rng), preprocess_of(patches))
    shape = (layout.slot.shape[0], heads, layout.slot.shape[1])
    return _case(rng, layout, {EARLY: _shares(rng, *shape), LATE: _shares(rng, *shape)}, width)


def full_case(
    rng: np.random.Generator, patches: int, *, exact: bool = False, width: int = 6, garbage: float = GARBAGE
) -> Case:
    """Everything that any method reads, for layers 0 .. LAST.

    exact: attention in sixteenths and vectors of +-1 in a power of four dimensions, so that sums, means over heads and cosines
    round nowhere and ties are many and true. Otherwise floats. `width`: of projected tokens. `garbage` fills what no token owns.
    """
    slot, region, mosaic = _one_tile(rng, patches) if rng.random() < 0.1 else _tiled(rng, patches)
    tiles, tokens = slot.shape
    width, rows = 16 if exact else width, int(rng.integers(0, 3))

    def shares(*shape: int) -> np.ndarray:
        if exact:
            return rng.integers(0, 9, shape).astype(np.float32) / 16
        return np.ascontiguousarray(
            _shares(rng, *shape[:-1], shape[-1] + 1)[..., 1:]
        )  # without the class token's column

    def vectors(*shape: int) -> np.ndarray:
        drawn = rng.choice((-1.0, 1.0), shape) if exact else rng.normal(size=shape)
        return np.asarray(drawn, np.float32)

    layers = range(LAST + 1)
    key = {i: vectors(tiles, tokens, 4) for i in layers}
    readings: dict[str, Any] = {
        "features": vectors(tiles, tokens, 4),
        "slot": slot,
        "region": region,
        "mosaic": mosaic,
        "attention": {i: shares(tiles, HEADS, tokens) for i in layers},
        "wide": {i: shares(tiles, tokens) for i in layers},
        "maps": {i: shares(tiles, tokens + 1, tokens) for i in layers},
        "keys": {i: np.tile(k, HEADS) if exact else vectors(tiles, tokens, 4 * HEADS) for i, k in key.items()},
        "class_feature": vectors(tiles, 4),
        "projected": vectors(tiles, tokens, width),
        "question": vectors(2, width),
        "question_weight": np.asarray([1 / max(rows, 1) if m < rows else 0 for m in range(2)], np.float32),
        "entropy": (8 * rng.random((tiles, tokens))).astype(np.float32),
    }
    spoil(readings, garbage)
    keep = random_keep(rng, tiles * tokens, int((slot >= 0).sum()))
    return Case(TowerOutputs(**{name: _tensors(value) for name, value in readings.items()}), keep)


def _one_tile(rng: np.random.Generator, patches: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slots, regions and mosaic of a model without tiles, with a token that is no patch in half of the cases."""
    tokens = patches * patches + int(rng.integers(0, 2))
    return np.arange(tokens)[None], np.zeros((1, tokens), np.float32), np.zeros(2, np.int64)


def _tiled(rng: np.random.Generator, patches: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of a model with 2 to 5 tiles, of which up to three are absent."""
    layout = layout_from_size(*random_size(rng), preprocess_of(patches))
    tiles = int(rng.integers(layout.tiles, layout.slot.shape[0] + 1))
    return np.array(layout.slot[:tiles]), np.array(layout.region[:tiles]), np.asarray(layout.mosaic, np.int64)


def spoil(readings: dict[str, Any], value: float) -> None:
    """Overwrite everything that belongs to tokens without a slot, and question rows without weight.

    What padding attends to stays in tiles that have tokens: HiPrune's means run over it, as its source's do.
    """
    off = readings["slot"] < 0
    for name in ("features", "projected", "entropy"):
        readings[name][off] = value
    for kind in ("keys", "wide"):
        for array in readings[kind].values():
            array[off] = value
    for array in (*readings["attention"].values(), *readings["maps"].values()):
        array[np.broadcast_to(off[:, None], array.shape)] = value
    absent = off.all(axis=1)
    for array in (*readings["maps"].values(), readings["class_feature"]):
        array[absent] = value
    readings["question"][readings["question_weight"] == 0] = value


def perturbed(picture: Picture, rng: np.random.Generator, by: float) -> Picture:
    """Every reading in float64, moved by up to `by` of itself."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {i: moved(v) for i, v in value.items()}
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            return value.astype(np.float64) * (1 + by * rng.uniform(-1, 1, value.shape))
        return value

    held = {field.name: getattr(picture, field.name) for field in fields(picture)}
    return Picture(**{name: value if name == "question_weight" else moved(value) for name, value in held.items()})


def _shares(rng: np.random.Generator, *shape: int) -> np.ndarray:
    parts = np.exp(2 * rng.normal(size=shape))
    return np.asarray(parts / parts.sum(axis=-1, keepdims=True), np.float32)


def _tensors(value: Any) -> Any:
    return {i: _tensors(v) for i, v in value.items()} if isinstance(value, dict) else torch.from_numpy(value)


def _case(rng: np.random.Generator, layout: Layout, attention: dict[int, np.ndarray], width: int) -> Case:
    tiles, tokens = layout.slot.shape
    features = rng.normal(size=(tiles, tokens, width)).astype(np.float32)
    seen = TowerOutputs(
        torch.from_numpy(features),
        torch.from_numpy(np.array(layout.slot)),
        torch.from_numpy(np.array(layout.region)),
        torch.from_numpy(np.asarray(layout.mosaic, np.int64)),
        _tensors(attention),
    )
    return Case(seen, random_keep(rng, tiles * tokens, int((layout.slot >= 0).sum())))
