"""Rankings inside the language model against independent references (tests/references/inside_language): the same rows stay, ties included."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.errors import PlanError
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.recycling import recycled_of, standing
from edgeprune.tokens.inside.rows import (
    LanguageCut,
    LanguageRows,
    changes,
    going_on,
    summed_changes,
    turned_back,
)
from edgeprune.tokens.inside.sigmoid import sigmoid_counts
from edgeprune_runtime.stages.recycled import recycled
from edgeprune_runtime.stages.rows import evenly
from tests.references.inside_language import (
    corematching,
    early_lists,
    last_row,
    mustdrop,
    schedules,
    sparsevlm,
    transprune,
)
from tests.references.inside_language.attention import angles_of, plain_frequencies, question_attention, turned
from tests.references.inside_language.rows import by_encoder, kept

SIZE, HEADS, GROUPS, WIDTH, HIDDEN = 48, 4, 2, 8, 12


@dataclass(frozen=True, eq=False)
class Drawn:
    """A prompt of n rows in buffers of SIZE: text, a picture, a question; garbage behind it."""

    n: int
    visual: list[int]
    asking: list[int]
    query: np.ndarray  # [SIZE, H, d]
    key: np.ndarray  # [SIZE, G, d]
    value: np.ndarray
    salience: np.ndarray
    places: np.ndarray
    embeds: np.ndarray

    @property
    def keys(self) -> np.ndarray:
        return self.key.transpose(1, 0, 2)

    def rows(self, asking: list[int], count: int, first: bool = True, **more: torch.Tensor) -> LanguageRows:
        """What a ranking is given; two places of the bucket of asking rows are not in use."""
        numbers = torch.arange(SIZE)
        visual = torch.isin(numbers, torch.tensor(self.visual))
        spare = [] if len(asking) == 1 else [self.n - 1] * 2
        weight = torch.tensor([1 / len(asking)] * len(asking) + [0.0] * len(spare))
        bucket = torch.tensor(asking + spare)
        readings = {
            "query": torch.from_numpy(self.query)[bucket],
            "key": torch.from_numpy(self.key),
            "value": torch.from_numpy(self.value),
            "salience": torch.from_numpy(self.salience),
            "places": torch.from_numpy(self.places),
            "embeds": torch.from_numpy(self.embeds),
        }
        present = numbers < self.n
        return LanguageRows(
            visual, present, torch.tensor(count), bucket, weight, readings | more, numbers, visual, first
        )


def drawn(seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    before, picture, after = int(rng.integers(1, 5)), int(rng.integers(6, 30)), int(rng.integers(1, 8))
    n = before + picture + after
    visual = [before + i for i in range(picture) if i % 7 != 6]  # newlines between them stay
    places = np.full((SIZE, 2), -1)
    places[visual] = [(i // 5, i % 5) for i in range(len(visual))]

    def noise(*shape: int) -> Any:
        found = rng.standard_normal((SIZE, *shape)).astype(np.float32)
        found[n:] *= 1e3
        return found

    salience = rng.integers(0, 5, SIZE).astype(np.float32) / 8  # ties
    drawn_rows = [noise(heads, WIDTH) for heads in (HEADS, GROUPS, GROUPS)]
    return Drawn(n, visual, list(range(before + picture, n)), *drawn_rows, salience, places, noise(HIDDEN))


def stayed(name: str, rows: LanguageRows, case: Drawn, **settings: float) -> list[int]:
    cut = INSIDE[name]
    assert isinstance(cut, LanguageCut)
    chosen = going_on(cut.rank(rows, settings), rows, SIZE)
    return sorted(set(chosen.rows.tolist()) & set(case.visual))


SEEDS = pytest.mark.parametrize("seed", range(12))


def counts(case: Drawn) -> list[int]:
    return sorted({0, 1, len(case.visual) // 3, len(case.visual) - 1, len(case.visual)})


@SEEDS
@pytest.mark.parametrize("name", ["fastv", "pdrop", "lvlm-csp"])
def test_the_last_rows_attention(seed: int, name: str) -> None:
    case = drawn(seed)
    order = last_row.fastv(case.query[case.n - 1].reshape(-1), case.keys, case.n, case.visual)
    for count in counts(case):
        assert stayed(name, case.rows([case.n - 1], count), case) == kept(order, count)


@SEEDS
@pytest.mark.parametrize("first", [True, False])
def test_feather_turns_back_and_keeps_a_grid_at_the_first_cut(seed: int, first: bool) -> None:
    case = drawn(seed)
    angles = angles_of(range(3, SIZE + 3), plain_frequencies(WIDTH))
    cos, sin = (torch.from_numpy(part(angles).astype(np.float32)) for part in (np.cos, np.sin))
    query = turned(case.query.transpose(1, 0, 2), angles).transpose(1, 0, 2).astype(np.float32)
    key = turned(case.keys, angles).transpose(1, 0, 2).astype(np.float32)
    last = case.n - 1
    given = {
        "query": turned_back(torch.from_numpy(query)[[last]], cos[[last]], sin[[last]]),
        "key": turned_back(torch.from_numpy(key), cos, sin),
    }
    score = last_row.feather_scores(query[last].reshape(-1), angles[last], key.transpose(1, 0, 2), angles, case.visual)
    places = {row: tuple(case.places[row].tolist()) for row in case.visual}
    grid = last_row.grid_places(case.visual, places) if first else []
    order = last_row.feather(score, grid)
    for count in counts(case):
        rows = case.rows([last], count, first, **given)
        assert stayed("feather", rows, case) == kept(order, count)
    assert set(grid) <= set(kept(order, max(1, len(grid))))


@SEEDS
def test_flowcut_in_the_language_model(seed: int) -> None:
    case = drawn(seed)
    last = case.n - 1
    values = case.value.transpose(1, 0, 2)
    order = last_row.flowcut(case.query[last].reshape(-1), case.keys, case.value[last], values, case.visual)
    for count in counts(case):
        assert stayed("flowcut", case.rows([last], count), case) == kept(order, count)


@SEEDS
def test_sparsevlm_asks_the_rows_that_the_picture_is_near(seed: int) -> None:
    case = drawn(seed)
    chosen = sparsevlm.raters(case.embeds[case.visual], case.embeds[case.asking])
    weights = sparsevlm.rater_weights(chosen, len(case.asking))
    queries = case.query[case.asking].reshape(len(case.asking), -1)
    order = sparsevlm.sparsevlm(queries, case.keys, case.asking, weights, case.visual)
    for count in counts(case):
        assert stayed("sparsevlm", case.rows(case.asking, count), case) == kept(order, count)


@SEEDS
def test_recycled_rows_are_means_of_the_references_clusters(seed: int) -> None:
    case = drawn(seed)
    states = np.random.default_rng(seed).standard_normal((SIZE, HIDDEN)).astype(np.float32)
    order = np.random.default_rng(seed + 1).permutation(case.visual).tolist()
    score = torch.zeros(SIZE)
    score[torch.tensor(order)] = torch.arange(len(order), 0, -1).float()
    for count in counts(case):
        rows = case.rows(case.asking, count)
        made = recycled_of(torch.from_numpy(states), score, rows)
        expected = sparsevlm.recycle(order, count, states)
        used = int(made.number)
        assert made.centres[:used].tolist() == expected.centres and used == recycled(len(order) - count)
        np.testing.assert_allclose(made.weights[:used].numpy(), expected.matrix, atol=1e-6)
        chosen = going_on(score, rows, SIZE, standing(made, SIZE) >= 0)
        stay = sorted({*kept(order, count), *expected.centres})
        assert sorted(set(chosen.rows.tolist()) & set(case.visual)) == stay
        assert int(chosen.n) == case.n - len(case.visual) + len(stay)


def test_as_many_rows_stand_for_others_as_in_the_reference() -> None:
    assert all(recycled(leaving) == sparsevlm.recycled_counts(leaving)[1] for leaving in range(3000))


@SEEDS
def test_mustdrop_keeps_its_key_set_and_what_passes_a_threshold(seed: int) -> None:
    case = drawn(seed)
    queries = case.query[case.asking].reshape(len(case.asking), -1)
    asked = mustdrop.asked_of(queries, case.keys, case.asking, case.visual)
    keys = mustdrop.key_set({row: float(case.salience[row]) for row in case.visual})
    order = mustdrop.mustdrop(asked, 0.05, 0.03, keys)
    for count in counts(case):
        if count >= len(keys):
            rows = case.rows(case.asking, count)
            assert stayed("mustdrop", rows, case, sum=0.05, peak=0.03) == kept(order, count)


@SEEDS
def test_transprune_adds_what_layers_change_and_what_the_question_looks_at(seed: int) -> None:
    """Two layers saw all rows, one those that stayed at the first cut: their changes are summed over the rows that were there."""
    case, rng = drawn(seed), np.random.default_rng(seed)
    there = [row for row in case.visual if row % 3]
    steps = [rng.standard_normal((4, SIZE, HIDDEN)).astype(np.float32) for _ in range(3)]
    among = [case.visual, case.visual, there]
    moved = [transprune.layer_transition(*four, seen) for four, seen in zip(steps, among, strict=True)]

    def pairs(*layers: np.ndarray) -> torch.Tensor:
        of = [torch.from_numpy(part) for four in layers for part in four]
        return torch.cat([changes(*of[at : at + 2]) for at in range(0, len(of), 2)], dim=1)

    numbers = torch.arange(SIZE)
    first, later = (torch.isin(numbers, torch.tensor(rows)) for rows in (case.visual, there))
    changed = summed_changes(pairs(*steps[:2]), first) + summed_changes(pairs(steps[2]), later)
    queries = case.query[case.asking].reshape(len(case.asking), -1)
    weights = [1 / len(case.asking)] * len(case.asking)
    order = transprune.transprune(moved, queries, case.keys, case.asking, weights, there)
    for count in range(0, len(there), 3):
        rows = dataclasses.replace(case.rows(case.asking, count, changed=changed), visual=later)
        assert sorted(set(stayed("transprune", rows, case)) & set(there)) == kept(order, count)
        alone = sorted(set(stayed("transprune", rows, case, asked=0)) & set(there))
        assert alone == kept(transprune.by_transition(moved, there), count)


@SEEDS
@pytest.mark.parametrize("neurons", [20, 33])
def test_corematching_keeps_rows_that_share_most_neurons_with_the_prompt(seed: int, neurons: int) -> None:
    case = drawn(seed)
    active = np.random.default_rng(seed).standard_normal((SIZE, neurons)).astype(np.float32)
    order = corematching.corematching(corematching.overlaps(active, case.visual, case.n))
    for count in counts(case):
        rows = case.rows([case.n - 1], count, active=torch.from_numpy(active))
        assert stayed("corematching", rows, case) == kept(order, count)


@SEEDS
@pytest.mark.parametrize("name", ["encoder", "vflowopt"])
def test_by_the_encoders_score(seed: int, name: str) -> None:
    case = drawn(seed)
    order = by_encoder({row: float(case.salience[row]) for row in case.visual})
    for count in counts(case):
        assert stayed(name, case.rows([case.n - 1], count), case) == kept(order, count)


@SEEDS
@pytest.mark.parametrize("name", ["gsearch", "psigmoid"])
def test_all_question_rows_ask_where_one_order_serves_all_cuts(seed: int, name: str) -> None:
    case = drawn(seed)
    queries = case.query[case.asking].reshape(len(case.asking), -1)
    weights = [1 / len(case.asking)] * len(case.asking)
    found = question_attention(queries, case.keys, case.asking, weights, case.visual)
    order = sorted(case.visual, key=lambda row: (-found[row], row))
    wanted = [len(case.visual), len(case.visual) // 2, len(case.visual) // 4]
    for count, expected in zip(wanted, schedules.prefixes(order, wanted), strict=True):
        assert stayed(name, case.rows(case.asking, count), case) == expected


@SEEDS
def test_rows_at_even_distances_enter_where_they_come_back(seed: int) -> None:
    case = drawn(seed)
    visual = np.isin(np.arange(case.n), case.visual)
    fixed = [row for row in range(case.n) if row not in case.visual]
    for count in counts(case):
        expected = sorted([*fixed, *(early_lists.representatives(case.visual, count) if count else [])])
        assert evenly(visual, count).tolist() == expected


@pytest.mark.parametrize("name", ["todre", "yopo", "drop-all"])
def test_nobody_stays(name: str) -> None:
    case = drawn(0)
    assert stayed(name, case.rows([case.n - 1], 0), case) == []


@pytest.mark.parametrize(("slope", "share"), [(0.2, 0.3), (1.0, 0.1), (5.0, 0.5)])
def test_counts_of_a_sigmoid_are_those_of_the_reference(slope: float, share: float) -> None:
    layers, cuts = 24, (2, 8, 16)
    middle = schedules.middle_for(576, layers, slope, share)
    whole = schedules.stage_counts(schedules.sigmoid(576, layers, slope, middle), (0, *cuts))
    assert list(sigmoid_counts(576, layers, cuts, slope, share)) == whole[1:]


def test_a_sigmoid_that_cannot_be_is_refused() -> None:
    with pytest.raises(PlanError, match="make no sigmoid"):
        sigmoid_counts(576, 24, (2,), 0, 0.5)


def test_every_method_of_the_language_model_says_what_it_is() -> None:
    for name in INSIDE:
        cut = INSIDE[name]
        if isinstance(cut, LanguageCut):
            assert cut.name == name and cut.summary and cut.source and (cut.differs or cut.evidence == "control")
