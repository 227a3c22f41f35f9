"""A tower without a class token has maps of N rows; methods look at the last N rows, or at the mean over all there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.plan import MethodPlan
from edgeprune.tokens.methods import METHODS
from tests.tokens.pictures import FEATURE, LAST, by_layer, changed, full_case

PLAN = MethodPlan(feature_layer=FEATURE, last_layer=LAST)


@pytest.mark.parametrize("method", ["fopru", "fopru-row", "vflowopt"])
@pytest.mark.parametrize("seed", range(30))
def test_what_counts_attention_between_patches_does_not_look_at_the_class_row(method: str, seed: int) -> None:
    case = full_case(np.random.default_rng(seed), patches=3)
    without = {layer: value[:, 1:] for layer, value in by_layer(case.outputs, "map").items()}
    ours = METHODS[method].reduce(changed(case.outputs, map=without), case.keep, PLAN)
    assert torch.equal(ours.index, METHODS[method].reduce(case.outputs, case.keep, PLAN).index)


@pytest.mark.parametrize("seed", range(30))
def test_hiprune_means_over_the_queries_that_there_are(seed: int) -> None:
    """A class row that repeats the mean of the others changes no mean (of 16 rows: nothing is rounded), and so no choice."""
    case = full_case(np.random.default_rng(seed), patches=4, exact=True)
    without = {layer: value[:, 1:] for layer, value in by_layer(case.outputs, "map").items()}
    repeated = {layer: torch.cat([value.mean(dim=1, keepdim=True), value], dim=1) for layer, value in without.items()}
    one, other = (
        METHODS["hiprune"].reduce(changed(case.outputs, map=maps), case.keep, PLAN).index
        for maps in (without, repeated)
    )
    assert torch.equal(one, other)
