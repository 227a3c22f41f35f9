"""What stays learns what left gave: the least-squares reference, layer by layer, and smaller errors of real models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.structure.compensate import Moments, refit
from edgeprune.structure.plan import BlockPlan, StructurePlan
from edgeprune.structure.shrink import shrink
from edgeprune_export.bundle.progress import silent
from edgeprune_export.pruning.prunable import batches
from edgeprune_export.pruning.refit import compensate
from edgeprune_export.pruning.vlm import PrunableVlm
from tests.pruning.made import (
    QWEN,
    SOME,
    Layers,
    Place,
    array,
    layers_of,
    precise_subject,
    prunable_of,
    random_plan,
    whole,
)
from tests.references.structure_compensate import compensate as reference

SUBJECTS = (*SOME, *QWEN)
IDS = ["-".join(str(value) for value in variant.values()) for variant in SUBJECTS]


@pytest.mark.parametrize("biased", [True, False])
def test_a_refit_equals_the_tall_least_squares_problem(biased: bool) -> None:
    for seed in range(100):
        random = np.random.default_rng(seed)
        outputs, inputs = (int(size) for size in random.integers(1, 9, 2))
        kept = sorted(random.permutation(inputs)[: random.integers(1, inputs + 1)].tolist())
        w, b = random.normal(size=(outputs, inputs)), random.normal(size=outputs) if biased else None
        moments = Moments.empty(len(kept), outputs)
        xs, seen = [], []
        for _ in range(int(random.integers(1, 4))):
            x = random.normal(1, 2, (int(random.integers(1, 20)), inputs))
            pruned = x + random.normal(0, 0.3, x.shape)
            if seed % 10 == 0:  # nothing is heard
                pruned = np.zeros_like(x)
            moments.add(torch.from_numpy(pruned[:, kept]), torch.from_numpy(x @ w.T))
            xs.append(x)
            seen.append(pruned)
        bias = None if b is None else torch.from_numpy(b)
        v, shifted = refit(torch.from_numpy(w[:, kept]), bias, moments)
        wanted, wanted_bias = reference(w, b, np.concatenate(xs), np.concatenate(seen), kept)
        np.testing.assert_allclose(v.numpy(), wanted, rtol=1e-6, atol=1e-8)
        assert (shifted is None) == (wanted_bias is None)
        if shifted is not None and wanted_bias is not None:
            np.testing.assert_allclose(shifted.numpy(), wanted_bias, rtol=1e-6, atol=1e-8)


def compensated(prunable: PrunableVlm, plan: StructurePlan) -> tuple[nn.Module, nn.Module]:
    """(shrunk, shrunk and compensated)."""
    bare = shrink(prunable.module, prunable.specs, plan)
    fitted = shrink(prunable.module, prunable.specs, plan)
    compensate(prunable, fitted, prunable.pruned(plan), plan, silent)
    return bare, fitted


@torch.no_grad()
def error(prunable: PrunableVlm, module: nn.Module) -> tuple[float, float]:
    """Mean squares of what a module's visual features and logits are away from, over the calibration samples."""
    features = logits = 0.0
    for batch in batches(prunable):
        (f, x), (g, y) = prunable.features(prunable.module, batch), prunable.features(module, batch)
        features += float((f - g).square().mean())
        logits += float((x - y).square().mean())
    return features, logits


