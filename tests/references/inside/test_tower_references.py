"""Properties that pin the references of cuts inside the tower: what holds of all of them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from .tower import STEPS, drops, gtp
from .tower.rows import Floats, Step, attention_map, patch_count
from .tower.weights import reading

HEADS = 2
GRID = (4, 4)
N = 16


def link(x: Floats) -> Floats:
    return gtp.neighbours(x[1:], GRID, nearest=4)


SETTINGS: dict[str, dict[str, Any]] = {
    "expedit": {"grid": GRID, "shape": (2, 5)},
    "mctf": {"least": 4},
    "pool": {"grid": GRID},
    "random": {"total": N},
    "zero-tprune": {"rounds": 4},
}
MERGING = ("absorb", "mctf", "pool", "token-transforming", "tome")
SPREAD = ("evit", "expedit", "gtp", "token-transforming")  # a row is more than a mean of whole rows, or less
WHOLE_GRID = ("expedit", "pool")


def act(name: str, read: tuple[Floats, Floats, Floats, Floats], keep: float, **more: Any) -> Step:
    step, _ = STEPS[name]
    if name == "gtp" and "graph" not in more:
        more["graph"] = link(read[0])
    return step(*read, HEADS, keep, **SETTINGS.get(name, {}), **more)


@pytest.mark.parametrize("name", STEPS)
def test_the_class_token_stays_first_and_the_count_is_met(name: str) -> None:
    read = reading(1, 1 + N)
    step = act(name, read, 10)
    assert len(step.x) == 1 + 10 + (name == "evit")
    assert step.index[0] == 0 and step.owner[0] == 0
    np.testing.assert_allclose(step.x[0], read[0][0])


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("keep", [1, 1.0, 16, 99])
def test_a_cut_that_need_not_remove_anything_changes_nothing(name: str, keep: float) -> None:
    read = reading(2, 1 + N)
    step = act(name, read, keep)
    np.testing.assert_array_equal(step.x, read[0])
    assert list(step.index) == list(step.owner) == list(range(1 + N))
    assert step.size is None and step.attention is None


@pytest.mark.parametrize("name", MERGING)
def test_sizes_sum_to_the_rows_that_arrived_cut_after_cut(name: str) -> None:
    size = None
    read = reading(3, 1 + N)
    for keep in (12, 9, 8) if name not in WHOLE_GRID else (10,):
        step = act(name, read, keep, size=size)
        assert step.size is not None and math.isclose(step.size.sum(), 1 + N)
        assert step.size[0] == 1
        read = (step.x, *reading(keep, len(step.x))[1:])
        size = step.size


@pytest.mark.parametrize("name", [name for name in STEPS if name not in SPREAD])
def test_a_row_is_the_weighted_mean_of_the_rows_that_it_owns(name: str) -> None:
    read = reading(4, 1 + N)
    size = np.arange(1.0, 2 + N)
    step = act(name, read, 9, size=size)
    weight = size
    if name == "mctf":
        weight = attention_map(read[1], read[2], HEADS, size).mean(axis=(0, 1)) * size
    for row in range(len(step.x)):
        owned = [i for i in range(1 + N) if step.owner[i] == row]
        assert step.index[row] in owned
        mean = sum(weight[i] * read[0][i] for i in owned) / sum(weight[i] for i in owned)
        np.testing.assert_allclose(step.x[row], mean)
        assert step.size is not None and math.isclose(step.size[row], sum(size[i] for i in owned))


@pytest.mark.parametrize("name", [name for name in STEPS if name not in (*WHOLE_GRID, "evit")])
def test_of_equal_rows_the_lower_ones_stay_or_join_first(name: str) -> None:
    same = np.ones((1 + N, 4))
    step = act(name, (same, same, same, same), 13, graph=np.zeros((N, N)))
    expected = {
        "tome": [0, 8, 10, 12, 14, 16, *range(1, 16, 2)],  # 2, 4, 6 join 1
        "mctf": [0, *range(4, 17, 2), 5, 7, 9, 11, 13, 15],  # 2 joins 1, then 1 and 3 join 4
        "uniform": [0, *(1 + (2 * i + 1) * 16 // 26 for i in range(13))],
        "random": None,
        "zero-tprune": [0, *range(1, 9), 10, 11, 12, 13, 14],  # 9 is the first of the lower half, 15 and 16 the last
    }.get(name, [*range(14)])
    assert expected is None or list(step.index) == expected
    owner = {"absorb": [*range(14), 1, 1, 1], "tome": [0, 6, 6, 7, 6, 8, 6]}.get(name, [0])
    assert list(step.owner[: len(owner)]) == owner
    if name in ("class-attention", "flowcut", "gtp", "hired-early", "random", "received"):
        assert list(step.index) == sorted(step.index)


@pytest.mark.parametrize("name", [name for name in STEPS if name not in WHOLE_GRID])
def test_padding_leaves_first_and_is_merged_into_nothing(name: str) -> None:
    read = reading(5, 1 + N)
    padding = [3, 8, 16]
    valid = np.array([i not in padding for i in range(1 + N)])
    few = act(name, read, 14, valid=valid)
    assert sorted(few.index) == [i for i in range(1 + N) if i not in (8, 16)]  # of padding the higher row leaves first
    assert few.valid is not None and list(np.flatnonzero(~few.valid)) == [3]
    np.testing.assert_array_equal(few.x, read[0][few.index])

    more = act(name, read, 9, valid=valid)
    assert more.valid is not None and more.valid.all()
    assert all(more.owner[i] == -1 for i in padding)
    assert not {*padding} & {*more.index}
    x, q, k, v = read
    loud = x.copy()
    loud[padding] = 1e3  # x of padding is no term of anything
    np.testing.assert_allclose(act(name, (loud, q, k, v), 9, valid=valid, graph=link(x)).x, more.x)


@pytest.mark.parametrize("name", ["absorb", "token-transforming", "tome", "mctf"])
def test_the_size_of_padding_goes_with_it(name: str) -> None:
    valid = np.arange(1 + N) < 14
    size = np.arange(1.0, 2 + N)
    step = act(name, reading(5, 1 + N), 9, valid=valid, size=size)
    assert step.size is not None and math.isclose(step.size.sum(), size[valid].sum())


def test_attention_received_is_asked_by_patches_only() -> None:
    x, q, k, v = reading(17, 1 + N)
    other = q.copy()
    other[0] = 10 * q[0]
    first = drops.by_attention_received(x, q, k, v, HEADS, 8)
    assert list(first.index) == list(drops.by_attention_received(x, other, k, v, HEADS, 8).index)
    score = attention_map(q, k, HEADS)[:, 1:, 1:].mean(axis=(0, 1))
    assert list(first.index[1:]) == sorted(1 + np.argsort(-score, kind="stable")[:8])
    assert list(drops.by_class_attention(x, other, k, v, HEADS, 8).index) != list(first.index)


@pytest.mark.parametrize("name", [name for name in STEPS if name not in WHOLE_GRID])
def test_what_is_carried_goes_with_its_row(name: str) -> None:
    read = reading(6, 1 + N)
    place, score = np.arange(1 + N) - 1, np.arange(1 + N) / 7
    step = act(name, read, 11, place=place, score=score)
    assert step.place is not None and step.score is not None
    for row, i in enumerate(step.index):
        assert step.place[row] == (i - 1 if i >= 0 else -1)
        assert step.score[row] == (i / 7 if i >= 0 else 0)


@pytest.mark.parametrize("name", ["absorb", "token-transforming", "tome", "mctf", "received", "uniform", "zero-tprune"])
def test_a_tower_without_a_class_token_has_only_patches(name: str) -> None:
    read = reading(7, N)
    step = act(name, read, 0.75, class_token=False)
    assert len(step.x) == 12


@pytest.mark.parametrize("name", ["evit", "class-attention", "hired-early", "flowcut"])
def test_without_a_class_token_what_ranks_by_it_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="class token"):
        act(name, reading(7, N), 8, class_token=False)


def test_a_share_is_rounded_up_as_it_is_written() -> None:
    assert [patch_count(p, 0.7) for p in (196, 139, 99)] == [138, 98, 70]
    assert patch_count(100, 0.07) == 7 and patch_count(30, Fraction(1, 3)) == 10
    for keep in (0, -1, 2.5):
        with pytest.raises(ValueError, match="keep is"):
            patch_count(10, keep)
