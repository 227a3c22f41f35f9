"""Single methods: SparseVLM's raters and recycling, TransPrune's sums, MustDrop's thresholds, ToDRE's gate, the knee."""

from __future__ import annotations

import math

import numpy as np
import pytest

from . import corematching, early_lists, mustdrop, sparsevlm, transprune
from .attention import question_attention, row_attention
from .rows import kept

DRAW = np.random.default_rng


# SparseVLM ------------------------------------------------------------------------------------------------------------


def test_raters_are_the_question_rows_that_the_picture_is_near() -> None:
    visual = np.array([[3.0, 0.0], [2.0, 0.0]])
    question = np.array([[0.0, 5.0], [2.0, 0.0], [-1.0, 0.0], [1.9, 0.0]])
    assert sparsevlm.raters(visual, question) == [1, 3]


def test_where_no_question_row_stands_out_all_of_them_rate() -> None:
    assert sparsevlm.raters(np.ones((3, 2)), np.ones((1, 2))) == [0]
    assert sparsevlm.raters(np.zeros((3, 2)), np.ones((4, 2))) == [0, 1, 2, 3]


def test_weights_of_a_bucket_are_the_mean_over_raters_and_padding_is_not_read() -> None:
    draw = DRAW(0)
    queries, keys = draw.standard_normal((5, 8)), draw.standard_normal((2, 12, 4))
    queries[3:] = math.nan
    asking, visual = [8, 9, 10, 999, 999], list(range(2, 7))
    weights = sparsevlm.rater_weights([0, 2], 5)
    assert sum(weights) == pytest.approx(1)
    found = question_attention(queries, keys, asking, weights, visual)
    for row in visual:
        one, two = (row_attention(queries[t], keys, asking[t], visual)[row] for t in (0, 2))
        assert found[row] == pytest.approx((one + two) / 2)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(192, (309, 204, 113)), (128, (312, 117, 39)), (96, (249, 55, 27)), (64, (82, 32, 18))],
)
def test_recycling_leaves_as_many_rows_as_published(tokens: int, expected: tuple[int, ...]) -> None:
    there, found = 576, []
    for count in sparsevlm.RECYCLED[tokens]:
        there = count + sparsevlm.recycled_counts(there - count)[1]
        found.append(there)
    if tokens == 96:  # the facts print 55 and 27: 48 + 7 and 26 + 1
        assert found[0] == 249
    assert tuple(found) == expected


@pytest.mark.parametrize(("leaving", "expected"), [(0, (0, 0)), (1, (1, 1)), (9, (3, 1)), (276, (83, 9))])
def test_recycled_counts(leaving: int, expected: tuple[int, int]) -> None:
    assert sparsevlm.recycled_counts(leaving) == expected


@pytest.mark.parametrize(("rows", "count"), [(120, 40), (120, 0), (60, 59), (60, 60), (200, 10)])
def test_recycling_is_the_mean_of_every_cluster(rows: int, count: int) -> None:
    hidden = DRAW(1).standard_normal((rows + 3, 6))
    order = [int(row) for row in DRAW(2).permutation(rows)]
    made = sparsevlm.recycle(order, count, hidden)
    clustered, wanted = sparsevlm.recycled_counts(rows - count)
    assert len(made.centres) == wanted == len(set(made.centres))
    assert made.matrix.shape == (wanted, rows + 3)
    members = [row for cluster in made.clusters for row in cluster]
    assert sorted(members) == kept(order[count:], clustered)  # each clustered row in one cluster, none that stays
    assert all(centre in cluster for centre, cluster in zip(made.centres, made.clusters, strict=True))
    extra = made.matrix @ hidden
    for i, cluster in enumerate(made.clusters):
        np.testing.assert_allclose(extra[i], hidden[cluster].sum(axis=0) / (len(cluster) + 1e-6))
        assert made.matrix[i].sum() == pytest.approx(1, abs=1e-5)
        assert made.matrix[i].sum() < 1


def test_clusters_that_lie_apart_are_found() -> None:
    """83 of 276 leaving rows would take 9 centres; with 40 clustered there are 5, for five heaps."""
    heaps = np.arange(40) % 5
    hidden = heaps[:, None] * 100.0 + DRAW(3).standard_normal((40, 4)) * 0.01
    order = list(range(40)) + list(range(40, 131))
    everything = np.concatenate([hidden, np.full((91, 4), 1e4)])
    assert sparsevlm.recycled_counts(131) == (40, 5)
    made = sparsevlm.recycle(order, 0, everything)
    assert sorted(sorted(heaps[cluster].tolist()) for cluster in made.clusters) == [[heap] * 8 for heap in range(5)]


