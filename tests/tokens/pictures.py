"""Random pictures for selection tests: readings in which ties are true ties, over the layouts of `layouts`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from edgeprune.tokens.readings import READINGS, Read, TowerOutputs
from tests.references.picture import Picture
from tests.tokens.layouts import KINDS, Layout, random_layout

EARLY, LATE = 0, 1
#: Layers of `full_case`: the feature layer and the last one.
FEATURE, LAST = 3, 4
HEADS = 4
#: What stands where no token is.
GARBAGE = 1e3
#: How often each kind of layout is drawn.
_CHANCE = dict(zip(KINDS, (0.1, 0.6, 0.2, 0.1), strict=True))
#: Readings by layer under the names that references have for them.
_BY_LAYER = {"attention": "attention", "wide": "wide", "map": "maps", "received": "received", "keys": "keys"}
Readings = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One picture after the tower, and a budget."""

    outputs: TowerOutputs
    keep: int
    layout: Layout

    @property
    def slot(self) -> np.ndarray:
        return self.outputs.slot.numpy()

    @property
    def region(self) -> np.ndarray:
        return self.outputs.region.numpy()

    @property
    def early(self) -> np.ndarray:
        """Early attention on the overview, [H, N]."""
        return self.outputs["attention", EARLY][0].numpy()

    @property
    def feature(self) -> np.ndarray:
        return self.outputs["attention", LATE].numpy()

    @property
    def candidates(self) -> int:
        return int((self.slot >= 0).sum())

    @property
    def picture(self) -> Picture:
        """The same readings as the references take them."""
        return picture_of(self.outputs, self.layout, HEADS)


def picture_of(outputs: TowerOutputs, layout: Layout, heads: int) -> Picture:
    """Readings of one picture as the references take them; keys with their heads side by side."""
    arrays: dict[str, Any] = {name: {} for name in _BY_LAYER.values()}
    for name, value in outputs.readings.items():
        kind, _, layer = name.rpartition("_")
        if kind in _BY_LAYER:
            plain = value.flatten(2) if kind == "keys" else value
            arrays[_BY_LAYER[kind]][int(layer)] = plain.numpy()
        else:
            arrays[name] = value.numpy()
    always = {"features": outputs.features, "slot": outputs.slot, "region": outputs.region}
    arrays |= {name: value.numpy() for name, value in always.items()}
    return Picture(**arrays, mosaic=layout.canvas, grid=layout.grid, whole=layout.whole, heads=heads)


def changed(outputs: TowerOutputs, slot: torch.Tensor | None = None, **readings: Any) -> TowerOutputs:
    """Other readings: `question=...`, and by layer `map={3: ...}`."""
    named = dict(outputs.readings)
    for kind, value in readings.items():
        named |= (
            {Read(kind, layer).name: one for layer, one in value.items()} if isinstance(value, dict) else {kind: value}
        )
    return replace(outputs, readings=named, slot=outputs.slot if slot is None else slot)


def by_layer(outputs: TowerOutputs, kind: str) -> dict[int, torch.Tensor]:
    """Everything of a kind that there is one of per layer."""
    return {layer: outputs[kind, layer] for layer in range(LAST + 1) if Read(kind, layer).name in outputs.readings}


def random_keep(rng: np.random.Generator, most: int, candidates: int) -> int:
    """Any K, and often one at an edge."""
    edges = (1, 2, candidates - 1, candidates, candidates + 1, most)
    keep = int(rng.choice(edges)) if rng.random() < 0.3 else int(rng.integers(1, most + 1))
    return min(max(keep, 1), most)


def dyadic_case(rng: np.random.Generator, patches: int, kind: str = "mosaic", heads: int = 2, width: int = 3) -> Case:
    """For HiRED. Scores are small multiples of 1/16, early attention sums to a power of two: float32 rounds nowhere."""
    layout = random_layout(rng, patches, kind)
    tiles, tokens = layout.slot.shape
    late = rng.integers(0, 9, (tiles, heads, tokens)).astype(np.float32) / 16
    early = np.zeros((tiles, heads, tokens), np.float32)
    if rng.random() < 0.95:  # otherwise the early layer saw nothing
        counts = rng.integers(0, 4, (heads, tokens)) * rng.integers(0, 2, (heads, tokens))
        rest = (1 << int(counts.sum()).bit_length()) - int(counts.sum())
        counts[int(rng.integers(heads)), int(rng.integers(tokens))] += rest
        early[0] = counts / 16
        early[1:] = 7  # attention on tiles has no say in the shares
    return _case(rng, layout, _normal(rng, layout, width), {"attention_0": early, "attention_1": late})


