"""Hand-computed cases of FlowCut inside the tower."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from .flowcut import (
    Block,
    Read,
    best_of_picture,
    block_score,
    cut_blocks,
    cut_count,
    default_counts,
    entropy_ratio,
    fixed,
    published,
    schedule,
    tile_target,
)


@pytest.mark.parametrize(
    ("keep", "counts"),
    [
        (64, [526, 478, 433, 390, 349, 310, 272, 235, 198, 157, 64]),
        (128, [532, 490, 450, 412, 376, 342, 309, 277, 244, 208, 128]),
        (192, [538, 502, 468, 436, 405, 376, 348, 320, 292, 261, 192]),
    ],
)
def test_flowcut_counts_of_the_source(keep: int, counts: list[int]) -> None:
    assert cut_blocks(22) == list(range(1, 22, 2))
    assert default_counts(576, keep, 22) == counts


def test_flowcut_counts_by_hand() -> None:
    assert cut_blocks(5) == [0, 2, 4]
    assert cut_blocks(0) == []
    # blocks 0 2 4, left 4 2 0, ratio 0: 10 - round(8 / 2) = 6, 6 - round(4 / 1.41 = 2.83) = 3, 2
    assert schedule(10, 2, 5, [0, 0, 0]) == [6, 3, 2]
    assert schedule(10, 2, 5, [1, 1, 1]) == [10, 10, 2]
    assert cut_count(9, 12, 4, 0.5) == 9  # nothing to cut
    assert (tile_target(5, 1), tile_target(5, 3)) == (5, 3)
    assert entropy_ratio([0.25] * 4) == 1
    assert entropy_ratio([1, 0, 0, 0]) == 0
    assert entropy_ratio([0.5, 0.5, 0, 0]) == pytest.approx(0.5)


def frozen(attention_rows: Sequence[Sequence[float]], sizes: Sequence[float]) -> Read:
    """Readings cut out of fixed rows: one head, one channel, class value 0 (so b is even)."""

    def read(block: int, there: list[int]) -> Block:
        return Block([[attention_rows[block][j] for j in there]], [[0.0]], [[[sizes[j]] for j in there]])

    return read


def test_flowcut_by_hand() -> None:
    # two heads, two channels; a = (3/4, 1/4); v_cls . v = ln 3 and 0 in head 0, even in head 1: b = (3/4 + 1/2) / 2;
    # head means of the values (ln 3 / 2, -1) and (0, 1): sizes ln 3 / 2 + 1 and 1
    values = [[[math.log(3), 0.0], [0.0, 0.0]], [[0.0, -2.0], [0.0, 2.0]]]
    readings = Block([[0.5, 0.25], [0.25, 0.0]], [[1.0, 0.0], [0.0, 0.0]], values)
    assert block_score(readings) == pytest.approx([(3 / 4 + 5 / 8) * (math.log(3) / 2 + 1), 1 / 4 + 3 / 8])

    # block 0: (a + 1/4) * size = 3/8 6/8 6/8 4/8; block 1, all sizes as before: 7/8 6/8 3/8 3/8
    rows = [[1 / 8, 1 / 8, 1 / 2, 1 / 4], [5 / 8, 1 / 8, 1 / 8, 1 / 8]]
    read = frozen(rows, [1, 2, 1, 1])
    (cut,) = fixed(read, 4, [2], 2)
    assert (cut.block, cut.tokens, cut.state) == (1, [0, 1], [5 / 8, 6 / 8])
    (cut,) = fixed(read, 4, [3], 2)
    assert (cut.tokens, cut.state) == ([0, 1, 2], [5 / 8, 6 / 8, 9 / 16])
    # padding leaves first, and its attention does not count: a = (1/4 1/4 1/2), (5/7 1/7 1/7), b = 1/3
    (cut,) = fixed(read, 4, [3], 2, padding=frozenset({2}))
    assert cut.tokens == [0, 1, 3]
    assert cut.state[0] == pytest.approx((1 / 4 + 1 / 3 + 5 / 7 + 1 / 3) / 2)


def test_flowcut_published_and_over_the_picture() -> None:
    # feature layer 3, cuts in blocks 0 and 2. All attention on one token: ratio 0, 10 - round(8 / 1.41 = 5.66) = 4
    peak = frozen([[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]] * 3, [1.0] * 10)
    assert [cut.tokens for cut in published(peak, 10, 2, 3)] == [[0, 1, 2, 3], [0, 3]]
    even = frozen([[0.1] * 10] * 3, [1.0] * 10)
    assert [len(cut.tokens) for cut in published(even, 10, 2, 3)] == [10, 2]
    last = [published(peak, 10, 2, 3)[-1], published(even, 10, 2, 3)[-1]]
    # peak: 3 is far above; a = 0 for token 0, b = 1/10, then 1/4 twice among four: c = .1, .175, .2125.
    # The even tile has 1/10 + 1/10 in all blocks
    assert last[0].state[0] == pytest.approx(0.2125)
    assert last[1].state == pytest.approx([0.2, 0.2])
    assert best_of_picture(last, 10, 1) == [3]
    assert best_of_picture(last, 10, 2) == [0, 3]
    assert best_of_picture(last, 10, 3) == [0, 3, 10]
    assert best_of_picture(last, 10, 9) == [0, 3, 10, 11]
    padded = fixed(even, 10, [4, 2], 3, padding=frozenset(range(1, 10)))[-1]
    assert best_of_picture([last[0], padded], 10, 4) == [0, 3, 10]  # one token too few got through
