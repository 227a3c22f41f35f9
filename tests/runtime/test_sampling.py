"""The choice of the next token."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune_runtime import Sampling
from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.prompting.sampling import Sampler

LOGITS = np.random.default_rng(0).normal(size=50).astype(np.float32)


def draws(sampling: Sampling, count: int = 300, logits: np.ndarray = LOGITS) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.choose(logits) for _ in range(count)]


def test_the_default_is_greedy() -> None:
    assert set(draws(Sampling(), 5)) == {int(LOGITS.argmax())}


def test_greedy_ties_fall_to_the_lower_id() -> None:
    assert draws(Sampling(), 1, np.array([1, 3, 3, 2], np.float32)) == [1]


def test_equal_seeds_choose_equal_tokens_and_other_seeds_others() -> None:
    warm = Sampling(temperature=1.0, seed=5)
    assert draws(warm) == draws(warm)
    assert draws(warm) != draws(Sampling(temperature=1.0, seed=6))


@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    logits = np.array([0.0, 1.0, 2.0, -1.0], np.float32)
    count = 4000
    found = np.bincount(draws(Sampling(temperature=temperature, seed=1), count, logits), minlength=4) / count
    scaled = np.exp(logits / temperature)
    np.testing.assert_allclose(found, scaled / scaled.sum(), atol=0.04)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = np.log(np.array([0.1, 0.5, 0.15, 0.25], np.float32))
    for top_p, allowed in ((0.4, {1}), (0.5, {1}), (0.6, {1, 3}), (0.8, {1, 3, 2}), (1.0, {0, 1, 2, 3})):
        assert set(draws(Sampling(temperature=1.0, top_p=top_p - 1e-6, seed=2), 500, logits)) == allowed


def test_a_tiny_top_p_or_temperature_is_greedy() -> None:
    best = {int(LOGITS.argmax())}
    assert set(draws(Sampling(temperature=1.0, top_p=1e-9), 50)) == best
    for temperature in (1e-3, 1e-30, 1e-308, 5e-324):
        assert set(draws(Sampling(temperature=temperature), 20)) == best


def test_large_logits_do_not_overflow() -> None:
    assert set(draws(Sampling(temperature=1.0), 20, np.array([3e38, -3e38, 0], np.float32))) == {0}


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"seed": -1},
    ],
)
def test_numbers_that_make_no_sense_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="expected"):
        Sampling(**fields)  # type: ignore[arg-type]
