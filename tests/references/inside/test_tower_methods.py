"""Cases counted by hand, and what is special about one method: references of cuts inside the tower."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from .. import flowcut as whole_flowcut
from .tower import (
    absorb,
    controls,
    evit,
    expedit,
    flowcut,
    gtp,
    hired_early,
    mctf,
    token_transforming,
    tome,
    zero_tprune,
)
from .tower.rows import Floats, Rows, attention_map, cosine, patch_count
from .tower.weights import reading

HEADS = 2
GRID = (4, 4)
N = 16


def ranked_alike(attention: list[float]) -> tuple[Floats, Floats, Floats, Floats]:
    """One head of width 1 whose class token attends to the rows (itself first) exactly as given."""
    logits = np.log(np.array(attention, dtype=np.float64))[:, None]
    n = len(attention)
    return np.eye(n), np.ones((n, 1)), logits, np.ones((n, 1))


def link(x: Floats) -> Floats:
    return gtp.neighbours(x[1:], GRID, nearest=4)


def test_evit_fuses_with_the_scores_as_they_are_and_counts_the_fused_row() -> None:
    read = ranked_alike([0.1, 0.3, 0.05, 0.35, 0.2])
    step = evit.step(*read, 1, 2, place=np.arange(5) - 1)
    np.testing.assert_allclose(step.x[:3], np.eye(5)[[0, 1, 3]])
    np.testing.assert_allclose(step.x[3], [0, 0, 0.05, 0, 0.2])
    assert list(step.owner) == [0, 1, 3, 2, 3] and list(step.index) == [0, 1, 3, -1]
    assert list(evit.step(*read, 1, 2, by_score=True).index) == [0, 3, 1, -1]
    assert len(evit.step(*read, 1, 2, fuse=False).x) == 3
    sizes = evit.step(*ranked_alike([0.1, 0.3, 0.05, 0.35, 0.2]), 1, 2, size=np.full(5, 2.0)).size
    assert sizes is not None and list(sizes) == [2, 2, 2, 1]  # the fused row carries no mass
    counts, n = [], 197
    for _ in range(3):
        n = len(evit.step(*reading(n, n, channels=2, width=2), 1, 0.7).x)
        counts.append(n - 1)
    assert counts == [138 + 1, 98 + 1, 70 + 1]


def test_tome_by_hand() -> None:
    degrees = [0, 10, 12, 100, 95, 200, 14]  # A: 0 2 4 6; B: 1 3 5
    keys = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)
    x = np.arange(7.0)[:, None]
    step = tome.step(x, keys, keys, keys, 1, 4)  # two of six leave: 2 -> 1 (2 degrees), 6 -> 1 (4 degrees)
    assert list(step.index) == [0, 4, 1, 3, 5]
    np.testing.assert_allclose(step.x[:, 0], [0, 4, 3, 3, 5])
    assert step.size is not None and list(step.size) == [1, 1, 3, 1, 1]
    assert list(step.owner) == [0, 2, 2, 3, 1, 4, 2]
    assert len(tome.step(x, keys, keys, keys, 1, 2).x) == 7 - 3  # at most half of the patches
    # without a class token row 0 may join as well, and who stays of A comes by falling likeness: 0 -> 1 is 10 degrees
    alone = tome.step(x, keys, keys, keys, 1, 5, class_token=False)
    assert list(alone.index) == [4, 0, 1, 3, 5]
    # nothing joins a distillation token: now 4 -> 3 (5 degrees) and 6 -> 3 (86)
    assert list(tome.step(x, keys, keys, keys, 1, 4, distilled=True).owner) == [0, 2, 1, 3, 3, 4, 3]


def test_tome_compares_the_mean_of_the_heads() -> None:
    x, q, k, v = reading(8, 1 + N)
    halves = np.concatenate([(k[:, :4] + k[:, 4:]) / 2] * 2, axis=1)
    assert list(tome.step(x, q, k, v, 2, 9).owner) == list(tome.step(x, q, halves, v, 2, 9).owner)
    assert list(tome.step(x, q, k, v, 2, 9, all_heads=True).owner) != list(tome.step(x, q, k, v, 2, 9).owner)


def test_absorb_joins_the_most_similar_kept_keys_of_all_heads() -> None:
    read = reading(9, 1 + N)
    step = absorb.step(*read, HEADS, 6)
    ranked = np.argsort(-attention_map(read[1], read[2], HEADS)[:, 0].mean(axis=0)[1:], kind="stable") + 1
    assert list(step.index) == [0, *sorted(ranked[:6])]
    for j in ranked[6:]:
        likeness = [cosine(read[2][j], read[2][a]) for a in step.index[1:]]
        assert step.owner[j] == 1 + int(np.argmax(likeness))
    alone = absorb.step(*read, HEADS, 1.0e0 / N, class_absorbs=True)
    assert alone.size is not None and alone.size[0] > 1


def test_token_transforming_hardens_into_absorb() -> None:
    for seed in range(5):
        read = reading(seed, 1 + N)
        size = np.random.default_rng(seed).integers(1, 5, 1 + N).astype(np.float64)
        hard = token_transforming.step(*read, HEADS, 7, tau=1e-6, metric="keys", size=size)
        joined = absorb.step(*read, HEADS, 7, size=size)
        np.testing.assert_allclose(hard.x, joined.x)
        np.testing.assert_allclose(hard.size, joined.size)  # type: ignore[arg-type]
        assert list(hard.owner) == list(joined.owner)
    soft = token_transforming.step(*read, HEADS, 7, tau=1e9)
    np.testing.assert_allclose(soft.x[1:], np.repeat(read[0][1:].mean(axis=0)[None], 7, axis=0), rtol=1e-6)
    assert soft.saved is not None
    np.testing.assert_allclose(soft.saved["shares"].sum(axis=0), 1)
    assert token_transforming.undone(soft.x, soft.saved).shape == read[0].shape


def test_mctf_goes_both_ways_and_merges_the_map() -> None:
    read = reading(10, 1 + N)
    step = mctf.step(*read, HEADS, 11, least=4)
    index = list(step.index)
    a_side, b_side = index[: 1 + 8 - 2], index[7:]
    assert a_side == sorted(a_side) and all(i % 2 == 0 for i in a_side) and all(j % 2 for j in b_side)
    rows = Rows(*read, HEADS, attention_map(read[1], read[2], HEADS), class_token=True)
    w = mctf.matching(rows, 1, 20, 40)
    best = [max(w[i, j] for i in a_side[1:]) for j in b_side]
    assert best == sorted(best, reverse=True) and b_side != sorted(b_side)
    assert step.attention is not None
    np.testing.assert_allclose(step.attention.sum(axis=2), 1)
    maps = attention_map(read[1], read[2], HEADS)
    weight = maps.mean(axis=(0, 1))
    for row in range(12):
        members = [i for i in range(1 + N) if step.owner[i] == row]
        for column in range(12):
            others = [j for j in range(1 + N) if step.owner[j] == column]
            total = sum(weight[i] * maps[:, i, others].sum(axis=1) for i in members) / weight[members].sum()
            np.testing.assert_allclose(step.attention[:, row, column], total)
    assert len(mctf.step(*read, HEADS, 4, least=10).x) == 10
    assert len(mctf.step(*read, HEADS, 4, least=1).x) == 1 + N - N // 2


def test_mctf_prefers_the_unimportant_and_the_small() -> None:
    rows = Rows(*reading(11, 1 + N), heads=1, attention=np.ones((1, 1 + N, 1 + N)), class_token=True)
    rows.x[:] = 1
    rows.attention[:, :, 5] = 3
    w = mctf.matching(rows, 1, 20, 40)
    assert w[2, 7] > w[2, 5]
    np.testing.assert_allclose(w[2, 7], 1)
    np.testing.assert_allclose(w[2, 5], (1 / 3) ** (1 / 20))
    size = np.ones(1 + N)
    size[9] = 4
    w = mctf.matching(replace(rows, size=size), 1, 20, 40)
    np.testing.assert_allclose([w[2, 7], w[2, 9]], [1, 0.25 ** (1 / 40)])


def test_gtp_links_neighbours_and_spreads_what_leaves() -> None:
    links = gtp.spatial_links((3, 3))
    assert list(links.sum(axis=1)) == [3, 5, 3, 5, 8, 5, 3, 5, 3]
    x = np.random.default_rng(0).normal(size=(9, 4))
    assert all(gtp.semantic_links(x, 3).sum(axis=1) == 2)  # three, of which the patch itself is one
    w = gtp.neighbours(x, (3, 3), kind="spatial")
    np.testing.assert_allclose(w[0, 1], 1 / math.sqrt(15))
    np.testing.assert_allclose(w, w.T)

    read = reading(12, 1 + N)
    graph = np.random.default_rng(0).random((N, N))  # not symmetric
    step = gtp.step(*read, HEADS, 12, alpha=0.3, graph=graph, size=np.ones(1 + N))
    kept = step.index[1:]
    gone = [i for i in range(1, 1 + N) if i not in kept]
    w = graph[np.ix_(kept - 1, np.array(gone) - 1)]
    np.testing.assert_allclose(step.x[1:], read[0][kept] + 0.3 * w @ read[0][gone])
    np.testing.assert_allclose(step.size, [1, *(1 + 0.3 * w.sum(axis=1))])  # type: ignore[arg-type]
    np.testing.assert_array_equal(step.graph, graph[np.ix_(kept - 1, kept - 1)])
    maps = attention_map(read[1], read[2], HEADS)
    score = maps.diagonal(axis1=1, axis2=2).max(axis=0) * maps.sum(axis=1).max(axis=0)
    assert min(score[kept]) > max(score[gone])
    asked_by_class = np.zeros((1, 4, 4))
    asked_by_class[0] = np.diag([0.1, 0.4, 0.4, 0.4])
    asked_by_class[0, 0, 2] = 0.9
    one = gtp.act(Rows(*reading(0, 4), 1, asked_by_class, True, graph=np.zeros((3, 3))), 1)
    assert list(one.index) == [0, 2]  # the class token's question counts
    assert (gtp.sparsified(maps, 0.6) == 0).sum(axis=(1, 2)).tolist() == [math.floor(0.4 * 17 * 17)] * 2


def test_zero_tprune_scores_have_mean_one() -> None:
    read = reading(13, 1 + N)
    maps = attention_map(read[1], read[2], HEADS)
    for rounds in (1, 8, 32):
        np.testing.assert_allclose(zero_tprune.page_rank(maps, True, rounds).mean(axis=1), 1)
    flat = np.full((1, 4, 4), 0.25)
    np.testing.assert_allclose(zero_tprune.page_rank(flat, True, 3), 1)
    np.testing.assert_allclose(zero_tprune.page_rank(np.eye(4)[None], True, 3)[0], np.array([2, 1, 1, 1]) * 4 / 5)
    quiet, loud, fit = np.full(4, 1.0), np.array([0, 0, 0, 4.0]), np.array([0.5, 1.5, 0.5, 1.5])
    np.testing.assert_allclose(zero_tprune.over_heads(np.stack([quiet, loud, fit])), fit)
    np.testing.assert_allclose(zero_tprune.over_heads(np.stack([quiet, loud])), np.sqrt((quiet**2 + loud**2) / 2))
    assert [zero_tprune.rounds_at(i, 12) for i in range(12)] == [32] * 3 + [8] * 6 + [1] * 3


def test_zero_tprune_drops_by_likeness_only_from_the_less_important_half() -> None:
    read = reading(14, 1 + N)
    maps = attention_map(read[1], read[2], HEADS)
    first = zero_tprune.over_heads(zero_tprune.page_rank(maps, True, 1))
    step = zero_tprune.step(*read, HEADS, 12, similar=4)
    gone = {*range(1, 1 + N)} - {*step.index}
    lower = sorted(range(1, 1 + N), key=lambda i: (first[i], -i))[:8]
    assert len(gone) == 4 and gone <= {*lower}
    half = zero_tprune.step(*read, HEADS, 10)  # six leave, three of them by likeness
    assert list(half.index) == list(zero_tprune.step(*read, HEADS, 10, similar=3).index)
    assert any(
        list(zero_tprune.step(*other, HEADS, 10).index) != list(zero_tprune.step(*other, HEADS, 10, similar=2).index)
        for other in (reading(seed, 1 + N) for seed in range(5))
    )
    ranked = zero_tprune.step(*read, HEADS, 12, similar=0)
    last = zero_tprune.over_heads(zero_tprune.page_rank(maps, True, 32))
    assert {*ranked.index[1:]} == {*sorted(range(1, 1 + N), key=lambda i: (-last[i], i))[:12]}


def test_expedit_finds_separate_clusters_and_puts_every_patch_back() -> None:
    corners = np.repeat(np.repeat(np.arange(4.0).reshape(2, 2), 2, axis=0), 2, axis=1).reshape(-1, 1) * 10
    x = np.vstack([[[-5.0]], corners])
    same = np.ones((17, 2))
    step = expedit.step(x, same, same, same, 1, 4, grid=GRID, tau=1.0)
    np.testing.assert_allclose(step.x[:, 0], [-5, 0, 10, 20, 30], atol=1e-9)
    assert list(step.index) == [0, -1, -1, -1, -1]
    assert step.owner.tolist() == [0, 1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]
    assert step.saved is not None
    for norm in ("l2", "sum"):
        np.testing.assert_allclose(expedit.undone(step.x, step.saved, tau=1.0, norm=norm), x, atol=1e-6)
    assert expedit.cells((40, 40), 784) == (28, 28) and expedit.cells((6, 8), 12) == (3, 4)
    near = expedit.reachable((8, 8), (8, 8), 5)
    assert [len(near[j]) for j in (0, 9, 27)] == [9, 16, 25]
    for grid, shape in (((1, 5), (1, 2)), ((5, 1), (2, 1))):
        np.testing.assert_allclose(expedit.pooled(np.arange(5.0)[:, None], grid, shape), [[1], [3]])  # windows overlap


def test_expedit_moves_its_centres_round_by_round() -> None:
    x, centres = np.array([[0.0], [1], [2], [5]]), np.array([[0.5], [3.5]])
    same = np.ones((4, 1))
    for rounds in range(1, 6):
        parts = np.exp(-0.7 * (centres - x.T) ** 2)
        q = parts / parts.sum(axis=0)
        centres = (q @ x) / q.sum(axis=1, keepdims=True)
        step = expedit.step(x, same, same, same, 1, 2, class_token=False, grid=(1, 4), tau=0.7, rounds=rounds)
        np.testing.assert_allclose(step.x, centres)
    default = expedit.step(x, same, same, same, 1, 2, class_token=False, grid=(1, 4), tau=0.7)
    np.testing.assert_allclose(default.x, centres)


def test_expedit_divides_by_the_length_of_the_weights_or_by_their_sum() -> None:
    saved = {"before": np.zeros((1, 1)), "centres": np.zeros((4, 1))}
    refined = np.ones((4, 1))
    assert expedit.undone(refined, saved, False).item() == pytest.approx(2)  # 4 * 1 / sqrt(4)
    assert expedit.undone(refined, saved, False, norm="sum").item() == pytest.approx(1)
    saved["centres"] = np.array([[0.0], [1], [2], [3]])
    weights = np.exp(-5e-3 * np.array([0, 1, 4, 9]))
    np.testing.assert_allclose(expedit.undone(np.eye(4), saved, False, norm="sum")[0], weights / weights.sum())
    assert expedit.undone(np.eye(4), saved, False, top=1).tolist() == [[1, 0, 0, 0]]


def test_hired_counts_by_the_content_of_the_thumbnail() -> None:
    early = np.array([[0.1, 0.2, 0.3, 0.0], [0.1, 0.0, 0.1, 0.2]])
    region = np.array([[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]])
    contents = hired_early.content(early, region)
    np.testing.assert_allclose(contents, [0.4, 0.6])
    assert hired_early.counts([2, 3], 21, 100) == [10, 4, 6]  # floors; one token is given to nobody
    assert hired_early.counts([0, 0], 20, 8) == [8, 0, 0]
    assert hired_early.buckets([0.1, 0.4, 0.4, 0.2], [8, 4, 8, 2]) == [2, 8, 8, 4]


def test_flowcut_is_the_reference_of_the_whole_tower_block_by_block() -> None:
    state: list[float] = []
    score = None
    for block in range(3):
        x, q, k, v = reading(20 + block, 1 + N)
        score = flowcut.observe(x, q, k, v, HEADS, score=score)
        maps = attention_map(q, k, HEADS)
        values = v.reshape(1 + N, HEADS, 4).transpose(1, 0, 2)
        read = whole_flowcut.Block(maps[:, 0, 1:].tolist(), values[:, 0].tolist(), values[:, 1:].tolist())
        found = whole_flowcut.block_score(read)
        state = found if block == 0 else [0.5 * c + 0.5 * s for c, s in zip(state, found, strict=True)]
        np.testing.assert_allclose(score[1:], state)
    step = flowcut.step(x, q, k, v, HEADS, 9, score=score)
    assert [i - 1 for i in step.index[1:]] == whole_flowcut.best_in_order(state, 9)


def test_random_cuts_are_nested_and_seeded() -> None:
    read = reading(15, 1 + N)
    place = np.arange(1 + N) - 1
    first = controls.random(*read, HEADS, 10, total=N, seed=3, place=place)
    rest = tuple(a[first.index] for a in read)
    second = controls.random(*rest, HEADS, 5, total=N, seed=3, place=first.place)
    once = controls.random(*read, HEADS, 5, total=N, seed=3, place=place)
    assert second.place is not None and once.place is not None
    assert list(second.place) == list(once.place)
    assert list(controls.random(*read, HEADS, 5, total=N, seed=4).index) != list(once.index)


def test_pool_makes_exactly_so_many_cells() -> None:
    read = reading(16, 1 + N)
    for count in (1.0e0 / N, 4, 7, 10, 15):
        step = controls.pool(*read, HEADS, count, grid=GRID)
        assert len(step.x) == 1 + patch_count(N, count) and min(step.owner) == 0
    four = controls.pool(*read, HEADS, 4, grid=GRID)
    assert list(four.index) == [0, 1, 3, 9, 11]
    np.testing.assert_allclose(four.x[1], read[0][[1, 2, 5, 6]].mean(axis=0))
