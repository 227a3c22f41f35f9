"""Hand-computed cases of the references that look for diversity or merge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from .diverse import (
    cdpruner,
    coverage_order,
    dart,
    dart_shares,
    divprune,
    greedy_map_order,
    mmtok,
    relevance,
    thin_out,
    todre,
    todre_kcenter,
    vispruner,
)
from .merging import head_mean, prumerge, prumerge_plus, recoverable, stride_targets, visionzip
from .picture import Array, Picture, Row

F = 3
LAYERS = {"feature_layer": F, "last_layer": F + 1}


def angles(degrees: Sequence[float]) -> Array:
    """[1, N, 2] directions in a plane; cosine falls with the angle between two."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=-1)[None].astype(np.float32)


def one_tile(tokens: int, **readings: object) -> Picture:
    readings.setdefault("features", np.zeros((1, tokens, 2), np.float32))
    return Picture(slot=np.arange(tokens)[None, :], **readings)  # type: ignore[arg-type]


def places(rows: list[Row]) -> list[int]:
    assert all(weights == {i: 1.0} for i, weights in rows)
    return [i for i, _ in rows]


def attention(scores: Sequence[float]) -> dict[int, Array]:
    return {F: np.array([[scores]], np.float32)}


# --------------------------------------------------------------------------------------------------------- diversity


def test_divprune_by_hand() -> None:
    picture = one_tile(5, projected=angles([0, 20, 90, 100, 200]))
    # nearest other 20 20 10 10 100 -> token 4; farthest from it 1 (180); then 20 - 70 80 -> 3; then 20 - 10 -> 0
    assert [places(divprune(picture, k, **LAYERS)) for k in (1, 2, 3, 4)] == [[4], [1, 4], [1, 3, 4], [0, 1, 3, 4]]
    same = one_tile(4, projected=angles([30] * 4))
    assert places(divprune(same, 3, **LAYERS)) == [0, 1, 2]  # no token twice, ties to the lower index


def test_dart_by_hand() -> None:
    # L1 norms 6 1 1 5 1 1: pivots 0 (along x) and 3 (along y)
    rows = [[6, 0], [1, 0], [-1, 0], [0, 5], [0, 1], [0, -1]]
    picture = one_tile(6, projected=np.array([rows], np.float32))
    assert [places(dart(picture, k, **LAYERS, pivots=2)) for k in (1, 2)] == [[0], [0, 3]]
    assert places(dart(picture, 3, **LAYERS, pivots=2)) == [0, 3, 5]  # shares 0 and 1: farthest from token 3
    assert places(dart(picture, 4, **LAYERS, pivots=2)) == [0, 2, 3, 5]  # 1 and 1: -1 from token 0, then -1 from 3
    # 1 and 2: from token 0 token 2; then of 1 4 5 token 5, and 1 before 4
    assert places(dart(picture, 5, **LAYERS, pivots=2)) == [0, 1, 2, 3, 5]
    assert places(dart(picture, 3, **LAYERS, pivots=1)) == [0, 2, 3]  # -1, then 0 of 3 4 5: lower index
    assert [sum(dart_shares(3, rest)) for rest in range(9)] == list(range(9))
    assert [dart_shares(3, rest) for rest in (1, 5, 7)] == [[0, 0, 1], [1, 2, 2], [2, 2, 3]]


def test_todre_by_hand() -> None:
    # From 0: lowest cosine 200. Then sums 20: .94 - 1, 90: 0 - .342, 100: -.174 - .174 -> 100; 20 (.114) before 90
    picture = one_tile(5, projected=angles([0, 20, 90, 100, 200]), attention=attention([5, 1, 1, 1, 1]))
    assert [places(todre(picture, k, **LAYERS)) for k in (1, 2, 3, 4)] == [[0], [0, 4], [0, 3, 4], [0, 1, 3, 4]]
    # After 0 and 200: sums 20: -.06, 280: .17 + .17; maxima 20: .94, 280: .17
    picture = one_tile(4, projected=angles([0, 20, 200, 280]), attention=attention([5, 1, 1, 1]))
    assert places(todre(picture, 3, **LAYERS)) == [0, 1, 2]
    assert places(todre_kcenter(picture, 3, **LAYERS)) == [0, 2, 3]


