"""Normalisations, steps and allocations are what exact fractions come to, on random layers with ties."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.errors import PlanError
from edgeprune.structure.allocate import (
    ALLOCATIONS,
    SiteCandidate,
    allocate,
    distortion,
    energies,
    kept_units,
)
from edgeprune.structure.normalise import NORMALISATIONS
from edgeprune.structure.steps import alignment, removal_order
from tests.references import structure_allocate as reference

pytestmark = pytest.mark.slow

CASES = 300  # per allocation
Sites = tuple[list[SiteCandidate], list[reference.Site]]


def ties(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Small integers: equal scores are common, sums are exact, zeros occur."""
    return random.integers(0, 6, shape).astype(np.float64)


def made(random: np.random.Generator, normalise: str = "none", *, exact: bool = True) -> Sites:
    """Random layers as the product and as the references take them, in the order of a forward pass."""
    saving = {"heads": float(random.integers(1, 40)), "mlp": float(random.integers(1, 9))}
    channels, width = int(random.choice((1, 2, 3, 4, 8))), int(random.choice((1, 2, 3, 4, 8, 16)))
    candidates, sites = [], []
    for layer in range(int(random.integers(1, 5))):
        for kind in ("heads", "mlp"):
            units = int(random.integers(1, 9 if kind == "heads" else 30))
            step = alignment(kind, channels, width)  # type: ignore[arg-type]
            scores = ties(random, units) if exact else random.random(units)
            terms = ties(random, 3, units) - 3 if exact else random.normal(size=(3, units))
            squared = ties(random, units)
            order = removal_order("tower", layer, kind, torch.from_numpy(scores), step)  # type: ignore[arg-type]
            values = NORMALISATIONS.get(normalise)(torch.from_numpy(scores))
            candidates.append(
                SiteCandidate(order, values, saving[kind], torch.from_numpy(terms), torch.from_numpy(squared))
            )
            least = min(step, units)
            site = reference.Site(layer, kind, scores.tolist(), saving[kind], step, least, terms, squared.tolist())
            sites.append(site)
    return candidates, sites


def targets(random: np.random.Generator, candidates: list[SiteCandidate]) -> tuple[float, float]:
    """(size, wanted size): often nothing or everything that may leave, or half a step."""
    size = float(sum(len(candidate.scores) * candidate.saving for candidate in candidates))
    most = sum(sum(candidate.savings()) for candidate in candidates)
    needed = random.choice((0, most, random.integers(0, int(most) + 1), random.integers(0, int(2 * most) + 1) / 2))
    return size, size - float(needed)


def chosen(name: str, candidates: list[SiteCandidate], needed: float) -> dict[tuple[int, str], list[int]]:
    taken = allocate(ALLOCATIONS[name], candidates, needed)
    return {(block, kind): list(units) for (_, block, kind), units in kept_units(candidates, taken).items()}


def same_order(candidates: list[SiteCandidate], name: str) -> bool:
    """Whether steps of different layers are apart by more than rounding, so that float64 sees the order of exact fractions."""
    keys = np.sort(np.concatenate([ALLOCATIONS[name].key(candidate) for candidate in candidates]))
    gaps = np.diff(keys)
    return bool(((gaps == 0) | (gaps > 1e-12 * (1 + np.abs(keys[1:])))).all())


@pytest.mark.parametrize("name", ["uniform", "global", "module", "slope"])
def test_an_allocation_of_layers_with_ties_equals_the_reference(name: str) -> None:
    compared = moved = 0
    for seed in range(CASES):
        random = np.random.default_rng(seed)
        candidates, sites = made(random)
        size, wanted = targets(random, candidates)
        if not same_order(candidates, name):
            continue
        found, expected = chosen(name, candidates, size - wanted), reference.ALLOCATORS[name](sites, size, wanted)
        assert found == expected.kept, f"seed {seed}"
        compared, moved = compared + 1, moved + (expected.cost < size)
    assert compared >= 0.9 * CASES and moved > CASES // 3


@pytest.mark.parametrize("normalise", ["layer", "module"])
@pytest.mark.parametrize("name", ["global", "module"])
def test_an_allocation_by_normalised_scores_equals_the_reference(name: str, normalise: str) -> None:
    for seed in range(CASES):
        random = np.random.default_rng(seed + 10_000)
        candidates, sites = made(random, normalise, exact=False)
        size, wanted = targets(random, candidates)
        expected = reference.ALLOCATORS[name](sites, size, wanted, normalise)
        assert chosen(name, candidates, size - wanted) == expected.kept, f"seed {seed}"


