"""What holds for all rankings: ties, counts, fixed rows, garbage behind the prompt; and shares, by published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from . import corematching, last_row, mustdrop, sparsevlm, transprune
from .attention import angles_of, attention_of, plain_frequencies, row_attention, softmax, turned
from .decoder import Layer
from .rows import (
    Array,
    Order,
    average_kept,
    best_first,
    by_encoder,
    by_noise,
    counts_by_layer,
    dropped_all,
    forced_first,
    going_on,
    kept,
    planned_counts,
    share_of,
    uniform,
)

HEADS, GROUPS, WIDTH, CHANNELS, INNER = 4, 2, 6, 16, 30
BEFORE, PICTURE, QUESTION, BEHIND = 2, 20, 3, 7
LENGTH = BEFORE + PICTURE + QUESTION
VISUAL = [row for row in range(BEFORE, BEFORE + PICTURE) if (row - BEFORE) % 5 != 4]  # every fifth is a newline
ASKING = list(range(BEFORE + PICTURE, LENGTH))
PLACES = {row: divmod(i, 4) for i, row in enumerate(VISUAL)}


class Buffers:
    """Buffers of one layer, longer than the prompt; `behind` fills what lies at and behind its end."""

    def __init__(self, seed: int, behind: float | None = None, alike: bool = False) -> None:
        draw = np.random.default_rng(seed)
        rows = LENGTH + BEHIND

        def made(*shape: int, axis: int) -> Array:
            x = draw.standard_normal(shape)
            if alike:
                x[:] = np.take(x, [0], axis=axis)
            if behind is not None:
                np.moveaxis(x, axis, 0)[LENGTH:] = behind
            return x

        self.queries = made(rows, HEADS * WIDTH, axis=0)
        self.keys = made(GROUPS, rows, WIDTH, axis=1)
        self.values = made(GROUPS, rows, WIDTH, axis=1)
        self.hidden = made(rows, CHANNELS, axis=0)
        self.after = made(rows, CHANNELS, axis=0)
        self.activation = made(rows, INNER, axis=0)
        # Rows that are alike everywhere also stand at one position: the rotation would part them.
        self.positions = np.zeros(rows) if alike else np.arange(rows)
        self.angles = angles_of(self.positions, plain_frequencies(WIDTH))
        self.weights = [1 / QUESTION] * QUESTION
        other = np.random.default_rng(99).standard_normal

        self.layer = Layer(
            np.ones(CHANNELS),
            other((HEADS * WIDTH, CHANNELS)),
            other((GROUPS * WIDTH, CHANNELS)),
            other((GROUPS * WIDTH, CHANNELS)),
            other((CHANNELS, HEADS * WIDTH)),
            np.ones(CHANNELS),
            other((1, CHANNELS)),
            other((1, CHANNELS)),
            other((CHANNELS, 1)),
        )


def _fastv(b: Buffers) -> Order:
    return last_row.fastv(b.queries[LENGTH - 1], b.keys, LENGTH, VISUAL)


def _pdrop(b: Buffers) -> Order:
    return last_row.pdrop(b.hidden, b.layer, 1e-6, b.angles, LENGTH - 1, VISUAL, WIDTH)


def _feather(b: Buffers) -> Order:
    score = last_row.feather_scores(b.queries[LENGTH - 1], b.angles[LENGTH - 1], b.keys, b.angles, VISUAL)
    return last_row.feather(score, [])


def _flowcut(b: Buffers) -> Order:
    return last_row.flowcut(b.queries[LENGTH - 1], b.keys, b.values[:, LENGTH - 1], b.values, VISUAL)


def _sparsevlm(b: Buffers) -> Order:
    return sparsevlm.sparsevlm(b.queries[ASKING], b.keys, ASKING, b.weights, VISUAL)


def _transprune(b: Buffers) -> Order:
    moved = [transprune.layer_transition(b.hidden, b.after, b.after, b.hidden, VISUAL)]
    return transprune.transprune(moved, b.queries[ASKING], b.keys, ASKING, b.weights, VISUAL)


def _mustdrop(b: Buffers) -> Order:
    return mustdrop.mustdrop(mustdrop.asked_of(b.queries[ASKING], b.keys, ASKING, VISUAL), 0.001, 0.001)


def _corematching(b: Buffers) -> Order:
    return corematching.corematching(corematching.overlaps(b.activation, VISUAL, LENGTH))


def _encoder(b: Buffers) -> Order:
    return by_encoder({row: float(b.hidden[row, 0]) for row in VISUAL})


def _random(b: Buffers) -> Order:
    return by_noise(b.hidden[:, 1], VISUAL)


ORDERS: dict[str, Callable[[Buffers], Order]] = {
    "fastv": _fastv,
    "pdrop": _pdrop,
    "feather": _feather,
    "flowcut": _flowcut,
    "sparsevlm": _sparsevlm,
    "transprune": _transprune,
    "mustdrop": _mustdrop,
    "corematching": _corematching,
    "encoder": _encoder,
    "random": _random,
}
every_order = pytest.mark.parametrize("name", ORDERS)


@every_order
def test_an_order_names_every_visual_row_once(name: str) -> None:
    assert sorted(ORDERS[name](Buffers(0))) == VISUAL


@every_order
def test_ties_fall_to_the_lower_row(name: str) -> None:
    assert ORDERS[name](Buffers(1, alike=True)) == VISUAL


@every_order
@pytest.mark.parametrize("behind", [math.nan, math.inf, 1e9, 0.0])
def test_garbage_behind_the_prompt_is_never_read(name: str, behind: float) -> None:
    assert ORDERS[name](Buffers(2, behind)) == ORDERS[name](Buffers(2))


@every_order
def test_another_picture_has_another_order(name: str) -> None:
    """So that the three claims above say something."""
    assert len({tuple(ORDERS[name](Buffers(seed))) for seed in range(5)}) > 1


@every_order
@pytest.mark.parametrize("count", [0, 1, 7, len(VISUAL), len(VISUAL) + 5])
def test_a_list_holds_the_fixed_rows_and_the_count(name: str, count: int) -> None:
    everything = list(range(LENGTH))
    stay = kept(ORDERS[name](Buffers(3)), count)
    rows = going_on(everything, VISUAL, stay)
    assert rows == sorted(set(rows))
    assert set(everything) - set(VISUAL) <= set(rows)
    assert len(rows) == LENGTH - len(VISUAL) + min(count, len(VISUAL))


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows \[4\] have no score"):
        best_first({3: 1.0, 4: math.nan})


def test_a_row_that_did_not_arrive_cannot_stay() -> None:
    with pytest.raises(ValueError, match="no visual rows"):
        going_on(range(5), [1, 2], [3])


# controls -------------------------------------------------------------------------------------------------------------


def test_uniform_takes_the_middles_of_equal_pieces() -> None:
    assert uniform(list(range(10, 20)), 5) == [11, 13, 15, 17, 19]
    assert uniform(list(range(10, 20)), 3) == [11, 15, 18]
    assert uniform([4, 6], 5) == [4, 6]
    assert uniform([4, 6], 0) == []
    for count in range(1, 33):
        assert len(set(uniform(list(range(32)), count))) == count


def test_drop_all_leaves_what_is_not_visual() -> None:
    assert dropped_all(range(6), [1, 2, 4]) == [0, 3, 5]


# counts ---------------------------------------------------------------------------------------------------------------


def test_shares_and_counts_of_some_rows() -> None:
    assert [share_of(keep, 576) for keep in (0.5, 1.0, 0.2, 64, 1000, 0)] == [288, 576, 115, 64, 576, 0]
    assert [share_of(0.5, rows) for rows in (0, 1, 3, 5)] == [0, 1, 2, 2]  # at least one of any; halves to the even
    with pytest.raises(ValueError, match="whole"):
        share_of(1.5, 10)


def test_a_share_per_cut_is_of_what_enters_and_a_single_share_of_what_arrives() -> None:
    assert planned_counts(576, 3, [0.5, 0.25, 0.125]) == [288, 144, 72]  # PyramidDrop, as published
    assert planned_counts(576, 3, [0.5]) == [288, 144, 72]
    assert planned_counts(576, 3, [0.875, 0.625, 0.125]) == [504, 360, 72]  # TransPrune
    assert planned_counts(576, 3, [300, 200, 110]) == [300, 200, 110]  # SparseVLM
    assert planned_counts(576, 2, [64]) == [64, 64]
    assert planned_counts(576, 2, [0.5, 0]) == [288, 0]
    assert planned_counts(100, 2, [0.2, 0.5]) == [20, 20]  # nothing comes back
    with pytest.raises(ValueError, match="2 values for 3 cuts"):
        planned_counts(576, 3, [0.5, 0.2])


def test_average_kept_is_what_the_papers_print() -> None:
    pyramid = counts_by_layer(576, 32, (8, 16, 24), (288, 144, 72))
    assert average_kept(576, pyramid) == pytest.approx((1 + 0.5 + 0.25 + 0.125) / 4)
    shrinking = counts_by_layer(576, 32, transprune.CUTS, (504, 360, 72))
    assert average_kept(576, shrinking) == pytest.approx(0.41, abs=0.005)
    for settings, expected in (
        ((0.723, 0.749, 0.487), 0.501),
        ((0.265, 0.983, 0.877), 0.251),
        ((0.1166, 1.0, 0.601), 0.100),
    ):  # VFlowOpt: r1 and r2 are shares of what arrives
        out, first, second = settings
        layers = [out] * 9 + [out * first] * 9 + [out * first * second] * 10
        assert average_kept(1, layers) == pytest.approx(expected, abs=0.001)
        arriving = 100_000 * out
        counts = [share_of(first, round(arriving)), share_of(second, share_of(first, round(arriving)))]
        by_layer = counts_by_layer(round(arriving), 28, (9, 18), counts)
        assert average_kept(100_000, by_layer) == pytest.approx(expected, abs=0.001)


# attention ------------------------------------------------------------------------------------------------------------


def test_the_softmax_runs_over_the_whole_causal_row() -> None:
    b = Buffers(4)
    whole = attention_of(b.queries[LENGTH - 1], b.keys, list(range(LENGTH)))
    np.testing.assert_allclose(whole.sum(axis=1), 1.0)
    found = row_attention(b.queries[LENGTH - 1], b.keys, LENGTH - 1, VISUAL)
    assert sum(found.values()) < 1
    for row in VISUAL:
        assert found[row] == pytest.approx(whole[:, row].mean())
    with pytest.raises(ValueError, match="behind the asking row"):
        row_attention(b.queries[5], b.keys, 5, VISUAL)


def test_query_heads_share_key_heads_in_neighbouring_groups() -> None:
    b = Buffers(5)
    by_head = attention_of(b.queries[LENGTH - 1], b.keys, VISUAL)
    repeated = attention_of(b.queries[LENGTH - 1], np.repeat(b.keys, HEADS // GROUPS, axis=0), VISUAL)
    np.testing.assert_allclose(by_head, repeated)
    query = b.queries[LENGTH - 1].reshape(HEADS, WIDTH)
    np.testing.assert_allclose(by_head[1], softmax(b.keys[0, VISUAL] @ query[1] / math.sqrt(WIDTH)))


def test_whole_rows_and_image_columns_rank_differently_once_heads_are_averaged() -> None:
    """Head 0 looks at the picture little and at row 1 of it most; head 1 looks at the picture only, a bit more at row 2."""
    keys = np.zeros((2, 4, 1))
    keys[0, :, 0] = [9.0, 3.0, 0.0, 0.0]
    keys[1, :, 0] = [-9.0, 0.0, 1.0, -9.0]
    query = np.ones(2)
    whole = row_attention(query, keys, 3, [1, 2])
    by_image = attention_of(query, keys, [1, 2]).mean(axis=0)
    assert whole[2] > whole[1]
    assert by_image[0] > by_image[1]


# forced rows ----------------------------------------------------------------------------------------------------------


def test_forced_rows_are_inside_every_list_that_can_hold_them() -> None:
    order = [5, 3, 9, 1]
    assert forced_first(order, [9, 1]) == [9, 1, 5, 3]
    for count in range(2, 5):
        assert {9, 1} <= set(kept(forced_first(order, [9, 1]), count))


def test_the_grid_of_feather_is_stride_three() -> None:
    places = {100 + i: divmod(i, 27) for i in range(729)}
    grid = last_row.grid_places(list(places), places)
    assert len(grid) == 81
    assert {places[row] for row in grid} == {(y, x) for y in range(0, 27, 3) for x in range(0, 27, 3)}
    assert len(last_row.grid_places(list(range(576)), {i: divmod(i, 24) for i in range(576)})) == 64


@pytest.mark.parametrize("seed", range(20))
def test_feather_s_order_with_the_union_s_count_is_the_union(seed: int) -> None:
    draw = np.random.default_rng(seed)
    score = {100 + i: float(draw.random()) for i in range(729)}
    grid = last_row.grid_places(list(score), {row: divmod(row - 100, 27) for row in score})
    union = last_row.feather_published(score, grid)
    assert 264 <= len(union) <= 287  # as computed for random scores before
    assert kept(last_row.feather(score, grid), len(union)) == union
    assert set(grid) <= set(kept(last_row.feather(score, grid), 218 + 81))


def test_feather_does_not_see_where_a_row_stands() -> None:
    """Rotated at any positions, then turned back: the scores are those of plain queries and keys."""
    b = Buffers(6)
    plain = attention_of(b.queries[LENGTH - 1], b.keys, VISUAL).mean(axis=0)
    for shift in (0, 1, 50):
        angles = angles_of(np.arange(LENGTH + BEHIND) + shift, plain_frequencies(WIDTH))
        query = turned(b.queries[LENGTH - 1].reshape(HEADS, 1, WIDTH), angles[LENGTH - 1][None]).reshape(-1)
        score = last_row.feather_scores(query, angles[LENGTH - 1], turned(b.keys, angles), angles, VISUAL)
        np.testing.assert_allclose(list(score.values()), plain, atol=1e-12)


def test_pdrop_is_fastv_on_the_next_layer_s_own_queries_and_keys() -> None:
    b = Buffers(7)
    normed = b.hidden / np.sqrt((b.hidden**2).mean(axis=1, keepdims=True) + 1e-6)
    query = turned((normed @ b.layer.query.T).reshape(-1, HEADS, WIDTH).transpose(1, 0, 2), b.angles)
    keys = turned((normed @ b.layer.key.T).reshape(-1, GROUPS, WIDTH).transpose(1, 0, 2), b.angles)
    assert _pdrop(b) == last_row.fastv(query[:, LENGTH - 1].reshape(-1), keys, LENGTH, VISUAL)
    assert _pdrop(b) != _fastv(b)


def test_flowcut_weighs_by_the_size_of_values() -> None:
    """With equal attention and equal values but one twice as long, that row is first: its product with v_last is highest
    only where the products are not all 0, so v_last is 0 here and both softmaxes are flat."""
    b = Buffers(8, alike=True)
    b.values[:, VISUAL[3]] *= 2
    order = last_row.flowcut(b.queries[LENGTH - 1], b.keys, np.zeros((GROUPS, WIDTH)), b.values, VISUAL)
    assert order == [VISUAL[3], *VISUAL[:3], *VISUAL[4:]]
