"""What holds for every method of the registry, whatever the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from edgeprune.tokens.seen import Reduction, TowerOutputs
from torch import Tensor

from edgeprune.errors import PlanError
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, greedy, places, select, similar, weigh
from edgeprune.tokens.methods import CONTROLS, METHODS
from tests.tokens.pictures import FEATURE, GARBAGE, LAST, Case, full_case

#: Methods that work on readings of the whole tower; those inside it have tests of their own.
NAMES = [name for name in METHODS if METHODS[name].cuts is None]
#: Rows that do not sum to 1, as in the sources.
UNSCALED = ("visionzip", "prumerge", "prumerge+")
#: Rules that do not depend on where in its tile a token stands, as long as no two tokens are equals.
PLACELESS = ("fastervlm", "divprune", "todre", "todre-kcenter", "mmtok", "cdpruner", "vispruner")


def plan_of(name: str) -> MethodPlan:
    small = {"outliers": 3, "alpha_anchor": 1.0, "cell": 2, "contextual": 0.4, "neighbours": 3}
    known = {setting.name for setting in METHODS[name].settings}
    settings = {key: value for key, value in small.items() if key in known}
    return MethodPlan(feature_layer=FEATURE, last_layer=LAST, settings=settings)


def reduced(name: str, seen: TowerOutputs, keep: int) -> Reduction:
    return METHODS[name].reduce(seen, keep, plan_of(name))


def cases(seed: int, count: int, **how: Any) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [full_case(rng, 3 if i % 4 else 4, exact=i % 3 == 0, **how) for i in range(count)]


def kept_slots(seen: TowerOutputs, reduction: Reduction) -> list[int]:
    kept = reduction.index[reduction.index >= 0]
    return seen.slot.flatten()[kept].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_exactly_k_tokens_ascending_and_no_padding(name: str) -> None:
    for case in cases(0, 80):
        reduction = reduced(name, case.seen, case.keep)
        assert reduction.index.shape == (case.keep,) and reduction.index.dtype == torch.int64
        count = min(case.keep, case.candidates)
        assert (reduction.index[count:] == -1).all()
        slots = kept_slots(case.seen, reduction)
        assert len(slots) == count and all(slot >= 0 for slot in slots) and slots == sorted(set(slots))
        if reduction.transform is None:
            continue
        assert reduction.transform.shape == (case.keep, case.slot.size) and reduction.transform.dtype == torch.float32
        assert torch.isfinite(reduction.transform).all()
        assert (reduction.transform[:, case.slot.reshape(-1) < 0] == 0).all(), "padding takes no part"
        assert (reduction.transform[count:] == 0).all(), "a row without a token is empty"


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_merge_sum_to_one(name: str) -> None:
    for case in cases(1, 60):
        transform = reduced(name, case.seen, case.keep).transform
        if transform is None:
            continue
        sums = transform.sum(dim=1)[: min(case.keep, case.candidates)]
        if name == "visionzip":
            assert ((sums - 1).abs().minimum((sums - 2).abs()) < 1e-5).all()
        elif name not in UNSCALED:
            torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_of_everything_is_the_identity(name: str) -> None:
    for case in cases(2, 20):
        for keep in {case.candidates, case.slot.size}:
            reduction = reduced(name, case.seen, keep)
            rows = combine.apply(case.seen, reduction)[: case.candidates]
            everything = select.exactly(case.seen.slot >= 0, case.seen.slot, keep)
            assert torch.equal(reduction.index, everything)
            assert torch.equal(rows, case.seen.features.flatten(0, 1)[everything[: case.candidates]])


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_in_padding_changes_nothing(name: str) -> None:
    drawn = [cases(3, 50, garbage=value) for value in (0.0, GARBAGE, -7.0)]
    for first, *others in zip(*drawn, strict=True):
        expected = reduced(name, first.seen, first.keep)
        for other in others:
            found = reduced(name, other.seen, other.keep)
            assert torch.equal(found.index, expected.index)
            assert (found.transform is None) == (expected.transform is None)
            if found.transform is not None and expected.transform is not None:
                torch.testing.assert_close(found.transform, expected.transform)


@pytest.mark.parametrize("name", PLACELESS)
def test_the_order_of_tokens_in_a_tile_does_not_matter(name: str) -> None:
    rng = np.random.default_rng(4)
    compared = 0
    for _ in range(60):
        case = full_case(rng, 3, width=32)
        if has_equals(name, case.seen):
            continue
        moved = permuted(case.seen, rng)
        expected = kept_slots(case.seen, reduced(name, case.seen, case.keep))
        assert kept_slots(moved, reduced(name, moved, case.keep)) == expected
        compared += 1
    assert compared >= 30


def has_equals(name: str, seen: TowerOutputs) -> bool:
    """Whether the first choice is between equals, so that the lower index decides."""
    real = (seen.slot >= 0).flatten()
    if name == "cdpruner":
        return not seen.question_weight.any()
    if name != "divprune":
        return False
    rows = torch.nn.functional.normalize(seen.projected.flatten(0, 1)[real].double(), dim=1)
    nearest = (rows @ rows.T - 3 * torch.eye(len(rows))).amax(dim=1).sort().values
    return len(rows) > 1 and bool(nearest[1] - nearest[0] < 1e-6)


def permuted(seen: TowerOutputs, rng: np.random.Generator) -> TowerOutputs:
    """The tokens of all tiles in another order, slots with them."""
    order = torch.from_numpy(rng.permutation(seen.slot.shape[1]))

    def moved(value: Tensor, axis: int) -> Tensor:
        return value.index_select(axis, order)

    return seen._replace(
        features=moved(seen.features, 1),
        slot=moved(seen.slot, 1),
        projected=moved(seen.projected, 1),
        attention={i: moved(value, 2) for i, value in seen.attention.items()},
    )


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name].reads(plan_of(name)).question])
def test_text_aware_methods_work_without_a_question_and_heed_one(name: str) -> None:
    rng = np.random.default_rng(5)
    heeded = 0
    for _ in range(40):
        case = full_case(rng, 3, width=32)
        without = case.seen._replace(question_weight=torch.zeros(2))
        silent = reduced(name, without, case.keep)
        assert len(kept_slots(without, silent)) == min(case.keep, case.candidates)
        other = without._replace(question=-without.question)
        assert torch.equal(reduced(name, other, case.keep).index, silent.index), "no weight, no say"
        heeded += not torch.equal(reduced(name, case.seen, case.keep).index, silent.index)
    assert heeded > 5


def test_every_method_says_what_a_user_must_know() -> None:
    for name in METHODS:
        method = METHODS[name]
        assert method.name == name and method.summary and method.source and method.cost
        assert method.summary[0].islower() or method.summary.startswith("PruMerge")
        assert (method.evidence == "control") == (name in (*CONTROLS, "full"))
        for setting in method.settings:
            assert setting.help and setting(MethodPlan()) == setting.default
            assert setting(MethodPlan(settings={setting.name: 7})) == 7


def test_layers_that_are_read_follow_the_plan() -> None:
    plan = MethodPlan(feature_layer=22, last_layer=23)
    assert METHODS["vtc-cls"].reads(plan).attention == (20, 21, 22)
    assert METHODS["vtc-cls"].reads(MethodPlan(feature_layer=1, settings={"window": 5})).attention == (0, 1)
    assert METHODS["hiprune"].reads(plan).map == (8, 22)
    assert METHODS["hiprune"].reads(MethodPlan(feature_layer=10, settings={"object_layer": 10})).map == (10,)
    assert METHODS["damro"].reads(plan).wide == METHODS["prumerge"].reads(plan).keys == (23,)
    assert not METHODS["vflowopt"].reads(plan).entropy
    assert METHODS["vflowopt"].reads(MethodPlan(settings={"entropy_weight": -1})).entropy


def test_shares_of_recoverable_are_refused_when_they_exceed_everything() -> None:
    case = cases(6, 1)[0]
    plan = MethodPlan(feature_layer=FEATURE, last_layer=LAST, settings={"visual_share": 0.8})
    with pytest.raises(PlanError, match="lower one"):
        METHODS["recoverable"].reduce(case.seen, 10, plan)


# ------------------------------------------------------------------------------------------------------- shared parts


def test_shares_by_hand() -> None:
    available = torch.tensor([4, 1, 0, 4])
    counts = [select.shares(torch.ones(4), available, 4, keep).tolist() for keep in (1, 2, 3, 5, 9, 12)]
    assert counts == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1], [2, 1, 0, 2], [4, 1, 0, 4], [4, 1, 0, 4]]
    assert weigh.equal(cases(7, 1)[0].seen).unique().tolist() == [1.0]


def test_a_part_is_taken_as_it_is_written() -> None:
    assert [select.part(100, share) for share in (0.29, 0.57, 0.58, 1.0, 0)] == [29, 57, 58, 100, 0]
    assert int(100 * 0.29) == 28, "what binary numbers would make of it"


def test_equals_fall_to_the_lower_index_in_every_choice() -> None:
    assert int(torch.argmax(torch.zeros(1000))) == 0 and int(torch.argmin(torch.zeros(1000))) == 0
    same, real = torch.ones(6, 6), torch.tensor([False, True, True, True, True, False])
    chosen = greedy.least_alike(same, torch.tensor(3), real, 3, torch.add)
    assert chosen.tolist() == [False, True, True, True, False, False]
    turn = greedy.covering(torch.ones(1, 6, 4), real[None], 6)
    assert turn.tolist() == [[4, 0, 1, 2, 3, 5]], "padding is reached last"
    turn = greedy.determinant(torch.eye(6)[None], torch.ones(1, 6), real[None], 6)
    assert turn.tolist() == [[4, 0, 1, 2, 3, 5]]


def test_neighbours_wrap_at_row_ends_and_stop_at_both_ends() -> None:
    def beside(tokens: int, token: int) -> list[int]:
        marked = torch.zeros(1, tokens, dtype=torch.bool)
        marked[0, token] = True
        return places.beside(marked)[0].nonzero().flatten().tolist()

    assert beside(9, 4) == [1, 3, 5, 7]
    assert beside(9, 3) == [0, 2, 4, 6], "the left neighbour is the end of the row above"
    assert beside(9, 0) == [0, 1, 3]
    assert beside(9, 8) == [5, 7, 8]
    assert beside(10, 0) == beside(10, 1) == [1, 2, 4], (
        "a token that is no patch lies at the first and is nobody's neighbour"
    )


def test_order_among_is_the_order_of_cosines_and_exact_in_any_order_of_sums() -> None:
    rng = np.random.default_rng(8)
    for scale in (1e-6, 1.0, 1e4):
        rows = torch.from_numpy((scale * rng.normal(size=(2, 40, 1024))).astype(np.float32))
        rows[0, 0], rows[0, 1] = 0, rows[0, 2]
        found = similar.order_among(rows)
        expected = similar.among(rows.double())
        torch.testing.assert_close(found.double(), expected * expected.abs(), atol=1e-5, rtol=0)
        shuffled = torch.from_numpy(rng.permutation(1024))
        assert torch.equal(similar.order_among(rows[..., shuffled]), found)
        assert torch.equal(similar.order_among(rows[:, 5:9]), found[:, 5:9, 5:9])


# -------------------------------------------------------------------------------------------------------- calibration


def measured(name: str, seen: TowerOutputs, **settings: float) -> dict[str, float]:
    calibration = METHODS[name].calibration
    assert calibration is not None
    return calibration.measure(seen, MethodPlan(feature_layer=FEATURE, last_layer=LAST, settings=settings))


def settled(name: str, statistics: list[dict[str, float]]) -> dict[str, float]:
    calibration = METHODS[name].calibration
    assert calibration is not None
    return calibration.settle(statistics, MethodPlan())


@pytest.mark.parametrize("name", ["fopru", "fopru-row", "vflowopt", "prumerge", "prumerge+"])
def test_calibration_settles_settings_of_the_method_alike_whatever_lies_in_padding(name: str) -> None:
    drawn = [cases(9, 12, garbage=value) for value in (GARBAGE, 0.0)]
    statistics = [[measured(name, case.seen) for case in some] for some in drawn]
    for one, other in zip(*statistics, strict=True):
        assert one == pytest.approx(other) and all(np.isfinite(list(one.values())))
    assert {*settled(name, statistics[0])} <= {setting.name for setting in METHODS[name].settings}


def test_the_side_is_settled_by_the_majority_of_tiles() -> None:
    seen = next(case.seen for case in cases(10, 50) if (case.slot >= 0).all() and len(case.slot) > 2)
    cast = torch.ones_like(seen.maps[FEATURE])
    cast[:, ::2] = 2  # every key gets the same from a query: only what is cast varies
    by_cast = measured("fopru", seen._replace(maps={FEATURE: cast}))
    by_received = measured("fopru", seen._replace(maps={FEATURE: cast[:, 1:, :1].transpose(1, 2).expand_as(cast)}))
    tiles = len(seen.slot)
    assert by_cast == {"tiles": tiles, "received_wider": 0} and by_received["received_wider"] == tiles
    assert settled("fopru", [by_cast, by_received]) == {"side": 1}
    assert settled("fopru", [by_cast, by_cast, by_received]) == {"side": 2}


def test_sinks_are_counted_above_the_threshold_and_at_least_one() -> None:
    seen = next(case.seen for case in cases(10, 50) if (case.slot >= 0).all() and len(case.slot) > 2)
    received = torch.ones_like(seen.maps[FEATURE])
    received[..., 3:5] = 20
    with_two = seen._replace(maps={FEATURE: received})
    assert measured("vflowopt", with_two, threshold=2.0) == {"sinks": 2}
    assert settled("vflowopt", [{"sinks": 2.0}, {"sinks": 3.4}]) == {"sinks": 3}
    assert settled("vflowopt", [measured("vflowopt", with_two)]) == {"sinks": 1}


def test_outliers_of_attention_are_counted_as_in_the_source() -> None:
    attention = torch.full((1, 16), 0.1) + torch.arange(16) / 1000
    attention[0, 8] = 5.0
    seen = cases(10, 1)[0].seen._replace(slot=torch.arange(16)[None], wide={LAST: attention})
    # 1 of 16 above the fence; every int(16 / 3) = 5th of the first 15 tokens: 0, 5, 10
    assert measured("prumerge+", seen) == {"outlier_share": 1 / 16, "ranked": 1, "spaced": 3}
    assert settled("prumerge+", [measured("prumerge+", seen)]) == {"spread": 0.75}
    assert settled("prumerge+", [{"outlier_share": 0.0, "ranked": 0.0, "spaced": 0.0}]) == {}
    assert settled("prumerge", [measured("prumerge", seen)]) == {}