def float_case(rng: np.random.Generator, patches: int, heads: int = 3, width: int = 3) -> Case:
    """For HiRED. Attention as a softmax gives it."""
    layout = random_layout(rng, patches, "mosaic")
    shape = (layout.slot.shape[0], heads, layout.slot.shape[1])
    readings = {f"attention_{layer}": _shares(rng, *shape) for layer in (EARLY, LATE)}
    return _case(rng, layout, _normal(rng, layout, width), readings)


def full_case(
    rng: np.random.Generator,
    patches: int,
    *,
    exact: bool = False,
    width: int = 6,
    garbage: float = GARBAGE,
    kinds: tuple[str, ...] = KINDS,
) -> Case:
    """Everything that any method reads, for layers 0 .. LAST.

    exact: attention in sixteenths and vectors of +-1 in a power of four dimensions, so that sums, means over heads and cosines
    round nowhere and ties are many and true. Otherwise floats. `width`: of projected tokens. `garbage` fills what no token owns.
    """
    chances = np.asarray([_CHANCE[kind] for kind in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=chances / chances.sum()))]
    layout = random_layout(rng, patches, kind, absent=False)
    tiles, tokens = layout.slot.shape
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

    def keys() -> np.ndarray:
        """On exact pictures all heads agree: their mean rounds nowhere."""
        heads = 1 if exact else HEADS
        return np.array(np.broadcast_to(vectors(tiles, tokens, heads, 4), (tiles, tokens, HEADS, 4)))

    made: dict[str, Callable[[], np.ndarray]] = {
        "attention": lambda: shares(tiles, HEADS, tokens),
        "wide": lambda: shares(tiles, tokens),
        "map": lambda: shares(tiles, tokens + 1, tokens),
        "received": lambda: shares(tiles, tokens),
        "keys": keys,
    }
    assert {name for name in READINGS if READINGS[name].made == "block"} == {*made}
    readings = {f"{kind}_{i}": draw() for kind, draw in made.items() for i in range(LAST + 1)} | {
        "class_feature": vectors(tiles, 4),
        "projected": vectors(tiles, tokens, width),
        "question": vectors(2, width),
        "question_weight": np.asarray([1 / max(rows, 1) if m < rows else 0 for m in range(2)], np.float32),
        "entropy": (8 * rng.random((tiles, tokens))).astype(np.float32),
    }
    features = vectors(tiles, tokens, 4)
    spoil(layout.slot, features, readings, garbage)
    return _case(rng, layout, features, readings)


def spoil(slot: np.ndarray, features: np.ndarray, readings: Readings, value: float) -> None:
    """Overwrite everything that belongs to tokens without a slot, and question rows without weight.

    What padding attends to stays in tiles that have tokens: HiPrune's means run over it, as its source's do.
    """
    off = slot < 0
    features[off] = value
    for name, array in readings.items():
        if name.startswith(("projected", "entropy", "keys", "wide", "received")):
            array[off] = value
        elif name.startswith(("attention", "map")):
            array[np.broadcast_to(off[:, None], array.shape)] = value
        if name.startswith(("map", "class_feature")):
            array[off.all(axis=1)] = value
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


def _normal(rng: np.random.Generator, layout: Layout, width: int) -> np.ndarray:
    return rng.normal(size=(*layout.slot.shape, width)).astype(np.float32)


def _case(rng: np.random.Generator, layout: Layout, features: np.ndarray, readings: Readings) -> Case:
    always = (features, layout.slot, layout.region, layout.places)
    held = {name: torch.from_numpy(value) for name, value in readings.items()}
    outputs = TowerOutputs(*(torch.from_numpy(array) for array in always), layout.geometry, held)
    return Case(outputs, random_keep(rng, layout.slot.size, int((layout.slot >= 0).sum())), layout)
