"""Every importance is what plain loops over activations, gradients and weights, recorded apart from the product, come to."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.activations import ACT2FN

from edgeprune.structure.importance import BLOCK_IMPORTANCES, IMPORTANCES
from edgeprune.structure.sites import PruningSite, sites
from edgeprune.structure.statistics import Statistics
from edgeprune_export.bundle.progress import silent
from edgeprune_export.pruning.calibration_stats import collect_statistics, removal_losses
from edgeprune_export.pruning.vlm import PrunableVlm
from tests.pruning.made import QWEN, SOME, Layers, Place, array, blocks_of, layers_of, prunable_of, without
from tests.references import structure_importance as reference
from tests.references import structure_readings as readings

NEEDS = ("inputs", "moments", "gradients", "core", "similarity", "visual")
SUBJECTS = (*SOME[:3], *QWEN)
IDS = ["-".join(str(value) for value in variant.values()) for variant in SUBJECTS]
#: `random` has no reference; that of `dimap` compares all pairs of weights, which random small sites allow.
ELSEWHERE = ("random", "dimap")
#: The product works in float32, the references in float64 on what float32 left.
CLOSE = {"obs": 1e-4, "taylor": 1e-3}


@dataclass
class Record:
    """What one site read, per sample: X and dL/dX; and what came out of the layer before the activation."""

    x: list[np.ndarray] = field(default_factory=list)
    grad: list[np.ndarray] = field(default_factory=list)
    before: list[np.ndarray] = field(default_factory=list)


@dataclass
class Recorded:
    """One subject, heard by the product and recorded by hooks of this file."""

    prunable: PrunableVlm
    statistics: Statistics
    layers: dict[Place, Layers]
    at: dict[Place, Record]
    last_rows: list[list[np.ndarray]]  # per layer, per sample: attention [heads, positions] of the last prompt position
    visual: list[set[int]]  # per sample
    stream: dict[tuple[str, int], tuple[list[np.ndarray], list[np.ndarray]]]  # inputs and outputs of every block


@functools.cache
def recorded(number: int) -> Recorded:
    prunable = prunable_of(SUBJECTS[number])
    found = Recorded(prunable, Statistics(), layers_of(prunable), {}, [], [], {})
    found.at.update({place: Record() for place in found.layers})
    for sample in range(prunable.samples):
        _one(found, sample)
    found.statistics = collect_statistics(prunable_of(SUBJECTS[number]), NEEDS, silent)  # type: ignore[arg-type]
    return found


def _one(found: Recorded, sample: int) -> None:
    module: Any = found.prunable.module
    batch = found.prunable.batch([sample])
    assert batch.rows is not None and batch.labels is not None
    last = int(batch.rows[0])
    kept: dict[Place, torch.Tensor] = {}
    hooks = []
    for place, layers in found.layers.items():

        def hear_x(_: Any, inputs: Any, place: Place = place) -> None:
            inputs[0].retain_grad()
            kept[place] = inputs[0]

        hooks.append(layers.out.register_forward_pre_hook(hear_x))
        if place[2] == "mlp":
            first = layers.inner.get("gate_proj", layers.inner.get("fc1"))
            assert first is not None
            hooks.append(first.register_forward_hook(lambda _, __, y, p=place: found.at[p].before.append(array(y))))
    for part in ("tower", "language"):
        for i, block in enumerate(blocks_of(module, part)):  # type: ignore[arg-type]

            def hear_block(_: Any, inputs: Any, output: Any, key: tuple[str, int] = (part, i)) -> None:
                into, out_of = found.stream.setdefault(key, ([], []))
                width = inputs[0].shape[-1]
                into.append(array(inputs[0]).reshape(-1, width))
                out_of.append(array(output[0] if isinstance(output, tuple) else output).reshape(-1, width))

            hooks.append(block.register_forward_hook(hear_block))
    inputs = {k: v.clone() for k, v in batch.inputs.items()}
    inputs["pixel_values"].requires_grad_(True)
    logits = module(**inputs).logits[0]
    # -log p(token) of every answer token, averaged over the tokens: the loss of one sample
    answer = batch.labels
    cross_entropy(logits[last : last + len(answer)], answer).backward()
    for hook in hooks:
        hook.remove()
    for place, x in kept.items():
        assert x.grad is not None
        found.at[place].x.append(array(x).reshape(-1, x.shape[-1]))
        found.at[place].grad.append(array(x.grad).reshape(-1, x.shape[-1]))
    ids = inputs["input_ids"][:, : last + 1]
    prompt = {k: v for k, v in inputs.items() if k != "input_ids" and k != "attention_mask"}
    if "mm_token_type_ids" in prompt:
        prompt["mm_token_type_ids"] = prompt["mm_token_type_ids"][:, : last + 1]
    module.set_attn_implementation("eager")
    with torch.no_grad():
        seen = module(**prompt, input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True)
    module.set_attn_implementation("sdpa")
    found.last_rows.append([array(layer[0, :, last]) for layer in seen.attentions])
    image = module.config.image_token_id
    found.visual.append({i for i, token in enumerate(ids[0].tolist()) if token == image})


def expected(name: str, found: Recorded, place: Place) -> list[float]:
    """The reference's scores."""
    layers, record = found.layers[place], found.at[place]
    x, out = np.concatenate(record.x), array(layers.out.weight)
    heads = place[2] == "heads"
    columns = [layers.columns(unit) for unit in range(layers.units)]
    inner = [array(layer.weight) for layer in layers.inner.values()]
    biases = [None if layer.bias is None else array(layer.bias) for layer in layers.inner.values()]
    qkv = {key: (array(layer.weight), layer.bias) for key, layer in layers.inner.items()} if heads else {}
    w = [qkv[key][0] for key in ("q_proj", "k_proj", "v_proj")] if heads else []
    b = [None if qkv[k][1] is None else array(qkv[k][1]) for k in ("q_proj", "k_proj", "v_proj")] if heads else []
    if name == "magnitude":
        if heads:
            return reference.magnitude_heads(*w, out, *b, layers.units)  # type: ignore[arg-type]
        return reference.magnitude_channels(inner, biases, out)
    if name == "taylor":
        return reference.taylor(record.x, record.grad, columns)
    if name == "obs":
        return reference.obs(out, x, columns)
    if name == "amp" or (name == "core" and heads):
        return reference.amp_heads(out, x, layers.units, layers.queries) if heads else reference.amp_channels(x)
    if name == "core":
        act = ACT2FN[activation_of(found, place)]
        return readings.core_channels(
            np.concatenate([array(act(torch.from_numpy(y).float())).reshape(-1, y.shape[-1]) for y in record.before])
        )
    if name == "yopo" and heads:
        return readings.yopo_heads([sample[place[1]] for sample in found.last_rows], found.visual, layers.units)
    assert name in ("activation", "yopo"), "a new importance needs a reference"
    return reference.activation(out, x, columns)


