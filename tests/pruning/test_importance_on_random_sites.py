"""Every importance on random layers: shared heads, odd sizes, ties and zeros, against plain loops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.structure.importance import IMPORTANCES
from edgeprune.structure.sites import PruningSite
from edgeprune.structure.statistics import SiteStatistics, StatisticsCollector, core_sets
from tests.pruning.made import array
from tests.references import structure_importance as reference
from tests.references import structure_readings as readings

SEEDS = range(40)


@dataclass(frozen=True)
class Case:
    """A site that has heard a few samples, and what it heard."""

    site: PruningSite
    queries: int
    x: list[np.ndarray]
    grad: list[np.ndarray]
    gate: np.ndarray
    rows: list[np.ndarray]
    visual: list[set[int]]
    stats: SiteStatistics

    @property
    def columns(self) -> list[list[int]]:
        width = self.site.width
        return [list(range(u * width, (u + 1) * width)) for u in range(self.site.units)]


def drawn(random: np.random.Generator, *shape: int) -> torch.Tensor:
    """Numbers of which many are equal and many are zero: quarters from -1 to 1."""
    return torch.from_numpy(random.integers(-4, 5, shape).astype(np.float32) / 4)


def linear(random: np.random.Generator, inputs: int, outputs: int, bias: bool) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    layer.weight.data = drawn(random, outputs, inputs)
    if bias:
        layer.bias.data = drawn(random, outputs)
    return layer


def case(seed: int, kind: str) -> Case:
    random = np.random.default_rng(seed)
    hidden, units, samples = int(random.integers(3, 8)), int(random.integers(1, 7)), int(random.integers(1, 4))
    width, queries = int(random.integers(1, 4)), 1 + seed % 3
    bias = bool(seed % 2)
    if kind == "heads":
        lanes = units * queries * width
        outputs = (lanes, units * width, units * width)
    else:
        width, queries, lanes = 1, 1, units
        outputs = (units,) * (1 + seed // 2 % 2)
    inner = tuple(linear(random, hidden, rows, bias) for rows in outputs)
    site = PruningSite(
        "language", 0, "heads" if kind == "heads" else "mlp", units, inner, linear(random, lanes, hidden, bias)
    )
    everything = ("inputs", "moments", "gradients", "core")
    act = torch.nn.functional.silu
    collector = StatisticsCollector((site,), {"language": width}, everything, {"language": act})  # type: ignore[arg-type]
    x, grads, gates, rows, visual = [], [], [], [], []
    for _ in range(samples):
        tokens = int(random.integers(2, 6))
        one, weight, hear = (
            drawn(random, 1, tokens, lanes),
            drawn(random, tokens, hidden),
            drawn(random, tokens, hidden),
        )
        one.requires_grad_(True)
        with collector.collecting(nn.Module(), 1):
            if kind == "mlp":
                gates.append(array(act(inner[0](hear))))
            (site.out(one)[0] * weight).sum().backward()
            collector.after_backward()
        x.append(array(one[0]))
        grads.append(array(weight @ site.out.weight))
        rows.append(random.dirichlet(np.ones(6), units * queries))
        visual.append({1, 2})
    stats = collector.statistics.of(site)
    stats.visual += [torch.from_numpy(one[:, 1:3].sum(1) / np.delete(one, (1, 2), 1).sum(1)) for one in rows]
    gate = np.concatenate(gates) if gates else np.zeros(())
    return Case(site, queries, x, grads, gate, rows, visual, stats)


def expected(name: str, c: Case) -> list[float]:
    x, out, units = np.concatenate(c.x), array(c.site.out.weight), c.site.units
    heads = c.site.kind == "heads"
    w = [array(layer.weight) for layer in c.site.inner]
    b = [None if layer.bias is None else array(layer.bias) for layer in c.site.inner]
    if name == "magnitude" and heads:
        return reference.magnitude_heads(w[0], w[1], w[2], out, b[0], b[1], b[2], units)
    if name == "magnitude":
        return reference.magnitude_channels(w, b, out)
    if name == "dimap":
        return reference.dimap_heads(w[0], w[1], w[2], out, units) if heads else reference.dimap_channels(w, out)
    if name == "taylor":
        return reference.taylor(c.x, c.grad, c.columns)
    if name == "obs":
        return reference.obs_by_refit(out, x, c.columns)
    if name == "amp" or (name == "core" and heads):
        return reference.amp_heads(out, x, units, c.queries) if heads else reference.amp_channels(x)
    if name == "core":
        return readings.core_channels(c.gate)
    if name == "yopo" and heads:
        return readings.yopo_heads(c.rows, c.visual, units)
    assert name in ("activation", "yopo"), "a new importance needs a reference"
    return reference.activation(out, x, c.columns)


@pytest.mark.parametrize("kind", ["heads", "mlp"])
@pytest.mark.parametrize("name", [name for name in IMPORTANCES if name != "random"])
def test_an_importance_of_random_layers_equals_its_reference(name: str, kind: str) -> None:
    compared = 0
    for seed in SEEDS:
        c = case(seed, kind)
        scores, wanted = IMPORTANCES[name].score(c.site, c.stats, 0).numpy(), np.asarray(expected(name, c))
        np.testing.assert_allclose(scores, wanted, rtol=1e-6, atol=1e-9 * max(1.0, float(wanted.max())))
        assert scores.dtype == np.float64 and (scores >= 0).all()
        compared += bool(wanted.any())
    assert compared > len(SEEDS) // 2


@pytest.mark.parametrize("name", [name for name in IMPORTANCES if name != "yopo"])
def test_layers_of_zeros_that_hear_zeros_have_finite_scores(name: str) -> None:
    """A dead layer gives 0 everywhere, so that it leaves first; the control knows nothing of it."""
    c = case(4, "mlp")
    for layer in (*c.site.inner, c.site.out):
        layer.weight.data.zero_()
        if layer.bias is not None:
            layer.bias.data.zero_()
    size = c.site.units
    stats = SiteStatistics(5, *(torch.zeros(size, dtype=torch.float64) for _ in range(3)))
    stats.moment, stats.core = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    stats.taylor = [torch.zeros(size, dtype=torch.float64)]
    scores = IMPORTANCES[name].score(c.site, stats, 0)
    assert bool(torch.isfinite(scores).all())
    assert name == "random" or not bool(scores.any())


def test_core_sets_equal_the_reference_with_ties_and_without_anything_positive() -> None:
    for seed in range(200):
        random = np.random.default_rng(seed)
        z = drawn(random, 6, int(random.integers(1, 40)))
        found = core_sets(z)
        for row, members in zip(z.tolist(), found, strict=True):
            assert set(torch.nonzero(members).flatten().tolist()) == readings.core_set(row)
    assert not core_sets(-torch.ones(2, 3)).any()
