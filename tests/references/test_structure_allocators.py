"""Hand-computed cases and invariants of the references of normalisation, steps and allocation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from .structure_allocate import (
    ALLOCATORS,
    Site,
    channel_least,
    distortion,
    global_,
    head_alignment,
    leaving_order,
    lower_hull,
    module,
    normalised,
    slope,
    step_sizes,
    steps_of,
    uniform,
)


def site(
    layer: int, scores: list[float], *, kind: str = "mlp", saving: float = 1, align: int = 1, least: int = 1
) -> Site:
    """T of one sample are the scores themselves; no weights."""
    return Site(layer, kind, scores, saving, align, least, np.array([scores]), [0.0] * len(scores))


def random_sites(seed: int) -> list[Site]:
    rng = np.random.default_rng(seed)
    sites = []
    for layer in range(3):
        for kind, n, saving, align in (("heads", 5, 7.0, 2), ("mlp", 11, 1.5, 4)):
            least = 1 if kind == "heads" else channel_least(n, align)
            terms, squared = rng.normal(size=(4, n)), rng.random(n)
            sites.append(Site(layer, kind, rng.random(n).tolist(), saving, align, least, terms, squared.tolist()))
    return sites


# --------------------------------------------------------------------------------------------- normalisation, steps


def test_normalisations_by_hand() -> None:
    assert normalised([1, 3], "none") == [1, 3]
    assert normalised([1, 3], "layer") == [0.5, 1.5]
    assert normalised([0, 0], "layer") == normalised([0, 0], "module") == [1, 1]
    # 1 / 14, 9 / 9, 4 / 13; equal ones count each other
    assert normalised([1, 3, 2], "module") == [Fraction(1, 14), 1, Fraction(4, 13)]
    assert normalised([0, 2, 2], "module") == [0, 0.5, 0.5]


@pytest.mark.parametrize("name", ["none", "layer", "module"])
def test_normalisation_keeps_the_order(name: str) -> None:
    for seed in range(20):
        u = np.random.default_rng(seed).integers(0, 6, 12).astype(float).tolist()
        v = normalised(u, name)
        for a, b in itertools.permutations(range(12), 2):
            assert (v[a] < v[b]) == (u[a] < u[b])


def test_steps_by_hand() -> None:
    assert leaving_order([2, 1, 1, 0]) == [3, 2, 1, 0]
    assert step_sizes(11, 4, 4) == [3, 4]  # 11 -> 8 -> 4
    assert step_sizes(8, 4, 4) == [4]
    assert step_sizes(6, 4, 1) == [2]  # four groups or none: one alone is no multiple
    assert step_sizes(3, 4, channel_least(3, 4)) == step_sizes(4, 4, 4) == step_sizes(3, 4, 1) == []
    assert step_sizes(5, 1, 1) == [1, 1, 1, 1]
    assert steps_of(site(0, [5, 1, 2, 1, 9], align=2, least=2)) == [[3], [1, 2]]
    assert [head_alignment(lanes) for lanes in (64, 4, 12, 6, 3, 72)] == [1, 2, 2, 4, 8, 1]


# ------------------------------------------------------------------------------------------------------- allocators


def test_uniform_by_hand() -> None:
    sites = [site(0, [1, 2, 3, 4, 5, 6]), site(1, [6, 5, 4, 3], align=2, least=2)]
    # layer 0 loses units below f = 11/12, 9/12, 7/12, 5/12, 3/12; layer 1 two below f = 6/8; at 3/4 layer 0 gives first
    assert uniform(sites, 10, 10).cost == 10
    assert uniform(sites, 10, 9).kept == {(0, "mlp"): [1, 2, 3, 4, 5], (1, "mlp"): [0, 1, 2, 3]}
    assert uniform(sites, 10, 8).kept == {(0, "mlp"): [2, 3, 4, 5], (1, "mlp"): [0, 1, 2, 3]}
    for target in (7, 6):  # 8 and 6 are equally near to 7: the one that reaches it
        assert uniform(sites, 10, target).kept == {(0, "mlp"): [2, 3, 4, 5], (1, "mlp"): [0, 1]}
    assert uniform(sites, 10, 0).cost == 3


def test_global_by_hand() -> None:
    sites = [site(0, [1, 4, 2]), site(1, [3, 8], saving=4), site(1, [0.5, 0.5, 10, 10], kind="heads", align=2)]
    # ratios: layer 0: 1, 2 (unit 0, unit 2); layer 1: 3 / 4; heads: 1 / 2 -> heads 2, layer 1 4, layer 0 1, 1
    costs = [global_(sites, 20, target).cost for target in (20, 19.5, 19, 18.5, 18, 17, 16, 15, 14, 13, 12.5, 12, 0)]
    #        20: nothing; 19.5: 20 is nearer than 18; 19: equally near, so with the step; 16: 18 and 14 equally near
    assert costs == [20, 20, 18, 18, 18, 18, 14, 14, 14, 13, 12, 12, 12]
    assert global_(sites, 20, 13).kept == {(0, "mlp"): [1, 2], (1, "mlp"): [1], (1, "heads"): [2, 3]}


def test_module_by_hand() -> None:
    heads = site(0, [1, 1, 1], kind="heads", saving=10)
    sites = [heads, site(0, [5, 6, 7, 8, 9])]
    # heads could save 20, channels 4. To save 12 of them: half of each, 10 and 2
    assert module(sites, 100, 88).kept == {(0, "heads"): [0, 1], (0, "mlp"): [2, 3, 4]}
    assert global_(sites, 100, 88).kept == {(0, "heads"): [0, 1], (0, "mlp"): [0, 1, 2, 3, 4]}
    # to save 18: 15 and 3; heads: 10 and 20 equally near -> 20
    assert module(sites, 100, 82).cost == 77
    assert module(sites, 100, 100).cost == 100 and module(sites, 100, 0).cost == 76


def test_distortion_and_hull_by_hand() -> None:
    terms = np.array([[1.0, 2, -3], [0, 1, 1]])
    one = Site(0, "mlp", [1, 2, 3], 1, 1, 1, terms, [2.0, 0, 0])
    # C = (3, 1): mean square 5; 5 + 0.5 (5 + 2e-7)
    assert distortion(one, [0, 1]) == pytest.approx(7.5 + 1e-7, rel=1e-12)
    assert distortion(one, []) == 0
    points = [(Fraction(x), Fraction(y)) for x, y in ((0, 0), (1, 3), (2, 2), (3, 3), (4, 9))]
    assert lower_hull(points) == [0, 3, 4]  # (2, 2) lies on the line from (0, 0) to (3, 3)


def test_slope_by_hand() -> None:
    # one sample, D = 1.5 (sum of T)^2; unit 0 and 1 of layer 0 cancel: D = 0 1.5 0 -> one edge of slope 0 over two steps
    first = Site(0, "mlp", [1, 2, 3], 1, 1, 1, np.array([[1.0, -1, 0]]), [0.0] * 3)
    second = Site(1, "mlp", [1, 2, 3], 1, 1, 1, np.array([[1.0, 1, 0]]), [0.0] * 3)  # D = 0 1.5 6
    sites = [second, first]
    assert slope(sites, 6, 5).kept == {(0, "mlp"): [1, 2], (1, "mlp"): [0, 1, 2]}
    assert slope(sites, 6, 4).kept == slope(sites, 6, 4.5).kept == {(0, "mlp"): [2], (1, "mlp"): [0, 1, 2]}
    assert slope(sites, 6, 5, whole_edges=True).cost == 4  # 6 and 4 equally near
    assert slope(sites, 6, 5.5, whole_edges=True).cost == 6
    assert slope(sites, 6, 3).kept == {(0, "mlp"): [2], (1, "mlp"): [1, 2]}


def test_equal_slope_is_the_least_distortion_on_convex_curves() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sites = [site(layer, np.sort(rng.random(5)).tolist()) for layer in range(3)]  # C grows ever faster
        for saved in range(1, 12):
            found = slope(sites, 15, 15 - saved)
            assert found.cost == 15 - saved
            gone = [[j for j in range(5) if j not in found.kept[s.layer, s.kind]] for s in sites]
            reached = sum(distortion(s, g) for s, g in zip(sites, gone, strict=True))
            best = min(
                sum(distortion(s, range(k)) for s, k in zip(sites, counts, strict=True))
                for counts in itertools.product(range(5), repeat=3)
                if sum(counts) == saved
            )
            assert reached == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("name", ALLOCATORS)
def test_what_holds_for_every_allocator(name: str) -> None:
    for seed in range(4):
        sites = random_sites(seed)
        total = 10 + math.fsum(s.saving * len(s.scores) for s in sites)
        least = total - math.fsum(s.saving * sum(map(len, steps_of(s))) for s in sites)
        largest = max(s.saving * max(map(len, steps_of(s))) for s in sites)
        before: dict[tuple[int, str], list[int]] = {}
        for target in np.linspace(least, total, 25).tolist():
            found = ALLOCATORS[name](sites, total, target)
            assert found.cost == pytest.approx(
                10 + math.fsum(s.saving * len(found.kept[s.layer, s.kind]) for s in sites)
            )
            for s in sites:
                kept = found.kept[s.layer, s.kind]
                lost = [j for j in range(len(s.scores)) if j not in kept]
                assert len(kept) >= s.least and (len(kept) == len(s.scores) or len(kept) % s.align == 0)
                assert all(s.scores[a] < s.scores[b] for a in lost for b in kept)
                assert set(before.get((s.layer, s.kind), [])) <= set(
                    kept
                )  # a higher target keeps what a lower one kept
            before = found.kept
            # half a step; `module` may be off by half a step in both of its rankings
            assert abs(found.cost - target) <= largest * (1 if name == "module" else 0.5) + 1e-9
