"""Hand-computed cases and invariants of the references of structured pruning's scores and compensation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from . import structure_importance as scores
from . import structure_readings as readings
from .structure_compensate import compensate, ridge_of

Array = scores.Array


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


# -------------------------------------------------------------------------------------------------------- importance


def test_magnitude_by_hand() -> None:
    # two groups of two query heads, width 1, D = 1: W_q has 4 rows, W_k and W_v 2, W_o 4 columns
    wq, wk, wv = np.array([[1.0], [2], [0], [0]]), np.array([[2.0], [3]]), np.array([[0.0], [4]])
    wo = np.array([[0.0, 4, 0, 0]])
    # 1 + 4 | 4 | 0 | 16 -> 25;  0 | 9 | 16 | 0 -> 25
    assert scores.magnitude_heads(wq, wk, wv, wo, None, None, None, 2) == [5.0, 5.0]
    bq, bk, bv = np.array([0.0, 0, 5, 5]), np.array([0.0, 5]), np.array([0.0, 8])
    assert scores.magnitude_heads(wq, wk, wv, wo, bq, bk, bv, 2) == [5.0, math.sqrt(25 + 50 + 25 + 64)]
    gate, up, down = np.array([[3.0, 0], [0, 0]]), np.array([[0.0, 4], [1, 0]]), np.array([[12.0, 0], [0, 0]])
    assert scores.magnitude_channels([gate, up], [None, None], down) == [13.0, 1.0]
    assert scores.magnitude_channels([gate, up], [np.array([0.0, 2]), np.array([0.0, 2])], down) == [13.0, 3.0]


def test_taylor_by_hand() -> None:
    x = [np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 1]])]  # samples of two tokens and of one
    grad = [np.array([[1.0, 1], [-1, 1]]), np.array([[2.0, 0]])]
    # T_1 = (1 - 3, 2 + 4), T_2 = (2, 0): squares 4 36 | 4 0
    assert scores.taylor_terms(x, grad, [[0], [1]]) == [[-2.0, 6.0], [2.0, 0.0]]
    assert scores.taylor(x, grad, [[0], [1]]) == [4.0, 18.0]
    assert scores.taylor(x, grad, [[0, 1]]) == [(16 + 4) / 2]  # summed before it is squared


def test_taylor_is_the_slope_of_the_loss_as_a_unit_fades() -> None:
    x, w = drawn(5, 6), drawn(4, 6)  # loss: cross-entropy of the mean token's output against class 1

    def loss(inputs: Array) -> float:
        logits = w @ inputs.mean(axis=0)
        return float(np.log(np.sum(np.exp(logits))) - logits[1])

    logits = w @ x.mean(axis=0)
    p = np.exp(logits) / np.sum(np.exp(logits))
    grad = np.tile((p - np.eye(4)[1]) @ w / 5, (5, 1))
    units = scores.group_columns(3, 2)
    for unit, term in zip(units, scores.taylor_terms([x], [grad], units)[0], strict=True):
        faded, grown = x.copy(), x.copy()
        faded[:, unit] *= 1 - 1e-5
        grown[:, unit] *= 1 + 1e-5
        assert (loss(grown) - loss(faded)) / 2e-5 == pytest.approx(term, rel=1e-6)


def test_activation_and_amp_by_hand() -> None:
    w, x = np.array([[3.0, 1], [4, 0]]), np.array([[1.0, -2], [-1, 4]])
    # column 0: mean x^2 1, sum w^2 25; column 1: 10 and 1
    assert scores.activation(w, x, [[0], [1]]) == [5.0, math.sqrt(10)]
    assert scores.activation(w, x, [[0, 1]]) == [math.sqrt(35)]
    assert scores.amp_channels(x) == [1.0, 3.0]
    # head 0: tokens give (3, 4) and (-3, -4), L1 7 and 7; head 1: (-2, 0) and (4, 0), 2 and 4
    assert scores.amp_heads(w, x, groups=2, queries=1) == [7.0, 3.0]
    assert scores.amp_heads(w, x, groups=1, queries=2) == [10.0]  # L1 per query head, then summed
    # one head of width 2: (1, 4) and (1, -4)
    assert scores.amp_heads(w, x, groups=1, queries=1) == [5.0]


def test_obs_is_the_least_damage_of_a_refit() -> None:
    w, x = drawn(4, 6), drawn(20, 6, seed=1) @ drawn(6, 6, seed=2)
    for units in (scores.channel_columns(6), scores.group_columns(3, 2)):
        assert scores.obs(w, x, units) == pytest.approx(scores.obs_by_refit(w, x, units), rel=1e-9)
    # and no other choice of the kept columns does less: the objective itself, at the optimum nudged
    moment, unit, kept = scores.damped_second_moment(x), [2, 3], [0, 1, 4, 5]
    shift = np.zeros_like(w)
    shift[:, unit] = -w[:, unit]
    shift[:, kept] = w[:, unit] @ moment[np.ix_(unit, kept)] @ np.linalg.inv(moment[np.ix_(kept, kept)])
    least = float(np.trace(shift @ moment @ shift.T))
    assert least == pytest.approx(scores.obs(w, x, [unit])[0], rel=1e-9)
    for seed in range(20):
        nudged = shift.copy()
        nudged[:, kept] += 0.01 * drawn(4, 4, seed=seed)
        assert float(np.trace(nudged @ moment @ nudged.T)) > least


def test_obs_on_white_inputs_is_the_squared_magnitude() -> None:
    w, x = drawn(4, 6), math.sqrt(12) * np.linalg.qr(drawn(12, 6))[0]  # X^T X / n = I
    found = scores.obs(w, x, scores.group_columns(3, 2))
    assert found == pytest.approx([1.01 * np.sum(w[:, g : g + 2] ** 2) for g in (0, 2, 4)])
    # two equal columns replace each other: without damping nothing is lost, with it almost nothing
    twin = np.hstack([x[:, :1], x[:, :1]])
    assert scores.obs(np.array([[1.0, 1]]), twin, [[0]])[0] == pytest.approx(1.01 - 1 / 1.01)


def test_dimap_by_hand() -> None:
    fc1, fc2 = np.array([[3.0], [-4]]), np.array([[1.0, 1]])
    # fc1: 9 / 25 and 16 / 16; fc2: 1 / 2 each
    assert scores.dimap_channels([fc1], fc2) == [(0.36 + 0.5) / 2, 0.75]
    assert scores.dimap_channels([fc1, np.zeros((2, 1))], fc2) == pytest.approx([(0.36 + 0.5) / 3, 1.5 / 3])
    # weights, not matrices, are averaged: the group's 4 of W_q, 2 of W_k, 2 of W_v and 4 of W_o
    wq, wk, wo = np.array([[2.0, 1], [0, 0]]), np.array([[1.0, 0]]), np.zeros((2, 2))
    # W_q: 1, 1 / 5, 0, 0; W_k and W_v: 1, 0 each; W_o: 0 each
    assert scores.dimap_heads(wq, wk, wk, wo, 1) == pytest.approx([(1.2 + 1 + 1) / 12])


def test_readings_by_hand() -> None:
    rows = [np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]), np.array([[0.75, 0.25, 0], [0.5, 0.5, 0]])]
    inside = [{0}, {1}]
    # sample 0: 0.5 / 0.5, 0.2 / 0.8; sample 1: 0.25 / 0.75, 0.5 / 0.5
    assert readings.yopo_heads(rows, inside, 2) == pytest.approx([(1 + 1 / 3) / 2, (0.25 + 1) / 2])
    assert readings.yopo_heads(rows, inside, 1) == pytest.approx([(1 + 0.25 + 1 / 3 + 1) / 4])
    assert readings.visual(rows, inside) == pytest.approx((0.5 + 0.2 + 0.25 + 0.5) / 4)

    assert readings.core_set([0, -1, 0]) == set()
    assert readings.core_set([1, 3, 2, 3, -9]) == {1}  # ceil(4 / 5) = 1, the lower of two equal ones
    assert readings.core_set([1, 2, 3, 4, 5, 6]) == {4, 5}  # ceil(6 / 5) = 2
    assert readings.core_channels(np.array([[1.0, 2], [3, 1], [5, 5], [-1, -1]])) == [0.5, 0.25]

    assert readings.similarity(np.array([[1.0, 0], [1, 1]]), np.array([[2.0, 0], [-1, 1]])) == pytest.approx(0.5)
    p, q = np.array([0.5, 0.5, 0]), np.array([0.25, 0.5, 0.25])
    assert readings.removal([p, p], [q, p]) == pytest.approx(0.5 * math.log(2) / 2)


# ------------------------------------------------------------------------------------------------------ compensation


def test_compensation_is_the_formula_of_the_page() -> None:
    w, b, x = drawn(4, 6), drawn(4), drawn(30, 6, seed=3) + 1
    other, kept = x + 0.1 * drawn(30, 6, seed=4), [0, 2, 3, 5]
    y, seen = x @ w.T, other[:, kept]
    a, c = seen.T @ seen / 30, y.T @ seen / 30
    ridge = 0.3 * np.mean(np.diag(a))
    wanted = w[:, kept] + (c - w[:, kept] @ a) @ np.linalg.inv(a + ridge * np.eye(4))
    v, bias = compensate(w, None, x, other, kept)
    assert bias is None
    np.testing.assert_allclose(v, wanted, rtol=1e-9)

    a, c = np.cov(seen.T, bias=True), (y - y.mean(0)).T @ (seen - seen.mean(0)) / 30
    ridge = 0.3 * np.mean(np.diag(a))
    assert ridge == pytest.approx(ridge_of(seen, centred=True))
    wanted = w[:, kept] + (c - w[:, kept] @ a) @ np.linalg.inv(a + ridge * np.eye(4))
    v, bias = compensate(w, b, x, other, kept)
    np.testing.assert_allclose(v, wanted, rtol=1e-9)
    assert bias is not None
    np.testing.assert_allclose(bias, b + y.mean(0) - wanted @ seen.mean(0), rtol=1e-9)


def test_compensation_by_hand() -> None:
    # x' = x, one of two equal columns kept: A = C / 2 = 5, ridge 1.5, V = 1 + (10 - 5) / 6.5
    x = np.array([[1.0, 1], [3, 3]])
    v, _ = compensate(np.array([[1.0, 1]]), None, x, x, [0])
    assert v == pytest.approx(np.array([[1 + 5 / 6.5]]))
    # centred: A = 1, C = 2, ridge 0.3, V = 1 + 1 / 1.3; y has mean 4, x' 2: bias 7 + 4 - 2 V
    v, bias = compensate(np.array([[1.0, 1]]), np.array([7.0]), x, x, [0])
    assert v == pytest.approx(np.array([[1 + 1 / 1.3]])) and bias == pytest.approx(np.array([7 + 4 - 2 - 2 / 1.3]))
    dead = np.array([[0.0, 1], [0, 3]])
    v, bias = compensate(np.array([[5.0, 1]]), np.array([7.0]), dead, dead, [0])
    assert v == 5 and bias == 9  # nothing to learn from but the mean of what went


def test_compensation_without_ridge_is_least_squares_and_without_pruning_nothing() -> None:
    w, x, other, kept = drawn(3, 5), drawn(40, 5, seed=5), drawn(40, 5, seed=6), [1, 2, 4]
    best = np.linalg.lstsq(other[:, kept], x @ w.T, rcond=None)[0].T
    np.testing.assert_allclose(compensate(w, None, x, other, kept, ridge_share=1e-12)[0], best, rtol=1e-8)
    v, bias = compensate(w, drawn(3), x, x, range(5))
    np.testing.assert_allclose(v, w, rtol=1e-12)
    np.testing.assert_allclose(bias, drawn(3), rtol=1e-9)


def test_compensation_on_the_same_inputs_is_the_joint_update_of_obs() -> None:
    """Up to the damping, which the score takes from all columns and the update from the kept ones."""
    w, x, gone, kept = drawn(3, 5), drawn(40, 5, seed=5), [0, 3], [1, 2, 4]
    ridge = ridge_of(x[:, kept], centred=False)
    inverse = np.linalg.inv(x.T @ x / 40 + ridge * np.eye(5))
    moved = w - w[:, gone] @ np.linalg.inv(inverse[np.ix_(gone, gone)]) @ inverse[gone]
    np.testing.assert_allclose(moved[:, gone], 0, atol=1e-12)
    np.testing.assert_allclose(compensate(w, None, x, x, kept)[0], moved[:, kept], rtol=1e-9)