def test_todre_pivot_is_in_the_thumbnail() -> None:
    scores = np.array([[[1, 2]], [[9, 9]]], np.float32)
    projected = angles([0, 1, 2, 3]).reshape(2, 2, 2)
    picture = Picture(projected, np.array([[0, 1], [2, 3]]), projected=projected, attention={F: scores})
    assert places(todre(picture, 1, **LAYERS)) == [1]


def test_coverage_by_hand() -> None:
    # gains 3 4 3 -> column 1; then 1 - 2 -> column 2; then 1 - -
    assert coverage_order([[3, 2, 0], [0, 2, 1], [0, 0, 2]], 3) == [1, 2, 0]
    assert coverage_order([[1, 1, 1]], 3) == [0, 1, 2]  # nothing left to gain: lower index


def test_mmtok_by_hand() -> None:
    flat = np.ones((1, 4, 2), np.float32)  # every patch covers every other one equally
    projected = angles([0, 90, 180, 270])
    asked = one_tile(
        4, features=flat, projected=projected, question=projected[0, 2:], question_weight=np.array([0.5, 0.5])
    )
    assert places(mmtok(asked, 2, **LAYERS)) == [2, 3]
    assert places(mmtok(asked, 3, **LAYERS)) == [0, 2, 3]
    unasked = one_tile(4, features=flat, projected=projected, question=projected[0, 2:], question_weight=np.zeros(2))
    assert places(mmtok(unasked, 2, **LAYERS)) == [0, 1]
    # without a question: two likenesses, tokens 0 1 2 and token 3. Softmax of the columns of 0..2 is about 1/3 in three
    # rows, that of 3 about 1 in one: gains about 1 each, but the first three get a little from row 3 as well.
    split = one_tile(4, features=angles([0, 0, 0, 90]), projected=projected, question=np.zeros((0, 2)))
    e = math.exp(5)
    assert 3 * e / (3 * e + 1) + 1 / (e + 3) > 3 / (3 * e + 1) + e / (e + 3)
    assert places(mmtok(split, 1, **LAYERS)) == [0]
    assert places(mmtok(split, 2, **LAYERS)) == [0, 3]


def test_greedy_map_by_hand() -> None:
    # first 0 (tie); e = 1 .9 0: d2 = - .19 .5 -> 2 -> 1
    assert greedy_map_order([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 0.5]], 3) == [0, 2, 1]
    # rank 1: after the first step everything is at the floor of 1e-5, lower index first
    assert greedy_map_order([[1, 1, 2], [1, 1, 2], [2, 2, 4]], 3) == [2, 0, 1]


def test_cdpruner_by_hand() -> None:
    readings = {"projected": angles([0, 90, 180]), "question": np.array([[1, 0]]), "question_weight": np.array([1.0])}
    picture = one_tile(3, **readings)
    assert relevance(picture, 1) == pytest.approx({0: 1 + 5e-7, 1: 0.5 + 5e-7, 2: 5e-7}, rel=1e-5)
    assert relevance(picture, -1) == pytest.approx({2: 1 + 5e-7, 1: 0.5 + 5e-7, 0: 5e-7}, rel=1e-5)
    assert [places(cdpruner(picture, k, **LAYERS)) for k in (1, 2)] == [[0], [0, 1]]
    assert [places(cdpruner(picture, k, **LAYERS, sign=-1)) for k in (1, 2)] == [[2], [1, 2]]
    unasked = one_tile(3, **{**readings, "question_weight": np.zeros(1)})
    assert relevance(unasked, 1) == {0: 1, 1: 1, 2: 1}
    assert places(cdpruner(unasked, 2, **LAYERS)) == [0, 1]
    # any directions: everything ties at first, whatever rounding does to the cosine of a token with itself
    drawn = np.random.default_rng(0).standard_normal((1, 9, 7)).astype(np.float32)
    unasked = one_tile(9, projected=drawn, question=drawn[0, :1], question_weight=np.zeros(1))
    assert places(cdpruner(unasked, 1, **LAYERS)) == [0]
    alike = one_tile(3, **{**readings, "projected": angles([45] * 3)})
    assert relevance(alike, 1) == {0: 1, 1: 1, 2: 1}


