"""Schedules as numbers: every way of searching keeps to the price and never ends worse than it began."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.errors import PlanError
from edgeprune.schedules.bayes import bayes
from edgeprune.schedules.evidence import better, difference, verdict
from edgeprune.schedules.families import sigmoids
from edgeprune.schedules.greedy import greedy
from edgeprune.schedules.kept import Kept, SchedulePlace, dearest, falling, in_part, uniform
from edgeprune.schedules.target import schedule_target
from edgeprune.schedules.trials import Trials

PLACES = tuple(SchedulePlace("tower", block, block / 12) for block in range(3, 11))
LIMIT = 0.7


def price(kept: Kept) -> float:
    return (4 + sum(kept)) / (4 + len(kept))


def trials(most: int = 60, seed: int = 0) -> Trials:
    """A made model: what leaves at a place costs by the square, early places more or less than late ones, as drawn."""
    weights = np.random.default_rng(seed).random(len(PLACES)) ** 3

    def costs(kept: Kept) -> list[float]:
        return [float(((1 - np.asarray(kept)) ** 2 * weights).sum())]

    return Trials(price, costs, lambda kept: tuple(round(64 * share) for share in kept), LIMIT, most)


def even() -> Kept:
    found = dearest(lambda share: uniform(len(PLACES), share), price, LIMIT)
    assert found is not None
    return found


WAYS = {
    "greedy": lambda found: greedy([even()], found, seed=0),
    "sigmoid": lambda found: sigmoids([even()], PLACES, found),
    "bayes": lambda found: bayes([even()], found, seed=0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(4))
def test_a_search_keeps_to_the_price_and_never_costs_more_than_the_uniform_schedule(way: str, seed: int) -> None:
    if way == "bayes":
        pytest.importorskip("optuna")
    found = trials(seed=seed)
    WAYS[way](found)
    assert found.best is not None
    assert found.costs(found.best) <= found.costs(even())
    assert price(found.best) <= LIMIT and falling(found.best) == found.best
    assert 1 <= len(found.judged) <= found.most


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_finds_the_same(way: str) -> None:
    if way == "bayes":
        pytest.importorskip("optuna")
    one, other = trials(30), trials(30)
    WAYS[way](one)
    WAYS[way](other)
    assert one.best == other.best and list(one.judged) == list(other.judged)


def test_greedy_moves_gain_where_places_differ() -> None:
    found = trials(200, seed=1)
    WAYS["greedy"](found)
    assert found.best is not None and found.costs(found.best)[0] < 0.97 * found.costs(even())[0]


def test_a_mean_that_is_less_within_its_error_does_not_take_the_place_of_the_best() -> None:
    costs = {1.0: [1.0, 1.0, 1.0, 1.0], 0.9: [0.0, 0.0, 1.8, 1.8], 0.8: [0.5, 0.6, 0.5, 0.6]}
    found = Trials(lambda kept: 0.5, lambda kept: costs[kept[0]], lambda kept: kept, 1.0, 9)
    found.judge((1.0,))
    assert found.judge((0.9,)) < 1 and found.best == (1.0,)
    found.judge((0.8,))
    assert found.best == (0.8,)


def test_the_dearest_of_a_family_is_just_within_the_price() -> None:
    share = even()[0]
    assert price(uniform(8, share)) <= LIMIT < price(uniform(8, share * 1.001))
    assert dearest(lambda at: uniform(8, at), price, 0.1) is None


def test_tokens_can_leave_in_one_part_only() -> None:
    places = (*PLACES[:2], SchedulePlace("output", 0, 0.5), SchedulePlace("language", 1, 0.75))
    assert in_part(places, "output", 0.5) == (1.0, 1.0, 0.5, 0.5)
    assert in_part(places, "tower", 0.5) == (0.5, 0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speed=2", "is not known; write macs=0.6"),
        ("macs=1.5", "no share above 0 and below 1"),
        ("macs=3ms", "macs takes a share such as 0.5"),
        ("cache=3ms", "or a number with B, KB"),
        ("ttft=soon", "or a number with s, ms"),
        ("accuracy=1", "no loss of points; write accuracy=-1"),
    ],
)
def test_a_target_that_is_none_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        schedule_target(text)


def test_targets_are_shares_or_amounts() -> None:
    assert schedule_target("macs=0.6").limit(100.0) == 0.6
    assert schedule_target("ttft=300ms").limit(0.6) == pytest.approx(0.5)
    assert schedule_target("cache=2MiB").limit(2.0**22) == 0.5
    assert schedule_target("accuracy=-1").value == -1


def test_a_gain_is_claimed_only_beyond_chance() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (2, 40))
    pictures = list(range(40))
    gap = difference(noise[0].tolist(), noise[1].tolist(), pictures, seed=0)
    assert not better(gap) and "no gain can be told from chance" in verdict(gap, same=False)
    clear = difference((noise[0] - 3).tolist(), noise[1].tolist(), pictures, seed=0)
    assert better(clear) and "costs less" in verdict(clear, same=False)
    worse = difference((noise[0] + 3).tolist(), noise[1].tolist(), pictures, seed=0)
    assert not better(worse) and "the recipe is the uniform one" in verdict(worse, same=False)
    few = difference([-1.0] * 5, [0.0] * 5, range(5), seed=0)
    assert not better(few), "five pictures that agree are chance"
