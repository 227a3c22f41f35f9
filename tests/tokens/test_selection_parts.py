"""The parts that methods share, by hand: shares, ties, neighbours, and likeness that no order of sums changes."""

from __future__ import annotations

import numpy as np
import torch

from edgeprune.tokens import greedy, places, select, similar, weigh
from edgeprune.tokens.readings import Geometry
from tests.tokens.pictures import full_case


def test_shares_by_hand() -> None:
    available = torch.tensor([4, 1, 0, 4])
    counts = [select.shares(torch.ones(4), available, 4, keep).tolist() for keep in (1, 2, 3, 5, 9, 12)]
    assert counts == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1], [2, 1, 0, 2], [4, 1, 0, 4], [4, 1, 0, 4]]
    assert weigh.equal(full_case(np.random.default_rng(7), 3).outputs).unique().tolist() == [1.0]


def test_a_part_is_taken_as_it_is_written() -> None:
    assert [select.part(100, share) for share in (0.29, 0.57, 0.58, 1.0, 0)] == [29, 57, 58, 100, 0]
    assert int(100 * 0.29) == 28, "what binary numbers would make of it"


def test_equals_fall_to_the_lower_index_in_every_choice() -> None:
    assert int(torch.argmax(torch.zeros(1000))) == 0 and int(torch.argmin(torch.zeros(1000))) == 0
    same, real = torch.ones(6, 6), torch.tensor([False, True, True, True, True, False])
    chosen = greedy.least_alike(same, torch.tensor(3), real, 3, torch.add)
    assert chosen.tolist() == [False, True, True, True, False, False]
    turn = greedy.covering(torch.ones(1, 6, 4), real[None], 6)
    assert turn.tolist() == [[4, 0, 1, 2, 3, 5]], "padding is reached last"
    turn = greedy.determinant(torch.eye(6)[None], torch.ones(1, 6), real[None], 6)
    assert turn.tolist() == [[4, 0, 1, 2, 3, 5]]


def test_neighbours_wrap_at_row_ends_and_stop_at_both_ends() -> None:
    def beside(tokens: int, token: int) -> list[int]:
        marked = torch.zeros(1, tokens, dtype=torch.bool)
        marked[0, token] = True
        return places.beside(marked, Geometry(3, tokens - 9))[0].nonzero().flatten().tolist()

    assert beside(9, 4) == [1, 3, 5, 7]
    assert beside(9, 3) == [0, 2, 4, 6], "the left neighbour is the end of the row above"
    assert beside(9, 0) == [0, 1, 3]
    assert beside(9, 8) == [5, 7, 8]
    assert beside(10, 0) == beside(10, 1) == [1, 2, 4], (
        "a token that is no patch lies at the first and is nobody's neighbour"
    )


def test_order_among_is_the_order_of_cosines_and_exact_in_any_order_of_sums() -> None:
    rng = np.random.default_rng(8)
    for scale in (1e-6, 1.0, 1e4):
        rows = torch.from_numpy((scale * rng.normal(size=(2, 40, 1024))).astype(np.float32))
        rows[0, 0], rows[0, 1] = 0, rows[0, 2]
        found = similar.order_among(rows)
        expected = similar.among(rows.double())
        torch.testing.assert_close(found.double(), expected * expected.abs(), atol=1e-5, rtol=0)
        shuffled = torch.from_numpy(rng.permutation(1024))
        assert torch.equal(similar.order_among(rows[..., shuffled]), found)
        assert torch.equal(similar.order_among(rows[:, 5:9]), found[:, 5:9, 5:9])