class Equal(dict[tuple[int, int], float]):
    def __missing__(self, key: tuple[int, int]) -> float:
        return 0.0


@pytest.mark.parametrize(("keep", "rounds"), [(192, 48), (128, 56), (64, 64)])
def test_vispruner_rounds_of_the_source(keep: int, rounds: int) -> None:
    important = keep // 2
    listed, done = thin_out(list(range(576 - important)), keep - important, Equal(), 8)
    assert (len(listed), done) == (keep - important, rounds)


def test_vispruner_by_hand() -> None:
    # 0 1 2 by attention; list 3..7 at 0 10 15 100 180 degrees, 3 to stay.
    # A = 3 5 7, B = 4 6: best matches 10, 5, 80 degrees: A in order 5 3 7.
    # step 8: drop 5 and 3 -> 7 4 6. step 1: drop 5 -> 3 7 4 6; A = 3 4 (100, 90 degrees), B = 7 6: drop 4 -> 3 7 6
    picture = one_tile(
        8, features=angles([0, 0, 0, 0, 10, 15, 100, 180]), attention=attention([9, 8, 7, 6, 5, 4, 3, 2])
    )
    assert places(vispruner(picture, 6, **LAYERS)) == [0, 1, 2, 4, 6, 7]
    assert places(vispruner(picture, 6, **LAYERS, step=1)) == [0, 1, 2, 3, 6, 7]
    assert places(vispruner(picture, 5, **LAYERS, important=1.0)) == [0, 1, 2, 3, 4]
    # down to a single token (no B in the last round if nothing may stay)
    assert thin_out([4], 0, Equal(), 8) == ([], 1)


# ----------------------------------------------------------------------------------------------------------- merging


def test_visionzip_by_hand() -> None:
    assert head_mean([4, 0, -4, 2], 2) == [0, 1]
    assert stride_targets(3, 10) == [0, 3, 6]
    keys = np.array([[[1, 0, 1, 0], [0] * 4, [4, 0, -4, 2], [0, 1, 0, 1], [0] * 4, [2, 1, 0, 1]]], np.float32)
    scores = np.array([[[0, 4, 1, 1, 0, 1], [1, 1, 0, 1, 4, 0]]], np.float32)  # head sums 1 5 1 2 4 1
    picture = one_tile(6, keys={F: keys}, attention={F: scores}, heads=2)
    # dominant 1 4; left 0 2 3 5, targets numbers 0 and 2: 0 and 3. Mean keys 2: (0, 1) -> 3; 5: (1, 1), a tie -> 0
    kept = [(0, {0: 1.0, 5: 1.0}), (1, {1: 1.0}), (3, {3: 1.0, 2: 1.0}), (4, {4: 1.0})]
    assert visionzip(picture, 4, **LAYERS, contextual=Fraction(1, 2)) == kept
    # one target takes all three others: their mean on top of it
    rows = dict(visionzip(picture, 3, **LAYERS, contextual=Fraction(1, 3)))
    assert rows == {0: {0: 1.0, 2: 1 / 3, 3: 1 / 3, 5: 1 / 3}, 1: {1: 1.0}, 4: {4: 1.0}}
    # dominant 1 4 3 and, of the three that tie, 0; left 2 5: one target with one member
    assert dict(visionzip(picture, 5, **LAYERS, contextual=0.2))[2] == {2: 1.0, 5: 1.0}
    # the default share gives no contextual token below 7: the rest is dropped
    assert places(visionzip(picture, 5, **LAYERS)) == [0, 1, 2, 3, 4]


A = [8 / 16, 4 / 16, 2 / 16, 1 / 16, 1 / 16]


