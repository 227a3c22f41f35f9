"""HiRED and the controls choose what an independent reference in exact arithmetic chooses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine
from edgeprune.tokens.methods import CONTROLS, METHODS
from edgeprune.tokens.readings import Reads, Reduction, reads
from tests.references import selection as reference
from tests.tokens.layouts import KINDS
from tests.tokens.pictures import EARLY, LATE, Case, dyadic_case, float_case

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
CASES = 105  # per seed; ten seeds


def reduced(name: str, case: Case, **fields: float) -> Reduction:
    plan = MethodPlan(feature_layer=LATE, settings={"early_layer": EARLY, **fields})
    return METHODS[name].reduce(case.outputs, case.keep, plan)


def kept(reduction: Reduction, case: Case) -> list[int]:
    """Indices without the -1 at the end, after a check of everything that holds for every method."""
    index = reduction.index
    assert index.shape == (case.keep,) and index.dtype == torch.int64
    found = index.tolist()
    count = min(case.keep, case.candidates)
    assert all(i >= 0 for i in found[:count]) and found[count:] == [-1] * (case.keep - count)
    slots = case.slot.reshape(-1)[found[:count]]
    assert (slots >= 0).all(), "padding is never kept"
    assert (np.diff(slots) > 0).all(), "ascending by slot"
    return found[:count]


@pytest.mark.parametrize("seed", range(10))
def test_hired_equals_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for i in range(CASES):
        case, alpha = dyadic_case(rng, 3 if i % 3 else 4, ("mosaic", "last")[i % 2]), ALPHAS[i % len(ALPHAS)]
        expected = reference.hired(case.early, case.feature, case.slot, case.region, case.keep, alpha)
        assert kept(reduced("hired", case, alpha=alpha), case) == expected


def priority(case: Case, alpha: float) -> dict[int, Fraction]:
    """Exact priority of every candidate: the share of its tile over its rank + 1/2."""
    weights = reference.tile_weights(reference.content_mass(case.early, case.region), alpha)
    ranked = reference.ranked_candidates(case.feature, case.slot)
    return {
        index: weight / (rank + Fraction(1, 2))
        for tile, weight in zip(ranked, weights, strict=True)
        for rank, index in enumerate(tile)
    }


def test_hired_on_softmax_attention_differs_from_the_reference_by_rounding_only() -> None:
    rng = np.random.default_rng(99)
    same = 0
    for i in range(200):
        case, alpha = float_case(rng, 3), (0.1, 0.3, 0.5, 0.7)[i % 4]
        ours = set(kept(reduced("hired", case, alpha=alpha), case))
        theirs = set(reference.hired(case.early, case.feature, case.slot, case.region, case.keep, alpha))
        same += ours == theirs
        if ours != theirs:
            keys = priority(case, alpha)
            swapped = [float(keys[index]) for index in ours ^ theirs]
            assert max(swapped) - min(swapped) <= 1e-5 * max(swapped)
    assert same >= 195


@pytest.mark.parametrize("seed", range(10))
def test_uniform_equals_the_reference(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    for i in range(CASES):
        case = dyadic_case(rng, 3 if i % 3 else 4, KINDS[i % len(KINDS)])
        expected = reference.uniform(case.slot, case.keep)
        assert kept(reduced("uniform", case), case) == expected
        assert kept(reduced("full", case), case) == expected


@pytest.mark.parametrize("seed", range(10))
def test_random_equals_the_reference_for_its_seed(seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    for i in range(CASES):
        case = dyadic_case(rng, 3 if i % 3 else 4, KINDS[i % len(KINDS)])
        noise = np.random.default_rng(i).random(case.slot.shape, dtype=np.float32)
        assert kept(reduced("random", case, seed=i), case) == reference.random_by_scores(noise, case.slot, case.keep)


def require_means(case: Case, groups: list[list[int]]) -> None:
    """downsample keeps the first token of every group in the prompt, and averages the group."""
    reduction = reduced("downsample", case)
    first = [min(group, key=lambda index: int(case.slot.flat[index])) for group in groups]
    assert kept(reduction, case) == first
    assert reduction.transform is not None
    expected = np.zeros((case.keep, case.slot.size), np.float32)
    for row, group in enumerate(groups):
        expected[row, group] = np.float32(1) / np.float32(len(group))
    np.testing.assert_allclose(reduction.transform.numpy(), expected, rtol=1e-6)
    rows = case.outputs.features.numpy().reshape(case.slot.size, -1)
    means = [rows[group].astype(np.float64).mean(axis=0) for group in groups]
    np.testing.assert_allclose(combine.apply(case.outputs, reduction).numpy()[: len(groups)], means, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_downsample_averages_the_cells_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng(300 + seed)
    for i in range(CASES):
        side = 3 if i % 3 else 4
        case = dyadic_case(rng, side)
        require_means(case, reference.downsample(case.slot, case.layout.canvas, side, case.keep))


@pytest.mark.parametrize("kind", ["last", "bare"])
@pytest.mark.parametrize("seed", range(5))
def test_downsample_averages_the_cells_of_the_reference_where_tiles_stand_one_after_another(
    seed: int, kind: str
) -> None:
    rng = np.random.default_rng(400 + seed)
    for i in range(CASES):
        side = 3 if i % 3 else 4
        case = dyadic_case(rng, side, kind)
        grid, whole = case.layout.grid, case.layout.whole
        assert grid is not None and whole == (kind == "last")
        require_means(case, reference.downsample_tiles(case.slot, grid, side, case.keep, whole))


def test_random_keeps_other_tokens_for_another_seed() -> None:
    case = replace(dyadic_case(np.random.default_rng(1), 4), keep=20)
    assert len({tuple(reduced("random", case, seed=seed).index.tolist()) for seed in range(5)}) == 5


def test_hired_ignores_what_lies_in_padding() -> None:
    rng = np.random.default_rng(11)
    for _ in range(30):
        case = float_case(rng, 3)
        before = reduced("hired", case).index
        padding = case.outputs.slot < 0
        for layer in (EARLY, LATE):
            case.outputs["attention", layer].transpose(0, 1)[:, padding] = 1e6
        assert torch.equal(reduced("hired", case).index, before)


def test_the_registry_knows_hired_its_controls_and_the_whole() -> None:
    assert {*CONTROLS, "hired", "full"} <= set(METHODS)
    assert METHODS["hired"].reads(MethodPlan(feature_layer=5, settings={"early_layer": 2})) == reads(
        "overview", attention=(2, 5)
    )
    assert all(METHODS[name].reads(MethodPlan()) == Reads() for name in CONTROLS)
    assert all(METHODS[name].summary and METHODS[name].source for name in METHODS)
