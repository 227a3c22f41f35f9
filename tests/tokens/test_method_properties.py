"""What holds for every method of the registry, whatever the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.errors import PlanError
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, select
from edgeprune.tokens.methods import CONTROLS, METHODS
from edgeprune.tokens.readings import Reads, Reduction, TowerOutputs
from tests.tokens.layouts import KINDS
from tests.tokens.pictures import FEATURE, GARBAGE, LAST, Case, by_layer, changed, full_case

#: Methods that work on readings of the whole tower; those inside it have tests of their own.
NAMES = [name for name in METHODS if METHODS[name].own_cuts is None]
#: Rows that do not sum to 1, as in the sources.
UNSCALED = ("visionzip", "prumerge", "prumerge+")
#: Rules that do not depend on where in its tile a token stands, as long as no two tokens are equals.
PLACELESS = ("fastervlm", "received", "divprune", "dart", "todre", "todre-kcenter", "mmtok", "cdpruner", "vispruner")


def plan_of(name: str) -> MethodPlan:
    small = {"outliers": 3, "alpha_anchor": 1.0, "cell": 2, "contextual": 0.4, "neighbours": 3, "pivots": 2}
    known = {setting.name for setting in METHODS[name].settings}
    settings = {key: value for key, value in small.items() if key in known}
    return MethodPlan(feature_layer=FEATURE, last_layer=LAST, settings=settings)


def reduced(name: str, outputs: TowerOutputs, keep: int) -> Reduction:
    return METHODS[name].reduce(outputs, keep, plan_of(name))


def kinds_of(name: str) -> tuple[str, ...]:
    """Layouts of the models that a method can work on."""
    overview = "overview" in METHODS[name].reads(plan_of(name)).needs
    return tuple(kind for kind in KINDS if kind != "bare" or not overview)


def cases(seed: int, count: int, name: str = "full", **how: Any) -> list[Case]:
    rng = np.random.default_rng(seed)
    how = {"kinds": kinds_of(name)} | how
    return [full_case(rng, 3 if i % 4 else 4, exact=i % 3 == 0, **how) for i in range(count)]


def kept_slots(outputs: TowerOutputs, reduction: Reduction) -> list[int]:
    kept = reduction.index[reduction.index >= 0]
    return outputs.slot.flatten()[kept].tolist()


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in NAMES for kind in kinds_of(name)])
def test_exactly_k_tokens_ascending_and_no_padding(name: str, kind: str) -> None:
    for case in cases(0, 40, kinds=(kind,)):
        assert case.outputs.geometry.overview == (kind != "bare")
        require_exactly_k(case, reduced(name, case.outputs, case.keep))


@pytest.mark.parametrize("name", ["visionzip", "vispruner"])
@pytest.mark.parametrize("kind", KINDS)
def test_exactly_k_tokens_without_a_class_token(name: str, kind: str) -> None:
    plan = replace(plan_of(name), class_token=False)
    assert "class token" not in METHODS[name].reads(plan).needs
    for case in cases(11, 40, kinds=(kind,)):
        require_exactly_k(case, METHODS[name].reduce(case.outputs, case.keep, plan))


def test_on_pictures_whose_overview_stands_last_it_is_tile_0_and_its_rows_come_last() -> None:
    """What the kind "last" of the tests above is: the overview's slots are behind all others, and tokens are kept in that order."""
    tiled = [case for case in cases(0, 40, kinds=("last",)) if (case.slot >= 0).any(axis=1).sum() > 1]
    assert len(tiled) > 20
    for case in tiled:
        assert case.slot[0].min() == case.slot[1:].max() + 1
        kept = reduced("uniform", case.outputs, case.candidates // 2).index
        assert kept[0] >= case.slot.shape[1] > kept[-1]


def require_exactly_k(case: Case, reduction: Reduction) -> None:
    assert reduction.index.shape == (case.keep,) and reduction.index.dtype == torch.int64
    count = min(case.keep, case.candidates)
    assert (reduction.index[count:] == -1).all()
    slots = kept_slots(case.outputs, reduction)
    assert len(slots) == count and all(slot >= 0 for slot in slots) and slots == sorted(set(slots))
    if reduction.transform is None:
        return
    assert reduction.transform.shape == (case.keep, case.slot.size) and reduction.transform.dtype == torch.float32
    assert torch.isfinite(reduction.transform).all()
    assert (reduction.transform[:, case.slot.reshape(-1) < 0] == 0).all(), "padding takes no part"
    assert (reduction.transform[count:] == 0).all(), "a row without a token is empty"


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_merge_sum_to_one(name: str) -> None:
    for case in cases(1, 60, name):
        transform = reduced(name, case.outputs, case.keep).transform
        if transform is None:
            continue
        sums = transform.sum(dim=1)[: min(case.keep, case.candidates)]
        if name == "visionzip":
            assert ((sums - 1).abs().minimum((sums - 2).abs()) < 1e-5).all()
        elif name not in UNSCALED:
            torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_of_everything_is_the_identity(name: str) -> None:
    for case in cases(2, 20, name):
        for keep in {case.candidates, case.slot.size}:
            reduction = reduced(name, case.outputs, keep)
            rows = combine.apply(case.outputs, reduction)[: case.candidates]
            everything = select.exactly(case.outputs.slot >= 0, case.outputs.slot, keep)
            assert torch.equal(reduction.index, everything)
            assert torch.equal(rows, case.outputs.features.flatten(0, 1)[everything[: case.candidates]])


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_in_padding_changes_nothing(name: str) -> None:
    drawn = [cases(3, 50, name, garbage=value) for value in (0.0, GARBAGE, -7.0)]
    for first, *others in zip(*drawn, strict=True):
        expected = reduced(name, first.outputs, first.keep)
        for other in others:
            found = reduced(name, other.outputs, other.keep)
            assert torch.equal(found.index, expected.index)
            assert (found.transform is None) == (expected.transform is None)
            if found.transform is not None and expected.transform is not None:
                torch.testing.assert_close(found.transform, expected.transform)


@pytest.mark.parametrize("name", PLACELESS)
def test_the_order_of_tokens_in_a_tile_does_not_matter(name: str) -> None:
    rng = np.random.default_rng(4)
    compared = 0
    for _ in range(60):
        case = full_case(rng, 3, width=32, kinds=kinds_of(name))
        if has_equals(name, case.outputs):
            continue
        moved = permuted(case.outputs, rng)
        expected = kept_slots(case.outputs, reduced(name, case.outputs, case.keep))
        assert kept_slots(moved, reduced(name, moved, case.keep)) == expected
        compared += 1
    assert compared >= 30


def has_equals(name: str, outputs: TowerOutputs) -> bool:
    """Whether the first choice is between equals, so that the lower index decides."""
    real = (outputs.slot >= 0).flatten()
    if name == "cdpruner":
        return not outputs["question_weight"].any()
    if name != "divprune":
        return False
    rows = torch.nn.functional.normalize(outputs["projected"].flatten(0, 1)[real].double(), dim=1)
    nearest = (rows @ rows.T - 3 * torch.eye(len(rows))).amax(dim=1).sort().values
    return len(rows) > 1 and bool(nearest[1] - nearest[0] < 1e-6)


def permuted(outputs: TowerOutputs, rng: np.random.Generator) -> TowerOutputs:
    """The tokens of all tiles in another order, slots with them."""
    order = torch.from_numpy(rng.permutation(outputs.slot.shape[1]))

    def moved(value: Tensor, axis: int) -> Tensor:
        return value.index_select(axis, order)

    other = changed(
        outputs,
        slot=moved(outputs.slot, 1),
        projected=moved(outputs["projected"], 1),
        attention={i: moved(value, 2) for i, value in by_layer(outputs, "attention").items()},
        received={i: moved(value, 1) for i, value in by_layer(outputs, "received").items()},
    )
    return replace(other, features=moved(outputs.features, 1))


@pytest.mark.parametrize("name", [name for name in NAMES if "question" in METHODS[name].reads(plan_of(name))])
def test_text_aware_methods_work_without_a_question_and_heed_one(name: str) -> None:
    rng = np.random.default_rng(5)
    heeded = 0
    for _ in range(40):
        case = full_case(rng, 3, width=32)
        without = changed(case.outputs, question_weight=torch.zeros(2))
        silent = reduced(name, without, case.keep)
        assert len(kept_slots(without, silent)) == min(case.keep, case.candidates)
        other = changed(without, question=-without["question"])
        assert torch.equal(reduced(name, other, case.keep).index, silent.index), "no weight, no say"
        heeded += not torch.equal(reduced(name, case.outputs, case.keep).index, silent.index)
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
    assert layers(METHODS["vtc-cls"].reads(plan), "attention") == (20, 21, 22)
    short = MethodPlan(feature_layer=1, settings={"window": 5})
    assert layers(METHODS["vtc-cls"].reads(short), "attention") == (0, 1)
    assert layers(METHODS["hiprune"].reads(plan), "map") == (8, 22)
    fixed = MethodPlan(feature_layer=10, settings={"object_layer": 10})
    assert layers(METHODS["hiprune"].reads(fixed), "map") == (10,)
    assert layers(METHODS["damro"].reads(plan), "wide") == layers(METHODS["prumerge"].reads(plan), "keys") == (23,)
    assert layers(METHODS["received"].reads(plan), "received") == (22,)
    assert "entropy" not in METHODS["vflowopt"].reads(plan)
    assert "entropy" in METHODS["vflowopt"].reads(MethodPlan(settings={"entropy_weight": -1}))


def layers(reads: Reads, kind: str) -> tuple[int | None, ...]:
    return tuple(read.layer for read in reads if read.kind == kind)


@pytest.mark.parametrize("name", ["visionzip", "vispruner"])
def test_attention_received_stands_in_for_the_class_token_s_where_there_is_none(name: str) -> None:
    with_one, without = (MethodPlan(22, 23, class_token=there) for there in (True, False))
    assert (
        layers(METHODS[name].reads(with_one), "attention") == layers(METHODS[name].reads(without), "received") == (22,)
    )
    assert "received" not in METHODS[name].reads(with_one) and "attention" not in METHODS[name].reads(without)


def test_a_method_reads_nothing_but_what_it_says() -> None:
    """What is left out is missing, and what is there under another layer is not taken."""
    for name in NAMES:
        for class_token in (True, False):
            plan = replace(plan_of(name), class_token=class_token)
            said = {read.name for read in METHODS[name].reads(plan)}
            for case in cases(12, 3, name):
                held = {key: value for key, value in case.outputs.readings.items() if key in said}
                METHODS[name].reduce(replace(case.outputs, readings=held), case.keep, plan)


def test_shares_of_recoverable_are_refused_when_they_exceed_everything() -> None:
    case = cases(6, 1)[0]
    plan = MethodPlan(feature_layer=FEATURE, last_layer=LAST, settings={"visual_share": 0.8})
    with pytest.raises(PlanError, match="lower one"):
        METHODS["recoverable"].reduce(case.outputs, 10, plan)