def test_prumerge_by_hand() -> None:
    keys = np.array([[[1, 0], [0, 1], [1, 1], [2, 0], [0, 3]]], np.float32)
    picture = one_tile(5, wide={F + 1: np.array([A], np.float32)}, keys={F + 1: keys})
    assert prumerge(picture, 3, **LAYERS, neighbours=1) == [
        (0, {0: 1.0, 3: 1 / 16}),
        (1, {1: 1.0, 4: 1 / 16}),
        (2, {2: 2 / 16, 3: 1 / 16, 4: 1 / 16}),
    ]
    assert prumerge(picture, 1, **LAYERS) == [(0, dict(enumerate(A)))]  # only the sum over everything
    # more neighbours than there are: all others, kept or not
    assert dict(prumerge(picture, 3, **LAYERS))[1] == {0: 8 / 16, 1: 1.0, 2: 2 / 16, 3: 1 / 16, 4: 1 / 16}


def test_prumerge_plus_by_hand() -> None:
    # 4 of the 5 are kept tokens; floor(0.75 * 4) = 3 of 8 evenly spaced: 1 4 6; then the best of the others: 0
    a = np.array([[8, 0, 4, 2, 0, 1, 0, 2]], np.float32) / 16
    picture = one_tile(8, wide={F + 1: a}, keys={F + 1: np.ones((1, 8, 2), np.float32)})
    rows = dict(prumerge_plus(picture, 5, **LAYERS, neighbours=2))
    assert list(rows) == [0, 1, 2, 4, 6]
    assert rows[2] == {2: 4 / 16, 3: 2 / 16, 5: 1 / 16, 7: 2 / 16}
    assert rows[1] == {0: 8 / 16, 1: 1.0, 2: 4 / 16}  # equal likeness: lower indices
    assert list(dict(prumerge_plus(picture, 1, **LAYERS))) == [0]
    assert prumerge_plus(picture, 5, **LAYERS, spread=0) == prumerge(picture, 5, **LAYERS)


def test_prumerge_leaves_a_tile_that_fits_alone() -> None:
    a = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32) / 32
    slot = np.array([[0, 1, 2, 3], [4, -1, -1, -1]])
    keys = {F + 1: np.ones((2, 4, 2), np.float32)}
    picture = Picture(np.zeros((2, 4, 2)), slot, wide={F + 1: a}, keys=keys)
    rows = dict(prumerge(picture, 2, **LAYERS))
    assert rows == {3: {0: 1 / 32, 1: 2 / 32, 2: 3 / 32, 3: 4 / 32}, 4: {4: 1.0}}
    assert list(dict(prumerge(picture, 1, **LAYERS))) == [3]  # nothing at all from the tile with no share


def test_recoverable_by_hand() -> None:
    projected = angles([0, 0, 0, 0, 0, 0, 0, 0, 90])
    picture = one_tile(
        9,
        features=angles(range(0, 90, 10)),
        class_feature=np.array([[1, 0]]),
        projected=projected,
        question=np.array([[0, 1]]),
        question_weight=np.ones(1),
    )
    # 0 1 by the class token, 8 by the question; left 2..7, one anchor: number 3, token 5, the mean of all
    rows = dict(recoverable(picture, 4, **LAYERS, visual_share=0.5, text_share=0.25))
    assert list(rows) == [0, 1, 5, 8]
    assert rows[5] == dict.fromkeys(range(2, 8), 1 / 6)
    # two anchors: numbers 1 and 4, tokens 3 and 6
    rows = dict(recoverable(picture, 5, **LAYERS, visual_share=0.4, text_share=0.2))
    assert rows[3] == dict.fromkeys((2, 3, 4), 1 / 3)
    assert rows[6] == dict.fromkeys((5, 6, 7), 1 / 3)
    assert places(recoverable(picture, 4, **LAYERS, visual_share=0.75, text_share=0.25)) == [0, 1, 2, 8]
    with pytest.raises(ValueError, match="shares"):
        recoverable(picture, 4, **LAYERS, visual_share=0.75, text_share=0.5)