@pytest.mark.parametrize("name", ["uniform", "slope"])
def test_an_allocation_of_layers_without_ties_equals_the_reference(name: str) -> None:
    for seed in range(CASES):
        random = np.random.default_rng(seed + 20_000)
        candidates, sites = made(random, exact=False)
        size, wanted = targets(random, candidates)
        assert chosen(name, candidates, size - wanted) == reference.ALLOCATORS[name](sites, size, wanted).kept, (
            f"seed {seed}"
        )


@pytest.mark.parametrize("name", sorted(ALLOCATIONS))
def test_the_result_is_within_half_a_step_of_the_target(name: str) -> None:
    for seed in range(CASES):
        random = np.random.default_rng(seed + 30_000)
        candidates, _ = made(random, exact=False)
        size, wanted = targets(random, candidates)
        kept = chosen(name, candidates, size - wanted)
        reached = sum(len(kept[r.removal.block, r.removal.kind]) * r.saving for r in candidates)
        largest = {
            kind: max((saving for r in candidates if r.removal.kind == kind for saving in r.savings()), default=0.0)
            for kind in ("heads", "mlp")
        }
        half = sum(largest.values()) / 2 if name == "module" else max(largest.values()) / 2
        assert abs(reached - wanted) <= half + 1e-9


@pytest.mark.parametrize("name", sorted(ALLOCATIONS))
def test_what_cannot_be_saved_is_refused_and_all_of_it_can_be(name: str) -> None:
    for seed in range(30):
        candidates, _ = made(np.random.default_rng(seed), exact=False)
        most = sum(sum(candidate.savings()) for candidate in candidates)
        for needed in (most + 1, 2 * most + 1e-3):
            with pytest.raises(PlanError, match="all that may leave"):
                allocate(ALLOCATIONS[name], candidates, needed)
        assert allocate(ALLOCATIONS[name], candidates, most) == [
            len(candidate.removal.counts) - 1 for candidate in candidates
        ]
        for nothing in (0, -1, -most):
            assert allocate(ALLOCATIONS[name], candidates, nothing) == [0] * len(candidates)


def test_normalisations_equal_the_reference() -> None:
    for seed in range(CASES):
        random = np.random.default_rng(seed)
        units = int(random.integers(1, 30))
        scores = np.zeros(units) if seed % 20 == 0 else ties(random, units) if seed % 2 else random.random(units)
        for name in NORMALISATIONS:
            found = NORMALISATIONS.get(name)(torch.from_numpy(scores))
            wanted = [float(value) for value in reference.normalised(scores.tolist(), name)]
            assert found.dtype == torch.float64
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


def test_an_unknown_normalisation_is_refused_with_those_there_are() -> None:
    with pytest.raises(PlanError, match="'modul'.*none, layer, module"):
        NORMALISATIONS.get("modul")


def test_ladders_equal_the_reference() -> None:
    for seed in range(CASES):
        random = np.random.default_rng(seed)
        units, step = int(random.integers(1, 40)), int(random.integers(1, 12))
        scores = ties(random, units)
        found = removal_order("language", 3, "mlp", torch.from_numpy(scores), step)
        site = reference.Site(3, "mlp", scores.tolist(), 1.0, step, reference.channel_least(units, step))
        steps = reference.steps_of(site)
        assert [list(found.order[a:b]) for a, b in zip(found.counts, found.counts[1:], strict=False)] == steps
        for taken in range(len(steps) + 1):
            gone = {unit for one in steps[:taken] for unit in one}
            assert found.kept(taken) == tuple(unit for unit in range(units) if unit not in gone)
            assert (units - len(gone)) % step == 0 or not gone
        values = torch.from_numpy(ties(random, 2, units))
        sums = [[float(sum(row[unit] for unit in one)) for one in steps] for row in values]
        assert found.sums(values).tolist() == sums


def test_heads_leave_together_in_multiples_of_eight_lanes() -> None:
    for lanes in range(1, 200):
        assert alignment("heads", 64, lanes) == reference.head_alignment(lanes)
        assert alignment("mlp", 64, lanes) == 64


def test_distortion_equals_the_reference() -> None:
    for seed in range(50):
        candidates, sites = made(np.random.default_rng(seed), exact=False)
        for candidate, site in zip(candidates, sites, strict=True):
            order, counts = candidate.removal.order, candidate.removal.counts
            wanted = [reference.distortion(site, order[:count]) for count in counts[1:]]
            np.testing.assert_allclose(distortion(candidate).numpy(), wanted, rtol=1e-9, atol=1e-15)


def test_the_energy_of_a_unit_is_that_of_its_columns() -> None:
    weight: Tensor = torch.arange(12.0).reshape(2, 6)
    wanted = [sum(float(weight[r, c]) ** 2 for r in range(2) for c in (2 * u, 2 * u + 1)) for u in range(3)]
    assert energies(weight, 3).tolist() == wanted
    assert sum(map(Fraction, wanted)) == sum(i * i for i in range(12))
