"""What every method inside the language model promises, whichever it is: over the whole registry."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.recycling import recycled_of, standing
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, going_on
from edgeprune_runtime.stages.recycled import recycled
from tests.tokens.test_inside_methods import SIZE, Drawn, counts, drawn

NAMES = [name for name in INSIDE if isinstance(INSIDE[name], LanguageCut)]
NEURONS = 24
SEEDS = range(4)


def cut_of(name: str) -> LanguageCut:
    cut = INSIDE[name]
    assert isinstance(cut, LanguageCut)
    return cut


def given(name: str, case: Drawn, count: int, seed: int) -> LanguageRows:
    """All that any method reads, as it is drawn."""
    noise = np.random.default_rng(seed)
    more = {
        "changed": torch.from_numpy(noise.random(SIZE, np.float32)),
        "active": torch.from_numpy(noise.standard_normal((SIZE, NEURONS), np.float32)),
    }
    return case.rows(case.asking if cut_of(name).asking == "question" else [case.n - 1], count, **more)


def listed(name: str, rows: LanguageRows) -> list[int]:
    chosen = going_on(cut_of(name).rank(rows, {}), rows, SIZE)
    return chosen.rows[: int(chosen.n)].tolist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_all_other_rows_and_exactly_so_many_visual_ones_go_on_in_their_order(name: str, seed: int) -> None:
    case = drawn(seed)
    for count in (0,) if cut_of(name).nobody else counts(case):
        rows = given(name, case, count, seed)
        score = cut_of(name).rank(rows, {})
        assert torch.isfinite(score[rows.visual]).all()
        found = listed(name, rows)
        assert found == sorted(set(found)) and len(found) == case.n - len(case.visual) + count
        assert {row for row in range(case.n) if row not in case.visual} <= set(found)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_what_lies_behind_the_prompt_decides_nothing(name: str, seed: int) -> None:
    case = drawn(seed)
    rows = given(name, case, len(case.visual) // 2, seed)
    noise = torch.from_numpy(np.random.default_rng(99).standard_normal(SIZE).astype(np.float32)) * 1e4
    other = {}
    for kind, value in rows.readings.items():
        if len(value) != SIZE or value.dtype != torch.float32 or kind == "query":
            continue
        shape = (SIZE,) + (1,) * (value.dim() - 1)
        other[kind] = torch.where((torch.arange(SIZE) < case.n).reshape(shape), value, noise.reshape(shape))
    changed = dataclasses.replace(rows, readings={**rows.readings, **other})
    assert listed(name, changed) == listed(name, rows)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "uniform-rows"])
def test_fewer_are_some_of_those_that_are_more(name: str) -> None:
    case = drawn(1)
    before: set[int] = set()
    for count in counts(case):
        found = set(listed(name, given(name, case, count, 1)))
        assert before <= found
        before = found


@pytest.mark.parametrize("name", [name for name in NAMES if cut_of(name).recycles({})])
def test_rows_that_stand_for_others_are_besides_the_count(name: str) -> None:
    case = drawn(2)
    states = torch.from_numpy(case.embeds)
    for count in counts(case):
        rows = given(name, case, count, 2)
        score = cut_of(name).rank(rows, {})
        means = recycled_of(states, score, rows)
        chosen = going_on(score, rows, SIZE, standing(means, SIZE) >= 0)
        assert int(chosen.n) == case.n - len(case.visual) + count + recycled(len(case.visual) - count)
        weights = means.weights[: int(means.number)]
        assert (weights >= 0).all() and (weights.sum(dim=1) < 1).all() and (weights[:, ~rows.visual] == 0).all()