def test_densest_points_have_the_largest_distance() -> None:
    scores = sparsevlm.centre_scores(np.array([[0.0], [1.0], [10.0]]), 2)
    density = [math.exp(-0.5), math.exp(-0.5), math.exp(-81 / 2)]
    assert scores == pytest.approx([density[0] * 10, density[1] * 10, density[2] * 9])


# TransPrune -----------------------------------------------------------------------------------------------------------


def test_a_transition_is_the_ratio_of_sizes_times_the_share_of_turning() -> None:
    before = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    after = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, -3.0]])
    found = transprune.transition(before, after, [0, 1, 2])
    total = math.exp(0) + math.exp(1) + math.exp(2)
    assert found == pytest.approx({0: 2 / total, 1: math.e / total, 2: math.exp(2) / total})


def test_over_which_rows_the_sum_runs_matters_only_between_sub_layers() -> None:
    draw = DRAW(4)
    arrays = [draw.standard_normal((12, 6)) for _ in range(4)]
    some, more = list(range(6)), list(range(12))
    one, two = (transprune.transition(*arrays[:2], among) for among in (some, more))
    shares = [[x[row] / x[0] for row in some] for x in (one, two)]
    assert shares[0] == pytest.approx(shares[1])
    both = [transprune.layer_transition(*arrays, among) for among in (some, more)]
    shares = [[x[row] / x[0] for row in some] for x in both]
    assert shares[0] != pytest.approx(shares[1])


def test_both_terms_of_transprune_weigh_alike() -> None:
    draw = DRAW(5)
    queries, keys = draw.standard_normal((2, 8)), draw.standard_normal((2, 9, 4))
    visual, asking, weights = [1, 2, 3, 4], [7, 8], [0.5, 0.5]
    flat = [dict.fromkeys(visual, 3.0)]
    asked = question_attention(queries, keys, asking, weights, visual)
    by_attention = transprune.transprune(flat, queries, keys, asking, weights, visual)
    assert by_attention == sorted(visual, key=lambda row: -asked[row])
    alike = np.zeros_like(keys)
    moved = [{1: 1.0, 2: 3.0, 3: 2.0, 4: 0.0, 99: 50.0}, {1: 1.0, 2: 0.0, 3: 2.5, 4: 0.0, 99: 1.0}]
    assert transprune.transprune(moved, queries, alike, asking, weights, visual) == [3, 2, 1, 4]
    assert transprune.by_transition(moved, visual) == [3, 2, 1, 4]
    near_flat = {row: 1 + 1e-6 * place for place, row in enumerate(by_attention)}  # the other way round
    for size in (1e-6, 1.0, 1e6):  # the sums' size says nothing
        scaled = [{row: size * value for row, value in near_flat.items()}]
        assert transprune.transprune(scaled, queries, keys, asking, weights, visual) == by_attention


# MustDrop -------------------------------------------------------------------------------------------------------------


def drawn_attention(seed: int, text: int = 4, rows: int = 60) -> list[dict[int, float]]:
    parts = DRAW(seed).random((text, rows)) ** 9 / 40
    return [{10 + v: float(parts[t, v]) for v in range(rows)} for t in range(text)]


def test_the_key_set_is_eight_percent_rounded_up() -> None:
    assert len(mustdrop.key_set({row: float(row) for row in range(576)})) == 47
    assert mustdrop.key_set({row: float(row % 5) for row in range(20)}) == [4, 9]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("thresholds", [(0.001, 0.001), (0.011, 0.01), (0.02, 0.02)])
def test_with_the_number_of_survivors_the_fixed_count_keeps_the_survivors(
    seed: int, thresholds: tuple[float, float]
) -> None:
    m = drawn_attention(seed)
    for keys in ((), (12, 40, 69)):
        stay = mustdrop.survivors(m, *thresholds, keys)
        assert kept(mustdrop.mustdrop(m, *thresholds, keys), len(stay)) == stay
        assert set(keys) <= set(stay)
    assert 0 < len(mustdrop.survivors(m, *thresholds)) <= 60


def test_one_of_both_thresholds_is_enough_to_stay() -> None:
    m = [{0: 0.5, 1: 0.001, 2: 0.1}, {0: 0.0, 1: 0.001, 2: 0.1}]
    assert mustdrop.survivors(m, 0.3, 0.3) == [0]
    assert mustdrop.survivors(m, 0.2, 0.9) == [0, 2]
    assert mustdrop.survivors(m, 0.9, 0.9) == []
    assert mustdrop.survivors(m, 0.9, 0.9, [1]) == [1]


# CoreMatching ---------------------------------------------------------------------------------------------------------


