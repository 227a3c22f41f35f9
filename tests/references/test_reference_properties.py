"""Properties that every method reference has on any picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from . import attention, diverse, merging, received
from .drawn import FEATURE_LAYER, LAST_LAYER, drawn, fill
from .picture import Picture, Row, apportion, best_first

PLAIN: list[Callable[..., list[Row]]] = [
    attention.fastervlm,
    attention.vtc_cls,
    attention.damro,
    received.fopru,
    received.fopru_row,
    received.hiprune,
    diverse.divprune,
    diverse.todre,
    diverse.todre_kcenter,
    diverse.mmtok,
    diverse.cdpruner,
    diverse.vispruner,
]
MERGING: list[Callable[..., list[Row]]] = [
    received.vflowopt,
    merging.visionzip,
    merging.prumerge,
    merging.prumerge_plus,
    merging.recoverable,
]
SETTINGS: dict[str, dict[str, Any]] = {
    "damro": {"outliers": 3},
    "hiprune": {"alpha_anchor": 0.8},
    "vflowopt": {"cell": 2},
    "visionzip": {"contextual": 0.4},
    "prumerge": {"neighbours": 3},
    "prumerge_plus": {"neighbours": 3},
}
LAYERS = {"feature_layer": FEATURE_LAYER, "last_layer": LAST_LAYER}
# grid, side, absent tiles, rows / columns of padding on each side, tokens in front of the patches
LAYOUTS = [
    ((1, 2), 3, 0, (0, 0), 0),
    ((2, 1), 3, 2, (0, 1), 0),
    ((2, 2), 3, 0, (2, 0), 0),
    ((1, 3), 4, 1, (1, 0), 0),
    ((1, 2), 4, 2, (0, 3), 0),
    ((0, 0), 4, 0, (0, 0), 0),
    ((0, 0), 3, 0, (0, 0), 1),
]


def run(method: Callable[..., list[Row]], picture: Picture, keep: int) -> list[Row]:
    return method(picture, keep, **LAYERS, **SETTINGS.get(method.__name__, {}))


def check(picture: Picture, rows: list[Row], keep: int) -> None:
    candidates = set(picture.by_slot())
    assert len(rows) == min(keep, len(candidates))
    slots = [int(picture.slot.flat[i]) for i, _ in rows]
    assert slots == sorted(set(slots))
    for i, weights in rows:
        assert i in weights
        assert {i, *weights} <= candidates
        assert all(np.isfinite(w) for w in weights.values())
    if len(candidates) <= keep:
        assert rows == [(i, {i: 1.0}) for i in picture.by_slot()]


@pytest.mark.parametrize("method", PLAIN + MERGING, ids=lambda method: method.__name__)
def test_exact_count_order_and_padding(method: Callable[..., list[Row]]) -> None:
    rng = np.random.default_rng(1)
    for grid, side, absent, crop, extra in LAYOUTS:
        # HiPrune's means run over the attention from padding too, which is left as it is here
        picture = drawn(rng, grid, side, absent, crop, extra, question=int(rng.integers(0, 4)) or 1, padding=np.nan)
        count = len(picture.by_slot())
        for keep in sorted({0, 1, 2, 3, 5, 8, 13, count // 2, count - 1, count, count + 3}):
            rows = run(method, picture, keep)
            check(picture, rows, keep)
            if method in PLAIN:
                assert all(weights == {i: 1.0} for i, weights in rows)


@pytest.mark.parametrize("method", [*PLAIN, *MERGING[1:]], ids=lambda method: method.__name__)
def test_thin_pictures(method: Callable[..., list[Row]]) -> None:
    """Few candidates anywhere, none in the thumbnail in some; the cells of a mosaic need a real layout."""
    rng = np.random.default_rng(2)
    for _ in range(40):
        tiles, n = int(rng.integers(1, 5)), int(rng.integers(1, 11))
        slot = np.full((tiles, n), -1, dtype=np.int64)
        there = np.sort(rng.permutation(tiles * n)[: rng.integers(0, 6)])
        slot.reshape(-1)[there] = np.arange(len(there))
        picture = fill(rng, slot, np.zeros((tiles, n), np.float32), (0, 0), padding=np.nan)
        for keep in range(len(there) + 2):
            check(picture, run(method, picture, keep), keep)


@pytest.mark.parametrize("method", PLAIN + MERGING, ids=lambda method: method.__name__)
def test_attention_from_padding_counts_in_hiprune_only(method: Callable[..., list[Row]]) -> None:
    rng = np.random.default_rng(3)
    changed = 0
    for _ in range(15):
        picture = drawn(rng, (2, 2), 3, 0, (2, 0))
        before = run(method, picture, 11)
        for weights in picture.maps.values():
            weights[:, 1:][picture.slot < 0] = rng.random((int((picture.slot < 0).sum()), picture.tokens))
        changed += run(method, picture, 11) != before
    assert (changed > 0) == (method is received.hiprune)


@pytest.mark.parametrize(
    "method",
    [m for m in PLAIN if m not in (attention.damro, diverse.vispruner, received.hiprune)],
    ids=lambda method: method.__name__,
)
def test_equal_readings_keep_the_lowest_indices(method: Callable[..., list[Row]]) -> None:
    rng = np.random.default_rng(4)
    picture = drawn(rng, (1, 2), 3, 1, (1, 0))
    for array in (picture.features, picture.projected, picture.question):
        array[...] = 1
    for readings in (picture.attention, picture.wide, picture.maps, picture.keys):
        for array in readings.values():
            array[...] = 1
    together = method in (diverse.divprune, diverse.todre, diverse.todre_kcenter)
    for keep in range(1, 15):
        tiles = [picture.in_tile(t) for t in range(picture.tiles)]
        counts = apportion([len(tile) for tile in tiles], keep)
        first = [i for tile, count in zip(tiles, counts, strict=True) for i in tile[:count]]
        expected = picture.by_index()[:keep] if together else first
        assert [i for i, _ in run(method, picture, keep)] == picture_order(picture, expected)


def picture_order(picture: Picture, chosen: list[int]) -> list[int]:
    return [i for i, _ in picture.unchanged(chosen)]


def test_sums_of_the_rows() -> None:
    rng = np.random.default_rng(5)
    for grid, side, absent, crop, extra in LAYOUTS:
        picture = drawn(rng, grid, side, absent, crop, extra)
        count = len(picture.by_slot())
        for keep in (4, 7, count - 1):
            for method in (received.vflowopt, merging.recoverable):
                members = [i for _, weights in run(method, picture, keep) for i in weights]
                assert len(members) == len(set(members))
                assert all(sum(w.values()) == pytest.approx(1) for _, w in run(method, picture, keep))
            # the last two put every candidate into some row
            assert sorted(members) == picture.by_index()
            sums = [sum(weights.values()) for _, weights in run(merging.visionzip, picture, keep)]
            assert all(s == pytest.approx(2) or s == 1 for s in sums)


def test_share_grows_with_the_budget() -> None:
    """Methods that rank once per tile never lose a token when one more may stay."""
    rng = np.random.default_rng(6)
    ranking = (attention.fastervlm, attention.vtc_cls, attention.damro, received.fopru, received.fopru_row)
    for method in (*ranking, diverse.mmtok, diverse.cdpruner, diverse.divprune, diverse.todre, diverse.todre_kcenter):
        picture = drawn(rng, (2, 2), 3, 0, (1, 0))
        kept: set[int] = set()
        for keep in range(1, len(picture.by_slot()) + 1):
            more = {i for i, _ in run(method, picture, keep)}
            assert kept < more
            kept = more


def test_hiprune_is_anchors_buffers_then_registers() -> None:
    """The order of the source, step by step on one tile, gives the same sets as one ranking with a bonus."""
    rng = np.random.default_rng(7)
    for _ in range(100):
        picture = drawn(rng, (0, 0), 4)
        keep = int(rng.integers(1, 16))
        shallow = received.received_from_all(picture, 1)
        deep = received.received_from_all(picture, FEATURE_LAYER)
        taken: set[int] = set()
        for anchor in best_first(range(16), shallow)[: round(keep * 0.1)]:
            taken |= {anchor, *(min(max(anchor + d, 0), 15) for d in (-1, 1, -4, 4))}
        room = keep - len(taken)
        if room < 0:
            continue
        taken |= set(best_first([i for i in range(16) if i not in taken], deep)[:room])
        rows = received.hiprune(picture, keep, **LAYERS, object_layer=1, alpha_anchor=0.5)
        assert [i for i, _ in rows] == sorted(taken)