def twins(prunable: PrunableVlm) -> StructurePlan:
    """Make the later half of all units copies of the earlier, so that what leaves can be told from what stays; they leave."""
    everywhere = layers_of(prunable)
    for layers in everywhere.values():
        half = layers.units // 2
        for layer in layers.inner.values():
            rows = layer.out_features // layers.units
            size = half * rows
            layer.weight.data[-size:] = layer.weight.data[:size]
            if layer.bias is not None:
                layer.bias.data[-size:] = layer.bias.data[:size]

    def stays(place: Place) -> tuple[int, ...]:
        units = everywhere[place].units
        return tuple(range(units - units // 2))

    return StructurePlan(
        {
            part: tuple(BlockPlan(i, stays((part, i, "heads")), stays((part, i, "mlp"))) for i in range(count))
            for part, (_, count) in prunable.specs.items()
        }
    )


@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_what_copies_gave_is_given_by_what_stays(number: int) -> None:
    prunable = prunable_of(SUBJECTS[number])
    bare, fitted = compensated(prunable, twins(prunable))
    for without, with_it in zip(error(prunable, bare), error(prunable, fitted), strict=True):
        assert 0 <= with_it < 0.1 * without


def test_compensation_lowers_the_error_of_any_tower() -> None:
    for variant in SUBJECTS:
        prunable = prunable_of(variant)
        spec, count = prunable.specs["tower"]
        half = tuple(BlockPlan(i, (0, 1), tuple(range(0, spec.mlp, 2))) for i in range(count))
        bare, fitted = compensated(prunable, StructurePlan({"tower": half}))
        for without, with_it in zip(error(prunable, bare), error(prunable, fitted), strict=True):
            assert with_it < 0.6 * without


@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_removing_nothing_changes_nothing(number: int) -> None:
    """In float64; in float32 rounding alone moves weights by about 1e-5."""
    prunable = precise_subject(SUBJECTS[number])
    everything = StructurePlan({part: whole(spec, count) for part, (spec, count) in prunable.specs.items()})
    _, fitted = compensated(prunable, everything)
    before = prunable.module.state_dict()
    for name, value in fitted.state_dict().items():
        assert float((value - before[name]).abs().max()) <= 1e-6, name


def read(prunable: PrunableVlm, module: nn.Module, layers: Layers | nn.Linear) -> np.ndarray:
    """What an out matrix reads while a module runs all samples: [tokens, in]."""
    layer = layers.out if isinstance(layers, Layers) else layers
    found: list[np.ndarray] = []
    hook = layer.register_forward_pre_hook(lambda _, x: found.append(array(x[0]).reshape(-1, x[0].shape[-1])))
    with torch.no_grad():
        for batch in batches(prunable):
            module(**batch.inputs, use_cache=False)
    hook.remove()
    return np.concatenate(found)


@pytest.mark.parametrize("number", [0, 1, 2, 5, 6])
def test_every_layer_of_a_compensated_model_is_the_fit_of_what_it_hears_there(number: int) -> None:
    """What a layer hears depends on earlier layers only, so in the finished model it hears what it was fitted on."""
    prunable = prunable_of(SUBJECTS[number])
    plan = random_plan(prunable, 40 + number)
    _, fitted = compensated(prunable, plan)
    places = layers_of(prunable)
    names = {id(layer): name for name, layer in prunable.module.named_modules()}
    checked = 0
    for part, blocks in plan.blocks.items():
        for position, block in enumerate(blocks):
            for kind in ("heads", "mlp"):
                layers = places[part, block.block, kind]
                name = names[id(layers.out)].replace(f".{block.block}.", f".{position}.")
                small = fitted.get_submodule(name)
                assert isinstance(small, nn.Linear)
                columns = [c for unit in (block.heads if kind == "heads" else block.mlp) for c in layers.columns(unit)]
                x, stats = read(prunable, prunable.module, layers), read(prunable, fitted, small)
                pruned = np.zeros_like(x)
                pruned[:, columns] = stats
                bias = None if layers.out.bias is None else array(layers.out.bias)
                v, b = reference(array(layers.out.weight), bias, x, pruned, columns)
                np.testing.assert_allclose(array(small.weight), v, rtol=1e-3, atol=1e-4 * np.abs(v).max())
                if b is not None:
                    np.testing.assert_allclose(array(small.bias), b, rtol=1e-3, atol=1e-4 * np.abs(v).max())
                checked += 1
    assert checked >= 4


def test_parts_are_compensated_in_the_order_of_a_forward_pass_however_they_are_named() -> None:
    prunable = prunable_of(SOME[0])
    blocks = random_plan(prunable, 40).blocks
    states = [
        compensated(prunable, StructurePlan({part: blocks[part] for part in parts}))[1].state_dict()  # type: ignore[misc]
        for parts in (("tower", "language"), ("language", "tower"))
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