def test_core_neurons_are_the_largest_positive_activations() -> None:
    row = np.array([0.5, -1.0, 3.0, 2.0, 0.1, 0.2, -2.0, 0.0, 0.3, 0.4])
    assert corematching.core_neurons(row, 0.3) == {2, 3}  # 30 % of 7 positive ones
    assert corematching.core_neurons(row, 0.3, of_positive=False) == {2, 3, 0}  # of all 10
    assert corematching.core_neurons(-np.abs(row), 0.9, of_positive=False) == set()


def test_ties_of_neurons_fall_to_the_lower_one() -> None:
    assert corematching.core_neurons(np.ones(10)) == {0, 1}
    assert corematching.sentence_core([{4, 7}, {7, 9}, {9, 4}], 10) == {0, 4, 7, 9}


def test_the_knee_is_farthest_from_the_chord() -> None:
    assert corematching.knee([100, 50, 10, 5, 4, 3, 2, 1]) == 2
    assert corematching.knee([5, 5, 5]) == 0
    overlap = {10 + i: value for i, value in enumerate([3, 100, 2, 50, 10, 5, 4, 1])}
    assert corematching.corematching_published(overlap) == [11, 13]
    assert kept(corematching.corematching(overlap), 2) == [11, 13]


def test_overlap_counts_neurons_of_the_prompt_s_core() -> None:
    activation = np.ones((6, 10))  # all positive: a core is two of ten, the prompt's core four
    for row, core in enumerate([(0, 1), (0, 1), (2, 3), (2, 4), (8, 9), (9, 8)]):
        activation[row, list(core)] = 2
    assert corematching.overlaps(activation, [1, 2, 3, 4], 5) == {1: 2, 2: 2, 3: 1, 4: 0}  # core 0, 1, 2 and 3
    assert corematching.overlaps(activation, [1, 2, 3, 4], 6) == {1: 2, 2: 1, 3: 1, 4: 1}  # core 0, 1, 2 and 8


# known before prefill -------------------------------------------------------------------------------------------------


def test_vflowopt_s_lists_are_prefixes_of_one_order() -> None:
    score = {row: float(DRAW(row).random()) for row in range(5, 30)}
    lists = early_lists.vflowopt(score, [25, 12, 5, 0])
    assert [len(rows) for rows in lists] == [25, 12, 5, 0]
    for wide, narrow in zip(lists, lists[1:], strict=False):
        assert set(narrow) <= set(wide)
        assert all(score[row] >= score[other] for row in narrow for other in set(wide) - set(narrow))


@pytest.mark.parametrize(("layers", "expected"), [(32, 28), (24, 21), (4, 3), (28, 24)])
def test_todre_s_layer(layers: int, expected: int) -> None:
    assert early_lists.todre_layer(layers) == expected


def test_yopo_leaves_what_is_not_visual() -> None:
    assert early_lists.yopo(range(6), [1, 2, 4]) == [0, 3, 5]
    assert all(0 < first < layers for layers, first in early_lists.YOPO_LAYERS.items())


def test_todre_s_gate_needs_both_directions_to_be_low() -> None:
    """Rows: 0 text, 1..2 picture, 3 text. One head; a key of 40 draws everything, where it is seen."""
    visual, text, queries = [1, 2], [0, 3], np.ones((4, 1))
    to_text = np.array([40.0, 0, 0, 40]).reshape(1, 4, 1)
    to_picture = np.array([0, 40.0, 40, 0]).reshape(1, 4, 1)
    assert early_lists.mass(queries, to_text, visual, text) == pytest.approx(1)
    assert not early_lists.todre_drops(queries, to_text, visual, text)
    assert early_lists.mass(queries, to_picture, text, visual) == pytest.approx(0.5)  # row 0 cannot see it
    assert early_lists.mass(queries, to_picture, [3], visual) == pytest.approx(1)
    assert not early_lists.todre_drops(queries, to_picture, visual, text)
    apart = np.array([[0.0, 30], [30, 0], [30, 0], [0, 30]])  # each kind looks at its own
    keys = np.array([[0.0, 1], [1, 0], [1, 0], [0, 1]])[None]
    assert early_lists.todre_drops(apart, keys, visual, text)


def test_representatives_stand_at_a_whole_stride() -> None:
    assert early_lists.representatives(list(range(100, 111)), 3) == [100, 103, 106]
    assert early_lists.representatives([4, 5], 9) == [4, 5]
    assert early_lists.representatives_by_score({4: 0.1, 5: 0.3, 9: 0.3}, 1) == [5]
    assert early_lists.representatives_by_noise(np.array([9.0, 1, 2, 3]), [1, 2, 3], 2) == [2, 3]
