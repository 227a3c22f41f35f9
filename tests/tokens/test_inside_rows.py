"""The rule that lets rows go on, attention of asking rows, and the controls, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, asked_for, attention, going_on, turned_back

SIZE = 24


def rows_of(kinds: str, count: int, asking: tuple[int, ...] = (), **readings: torch.Tensor) -> LanguageRows:
    """kinds: v for a visual row, t for another, - for one behind the prompt."""
    weight = torch.full((len(asking),), 1 / max(1, len(asking)))
    visual, present = (torch.tensor([kind in what for kind in kinds]) for what in ("v", "vt"))
    return LanguageRows(visual, present, torch.tensor(count), torch.tensor(asking, dtype=torch.int64), weight, readings)


def gone_on(score: list[float], rows: LanguageRows, room: int = SIZE) -> list[int]:
    found = going_on(torch.tensor(score), rows, room)
    padded = found.rows.tolist()
    n = int(found.n)
    assert padded[n:] == [padded[n - 1]] * (
        room - n
    )  # behind them the last one again: numbers that belong to this prompt
    return padded[:n]


@pytest.mark.parametrize("seed", range(20))
def test_fixed_rows_and_the_best_visual_ones_go_on_in_their_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, SIZE + 1))
    kinds = "".join(rng.choice(list("vvt"), n - 1)) + "t" + "-" * (SIZE - n)
    count = int(rng.integers(0, SIZE))
    score = rng.integers(0, 4, SIZE) / 4.0  # many ties
    visual = [i for i, kind in enumerate(kinds) if kind == "v"]
    best = sorted(visual, key=lambda i: (-score[i], i))[:count]
    expected = sorted([i for i, kind in enumerate(kinds) if kind == "t"] + best)
    assert gone_on(score.tolist(), rows_of(kinds, count)) == expected


def test_rows_behind_the_prompt_never_go_on_however_high_they_score() -> None:
    rows = rows_of("tvvt--", 1)
    assert gone_on([0, 1, 2, 0, 9e9, 9e9], rows, 6) == [0, 2, 3]


def test_fewer_visual_rows_than_the_count_all_stay() -> None:
    assert gone_on([0.0] * 6, rows_of("tvvt--", 5), 6) == [0, 1, 2, 3]


def test_no_visual_row_stays_where_the_count_is_zero() -> None:
    assert gone_on([5.0] * 6, rows_of("tvvtvt", 0), 6) == [0, 3, 5]


def test_a_stage_may_have_more_or_less_room_than_the_one_before() -> None:
    for room in (3, 6, 9):
        assert gone_on([0, 1, 2, 0, 0, 0], rows_of("tvvt--", 1), room) == [0, 2, 3]


def test_attention_of_asking_rows_is_that_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    heads, groups, width = 4, 2, 6
    asking = (8, 6)
    query = rng.standard_normal((2, heads, width)).astype(np.float32)
    key = rng.standard_normal((12, groups, width)).astype(np.float32)
    found = attention(rows_of("tvvvtvvtt---", 2, asking), torch.from_numpy(query), torch.from_numpy(key)).numpy()
    for head in range(heads):
        for number, row in enumerate(asking):
            logits = [query[number, head] @ key[j, head // 2] / width**0.5 for j in range(row + 1)]
            weights = np.exp(logits - np.max(logits))
            np.testing.assert_allclose(found[head, number, : row + 1], weights / weights.sum(), rtol=1e-5)
            assert not found[head, number, row + 1 :].any()


def test_asking_rows_count_by_their_weight() -> None:
    weights = torch.rand(3, 2, 5)
    rows = LanguageRows(
        *(torch.ones(5, dtype=torch.bool),) * 2, torch.tensor(1), torch.tensor([4, 4]), torch.tensor([1.0, 0.0])
    )
    torch.testing.assert_close(asked_for(rows, weights), weights[:, 0].mean(dim=0))


def test_turning_back_undoes_a_rotation_and_its_scale() -> None:
    rows, angle = torch.randn(5, 2, 8), torch.randn(5, 4)
    cos, sin = 1.3 * torch.cos(angle), 1.3 * torch.sin(angle)
    first, second = rows.chunk(2, dim=-1)
    c, s = cos[:, None], sin[:, None]
    turned = torch.cat([first * c - second * s, second * c + first * s], dim=-1)
    torch.testing.assert_close(turned_back(turned, cos, sin), rows)


def cut(name: str) -> LanguageCut:
    found = INSIDE[name]
    assert isinstance(found, LanguageCut)
    return found


@pytest.mark.parametrize(
    ("visual", "keep"), [(v, k) for v in (1, 2, 5, 9, 16) for k in (0, 1, 2, 4, 8, 15, 16) if k <= v]
)
def test_uniform_keeps_evenly_spaced_visual_rows(visual: int, keep: int) -> None:
    rng = np.random.default_rng(visual)
    kinds = "".join(rng.permutation(list("v" * visual + "t" * (SIZE - 2 - visual)))) + "t-"
    rows = rows_of(kinds, keep)
    score = cut("uniform-rows").rank(rows, {})
    places = [i for i, kind in enumerate(kinds) if kind == "v"]
    expected = [places[(2 * i + 1) * visual // (2 * keep)] for i in range(keep)]
    assert [i for i in gone_on(score.tolist(), rows) if kinds[i] == "v"] == expected


def test_random_is_seeded() -> None:
    rows = rows_of("v" * SIZE, 4)
    first, again, other = (cut("random-rows").rank(rows, {"seed": seed}) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
