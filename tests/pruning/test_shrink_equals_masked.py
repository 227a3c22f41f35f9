"""A shrunk model answers as the whole one does with the units that left masked: on every tower with every decoder."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from edgeprune.errors import PlanError
from edgeprune.structure import cost
from edgeprune.structure.importance import IMPORTANCES
from edgeprune.structure.plan import BlockPlan, StructurePlan, check_plan
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.shrink import shrink
from edgeprune.structure.targets import PruneTarget
from edgeprune_export.bundle.progress import silent
from edgeprune_export.pruning.calibration_stats import collect_statistics
from edgeprune_export.pruning.choose import choose
from edgeprune_export.pruning.vlm import PrunableVlm
from tests.checkpoints import FAMILY_VARIANTS, QWEN_VARIANTS, VARIANTS, variant_name
from tests.pruning.made import (
    QWEN,
    array,
    blocks_of,
    layers_of,
    precise_subject,
    prunable_of,
    random_plan,
    whole,
    without,
)

pytestmark = pytest.mark.slow  # every tower with every decoder

PLANS = 4  # random ones per model
#: Every tower with every decoder, and of the further families one with norms on queries and keys, one with other names of its parts,
#: towers with joint queries, keys and values, with windows and with features that enter the decoder early.
SUBJECTS = (*VARIANTS, FAMILY_VARIANTS[1], FAMILY_VARIANTS[5], *QWEN, QWEN_VARIANTS[8])


@functools.lru_cache(1)
def precise(number: int) -> PrunableVlm:
    """One at a time: the tests come model by model."""
    return precise_subject(SUBJECTS[number])


@torch.no_grad()
def logits(prunable: PrunableVlm, module: nn.Module) -> torch.Tensor:
    batch = prunable.batch([0])
    answer: torch.Tensor = module(**batch.inputs, use_cache=False).logits
    return answer


def masked(prunable: PrunableVlm, plan: StructurePlan) -> torch.Tensor:
    """The whole model with zeros for the columns of what left, and blocks stepped over; put back as it was."""
    before = {name: value.clone() for name, value in prunable.module.state_dict().items()}
    hooks = []
    for (part, block, kind), layers in layers_of(prunable).items():
        stays = {one.block: one for one in plan.blocks[part]}.get(block)
        if stays is None:
            if kind == "heads":
                hooks.append(without(blocks_of(prunable.module, part)[block]))
            continue
        kept = stays.heads if kind == "heads" else stays.mlp
        for unit in set(range(layers.units)) - set(kept):
            layers.out.weight.data[:, layers.columns(unit)] = 0
    answer = logits(prunable, prunable.module)
    for hook in hooks:
        hook.remove()
    prunable.module.load_state_dict(before)
    return answer


def differ(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def same(prunable: PrunableVlm, plan: StructurePlan) -> nn.Module:
    smaller = shrink(prunable.module, prunable.specs, plan)
    assert differ(logits(prunable, smaller), masked(prunable, plan)) <= 1e-6
    return smaller


MODELS = pytest.mark.parametrize("number", range(len(SUBJECTS)), ids=[variant_name(variant) for variant in SUBJECTS])


@MODELS
def test_a_shrunk_model_answers_as_the_masked_one(number: int) -> None:
    prunable = precise(number)
    moved = 0
    for seed in range(PLANS):
        plan = random_plan(prunable, 100 * number + seed)
        smaller = same(prunable, plan)
        for part, blocks in plan.blocks.items():
            assert (
                len(blocks_of(smaller, part)) == len(blocks) + prunable.specs[part][0].layers - prunable.specs[part][1]
            )
        moved += differ(masked(prunable, plan), logits(prunable, prunable.module)) > 1e-3
    assert moved >= PLANS // 2, "masking changes the answer, so the comparison can fail"


@MODELS
def test_in_float32_it_does_so_too(number: int) -> None:
    """As a whole: the largest difference of one logit is the rounding of longer and shorter sums."""
    prunable = prunable_of(SUBJECTS[number], 1)
    batch = prunable.batch([0])
    prunable.batch = lambda numbers, random=None: batch  # type: ignore[method-assign]
    prunable.module.float()
    plan = random_plan(prunable, 100 * number)
    found, expected = logits(prunable, shrink(prunable.module, prunable.specs, plan)), masked(prunable, plan)
    assert found.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) <= 1e-6


@pytest.mark.parametrize("importance", sorted(IMPORTANCES))
@pytest.mark.parametrize("number", [1, 7, len(VARIANTS) + 3, len(VARIANTS) + 4])
def test_what_an_importance_chooses_is_removed_as_if_masked(number: int, importance: str) -> None:
    prunable = precise(number)
    request = StructureRequest(PruneTarget("params", 0.6), importance, "uniform", align=8)
    requests = {part: request for part in prunable.specs if part in IMPORTANCES[importance].parts}
    prices = {part: cost.parameters(prunable.specs[part][0]) for part in requests}
    stats = collect_statistics(prunable, IMPORTANCES[importance].needs, silent)
    chosen = choose(prunable.module, prunable.specs, requests, prices, stats, {}).plan
    everything = {part: whole(spec, count) for part, (spec, count) in prunable.specs.items()}
    assert all(chosen.blocks[part] != everything[part] for part in requests)
    same(prunable, StructurePlan({**everything, **chosen.blocks}))


@MODELS
def test_one_unit_may_stay_everywhere(number: int) -> None:
    prunable = precise(number)
    plan = random_plan(prunable, number, drop=False)
    one = {p: tuple(BlockPlan(b.block, b.heads[-1:], b.mlp[:1]) for b in blocks) for p, blocks in plan.blocks.items()}
    smaller = same(prunable, StructurePlan(one))
    language: Any = blocks_of(smaller, "language")[0]
    assert language.mlp.down_proj.weight.shape[1] == language.mlp.down_proj.in_features == 1
    assert language.mlp.gate_proj.out_features == len(language.mlp.gate_proj.weight) == 1


@MODELS
def test_keeping_everything_changes_nothing_and_the_whole_model_is_never_touched(number: int) -> None:
    prunable = precise(number)
    before = {name: value.clone() for name, value in prunable.module.state_dict().items()}
    everything = StructurePlan({part: whole(spec, count) for part, (spec, count) in prunable.specs.items()})
    smaller = shrink(prunable.module, prunable.specs, everything)
    assert all(torch.equal(value, before[name]) for name, value in smaller.state_dict().items())
    assert torch.equal(logits(prunable, smaller), logits(prunable, prunable.module))
    shrink(prunable.module, prunable.specs, random_plan(prunable, number))
    assert all(torch.equal(value, before[name]) for name, value in prunable.module.state_dict().items())


def test_a_part_that_is_not_named_stays_whole() -> None:
    prunable = precise(0)
    plan = random_plan(prunable, 1)
    tower = shrink(prunable.module, prunable.specs, StructurePlan({"tower": plan.blocks["tower"]}))
    state = tower.state_dict()
    for name, value in prunable.module.state_dict().items():
        if "language_model" in name or "projector" in name:
            assert torch.equal(state[name], value)


def test_a_shrunk_model_generates_with_its_cache_what_it_says_without() -> None:
    """Layers that stay have new places in the key-value cache."""
    prunable = precise(1)
    blocks = random_plan(prunable, 5, drop=False).blocks
    smaller: Any = shrink(
        prunable.module, prunable.specs, StructurePlan({**blocks, "language": blocks["language"][1:]})
    )
    inputs = prunable.batch([0]).inputs
    with_cache, without_cache = (
        smaller.generate(**inputs, max_new_tokens=4, do_sample=False, use_cache=cache) for cache in (True, False)
    )
    assert torch.equal(with_cache, without_cache)
    assert smaller.config.text_config.num_hidden_layers == 1


@pytest.mark.parametrize(
    ("heads", "mlp", "about"),
    [
        ((), (0,), "head groups: none is kept"),
        ((0,), (), "MLP channels: none is kept"),
        ((1, 0), (0,), "head groups.*ascending"),
        ((0, 0), (0,), "head groups.*ascending"),
        ((0,), (-1,), "MLP channels.*from 0 to 95"),
        ((0, 3), (0,), "head groups.*from 0 to 2"),
        ((0,), (96,), "MLP channels.*from 0 to 95"),
    ],
)
def test_a_plan_of_another_model_is_refused(heads: tuple[int, ...], mlp: tuple[int, ...], about: str) -> None:
    prunable = precise(0)
    plan = StructurePlan({"tower": (BlockPlan(0, heads, mlp),)})
    with pytest.raises(PlanError, match=about):
        shrink(prunable.module, prunable.specs, plan)


def test_a_plan_with_foreign_blocks_or_parts_is_refused() -> None:
    prunable = precise(0)
    for numbers, about in (((), "none is kept"), ((0, 2), "from 0 to 1"), ((1, 0), "ascending")):
        blocks = tuple(BlockPlan(i, (0,), (0,)) for i in numbers)
        with pytest.raises(PlanError, match=f"tower: blocks.*{about}"):
            check_plan(StructurePlan({"tower": blocks}), prunable.specs)
    language = {"language": prunable.specs["language"]}
    with pytest.raises(PlanError, match="names the tower"):
        check_plan(StructurePlan({"tower": (BlockPlan(0, (0,), (0,)),)}), language)  # type: ignore[arg-type]


def test_the_masks_of_this_file_reach_what_they_should() -> None:
    prunable = precise(0)
    site = layers_of(prunable)["language", 1, "heads"]
    assert array(site.out.weight).shape == (64, 64) and (site.units, site.queries) == (2, 2)
    assert site.columns(1) == list(range(32, 64))