def activation_of(found: Recorded, place: Place) -> str:
    config: Any = found.prunable.module.config
    if place[0] == "tower":
        return "silu" if getattr(config.vision_config, "use_swiglu_ffn", False) else config.vision_config.hidden_act
    return str(config.text_config.hidden_act)


@pytest.mark.parametrize("name", [name for name in IMPORTANCES if name not in ELSEWHERE])
@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_an_importance_of_a_real_model_equals_its_reference(number: int, name: str) -> None:
    found, importance = recorded(number), IMPORTANCES[name]
    checked = 0
    for site in sites(found.prunable.module, found.prunable.specs):
        place: Place = (site.part, site.block, site.kind)
        if site.part not in importance.parts:
            continue
        scores = importance.score(site, found.statistics.of(site), 0)
        wanted = np.asarray(expected(name, found, place))
        assert scores.dtype == torch.float64 and scores.shape == (found.layers[place].units,)
        assert wanted.max() > 0, "nothing to compare"
        np.testing.assert_allclose(scores.numpy(), wanted, rtol=CLOSE.get(name, 1e-5), atol=1e-6 * wanted.max())
        checked += 1
    assert checked >= 4


@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_every_site_up_to_the_feature_layer_is_heard_and_no_other(number: int) -> None:
    found = recorded(number)
    assert [(s.part, s.block, s.kind) for s in sites(found.prunable.module, found.prunable.specs)] == sorted(
        found.layers, key=lambda place: (place[0] != "tower", place[1], place[2] != "heads")
    )
    assert set(found.statistics.at) == set(found.layers)
    assert found.statistics.samples == found.prunable.samples
    for place, record in found.at.items():
        assert found.statistics.at[place].tokens == sum(len(x) for x in record.x)


@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_block_importances_equal_their_references(number: int) -> None:
    found = recorded(number)
    for part, (_, count) in found.prunable.specs.items():
        for i in range(count):
            into, out_of = found.stream[part, i]
            score = BLOCK_IMPORTANCES["similarity"].score
            assert score is not None
            wanted = readings.similarity(np.concatenate(into), np.concatenate(out_of))
            assert score(found.statistics.block(part, i)) == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    look = BLOCK_IMPORTANCES["visual"].score
    assert look is not None and BLOCK_IMPORTANCES["visual"].parts == ("language",)
    for i in range(found.prunable.specs["language"][1]):
        wanted = readings.visual([sample[i] for sample in found.last_rows], found.visual)
        assert 0 < look(found.statistics.block("language", i)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_removal_is_the_divergence_of_the_next_token_without_the_block(number: int) -> None:
    found = recorded(number)
    module: Any = found.prunable.module

    def next_token(sample: int) -> np.ndarray:
        batch = found.prunable.batch([sample])
        assert batch.rows is not None
        with torch.no_grad():
            logits = module(**batch.inputs).logits[0, int(batch.rows[0])]
        return array(torch.softmax(logits.double(), -1))

    everyone = range(found.prunable.samples)
    whole = [next_token(sample) for sample in everyone]
    for part, (_, count) in found.prunable.specs.items():
        losses = removal_losses(found.prunable, part, silent)
        assert len(losses) == count
        for i, loss in enumerate(losses):
            block = blocks_of(module, part)[i]
            hook = without(block)
            wanted = readings.removal(whole, [next_token(sample) for sample in everyone])
            hook.remove()
            assert 0 < loss == pytest.approx(wanted, rel=1e-4)


def test_without_an_answer_the_model_is_asked_for_its_own_words() -> None:
    prunable = recorded(0).prunable
    batch = prunable.batch([1])
    assert batch.rows is not None and batch.labels is not None and 1 <= len(batch.labels) <= 8
    with torch.no_grad():
        said = prunable.logits(prunable.module, batch).argmax(dim=-1)
    assert torch.equal(said, batch.labels)


def test_a_random_draw_is_of_its_seed_and_site_alone() -> None:
    found = recorded(0)
    draw = IMPORTANCES["random"].score
    everywhere = sites(found.prunable.module, found.prunable.specs)
    drawn = {seed: [draw(site, found.statistics.of(site), seed) for site in everywhere] for seed in (0, 1)}
    again = [draw(site, found.statistics.of(site), 0) for site in reversed(everywhere)][::-1]
    assert all(torch.equal(one, other) for one, other in zip(drawn[0], again, strict=True))
    streams = [tuple(one[:2].tolist()) for seed in (0, 1) for one in drawn[seed]]
    assert len(set(streams)) == len(streams)
    assert all(float(one.min()) >= 0 and float(one.max()) < 1 for one in drawn[0])


def test_every_importance_says_what_it_has_to_hear() -> None:
    """Scores need nothing that is not asked for: with only that heard, they are the same."""
    found = recorded(1)
    for name in IMPORTANCES:
        importance = IMPORTANCES[name]
        stats = collect_statistics(prunable_of(SOME[1]), importance.needs, silent)
        for site in sites(found.prunable.module, found.prunable.specs):
            if site.part in importance.parts:
                alone, among = (importance.score(site, s.of(site), 3) for s in (stats, found.statistics))
                torch.testing.assert_close(alone, among, rtol=1e-4, atol=1e-12)


def test_the_site_of_a_module_is_the_units_of_its_description() -> None:
    found = recorded(0)
    for site in sites(found.prunable.module, found.prunable.specs):
        assert isinstance(site, PruningSite)
        layers = found.layers[site.part, site.block, site.kind]
        assert site.out is layers.out and set(map(id, site.inner)) == set(map(id, layers.inner.values()))
        assert site.units == layers.units and site.width == len(layers.columns(0))
