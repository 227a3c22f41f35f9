"""Every mistake that exporters of Qwen-VL have made shows in the logits of the made checkpoints."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tests.references.qwen_generate import library_positions, merged_grids, qwen_model
from tests.references.qwen_talk import talk

every_variant = pytest.mark.parametrize("variant", QWEN_VARIANTS, ids=variant_name)
TWO_FIVE = [v for v in QWEN_VARIANTS if v["family"] == "qwen2_5_vl"]
THREE = [v for v in QWEN_VARIANTS if v["family"] == "qwen3_vl"]
VISIBLE = 0.02
Positions = NDArray[np.int64]


def last_logits(model: Any, inputs: dict[str, torch.Tensor], **more: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(**inputs, **more).logits[0, -1]
    return out


def expect_visible(variant: dict[str, Any], damage: Callable[[Any], object]) -> None:
    """The last logits move when `damage` has been done to a copy of the model."""
    folder = tiny_checkpoint(**variant)
    inputs, model = talk(folder), copy.deepcopy(qwen_model(folder))
    right = last_logits(model, inputs)
    damage(model)
    assert (last_logits(model, inputs) - right).abs().max() > VISIBLE


def ordinary(right: Positions, visual: NDArray[np.bool_], grids: list[tuple[int, int]]) -> Positions:
    return np.tile(np.arange(right.shape[1]), (3, 1))


def exchanged(right: Positions, visual: NDArray[np.bool_], grids: list[tuple[int, int]]) -> Positions:
    return right[[0, 2, 1]]


def late_text(right: Positions, visual: NDArray[np.bool_], grids: list[tuple[int, int]]) -> Positions:
    """Text goes on behind rows * columns."""
    return moved(right, visual, [rows * columns - max(rows, columns) for rows, columns in grids])


def early_text(right: Positions, visual: NDArray[np.bool_], grids: list[tuple[int, int]]) -> Positions:
    """Text goes on behind the rows, whatever the columns."""
    return moved(right, visual, [rows - max(rows, columns) for rows, columns in grids])


def moved(right: Positions, visual: NDArray[np.bool_], shifts: list[int]) -> Positions:
    wrong, total, left = right.copy(), 0, list(shifts)
    for index in range(right.shape[1]):
        if index and visual[index - 1] and not visual[index]:
            total += left.pop(0)
        wrong[:, index] += total
    return wrong


def absolute(right: Positions, visual: NDArray[np.bool_], grids: list[tuple[int, int]]) -> Positions:
    """Rows and columns counted from 0, wherever the picture stands."""
    wrong = right.copy()
    wrong[1:, visual] -= right[0, visual]
    return wrong


def running_time(right: Positions, visual: NDArray[np.bool_], grids: list[tuple[int, int]]) -> Positions:
    """Time goes on inside a picture."""
    wrong = right.copy()
    wrong[0, visual] += np.arange(visual.sum())
    return wrong


@every_variant
@pytest.mark.parametrize("mistake", [ordinary, exchanged, late_text, early_text, absolute, running_time])
def test_wrong_positions_show(variant: dict[str, Any], mistake: Callable[..., Positions]) -> None:
    folder = tiny_checkpoint(**variant)
    inputs, model = talk(folder), qwen_model(folder)
    right, _ = library_positions(folder, inputs)
    wrong = mistake(right, inputs["mm_token_type_ids"][0].bool().numpy(), merged_grids(folder, inputs))
    assert not np.array_equal(wrong, right)
    logits = [last_logits(model, inputs, position_ids=torch.tensor(at)[:, None]) for at in (right, wrong)]
    assert (logits[1] - logits[0]).abs().max() > VISIBLE


@every_variant
def test_another_layout_of_the_axes_shows(variant: dict[str, Any]) -> None:
    other = "interleaved" if variant["family"] != "qwen3_vl" else "in sections"

    def damage(model: Any) -> None:
        rotary = model.model.language_model.rotary_emb

        def interleaved(freq: torch.Tensor) -> torch.Tensor:
            pairs = [freq[index % 3, ..., index] for index in range(freq.shape[-1])]
            return torch.stack([*pairs, *pairs], dim=-1)

        def in_sections(freq: torch.Tensor) -> torch.Tensor:
            parts = [freq[axis] for axis in range(3)]
            split = [part.split(rotary.mrope_section, dim=-1)[axis] for axis, part in enumerate(parts)]
            return torch.cat([*split, *split], dim=-1)

        rotary.recomposition_frequencies = interleaved if other == "interleaved" else in_sections

    expect_visible(variant, damage)


@every_variant
def test_one_moment_taken_twice_shows(variant: dict[str, Any]) -> None:
    def damage(model: Any) -> None:
        weight = model.model.visual.patch_embed.proj.weight.data
        weight[:, :, 1] = weight[:, :, 0]

    expect_visible(variant, damage)


@pytest.mark.parametrize("variant", TWO_FIVE, ids=variant_name)
@pytest.mark.parametrize("blocks", ["all", "none", "others"])
def test_other_blocks_that_see_everything_show(variant: dict[str, Any], blocks: str) -> None:
    def damage(model: Any) -> None:
        tower = model.model.visual
        every = set(range(len(tower.blocks)))
        others = every - set(tower.fullatt_block_indexes)
        tower.fullatt_block_indexes = {"all": every, "none": set(), "others": others}[blocks]

    expect_visible(variant, damage)


@pytest.mark.parametrize("variant", TWO_FIVE, ids=variant_name)
def test_other_windows_show(variant: dict[str, Any]) -> None:
    expect_visible(
        variant, lambda model: setattr(model.model.visual, "window_size", model.model.visual.window_size + 16)
    )


@pytest.mark.parametrize("variant", THREE, ids=variant_name)
def test_positions_resampled_without_the_corners_show(variant: dict[str, Any]) -> None:
    expect_visible(variant, lambda model: setattr(model.model.visual, "interpolation_align_corners", False))


@pytest.mark.parametrize("variant", THREE, ids=variant_name)
def test_late_rows_at_another_layer_show(variant: dict[str, Any]) -> None:
    """Each behind the next layer, and the last nowhere."""

    def later(model: Any) -> None:
        decoder = model.model.language_model
        add, held = decoder._deepstack_process, list[torch.Tensor]()

        def one_late(states: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            held.append(rows)
            out: torch.Tensor = add(states, mask, held[-2]) if len(held) > 1 else states
            return out

        decoder._deepstack_process = one_late

    expect_visible(variant, later)


@every_variant
def test_a_forgotten_norm_scale_or_bias_shows(variant: dict[str, Any]) -> None:
    """Each kind of norm weight and bias, put back to what a fresh model has."""
    folder: Path = tiny_checkpoint(**variant)
    inputs, model = talk(folder), copy.deepcopy(qwen_model(folder))
    right = last_logits(model, inputs)
    kinds: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if re.search(r"(norm\w*|ln_q)\.weight$|\.bias$", name):
            kinds.setdefault(re.sub(r"\.\d+\.", ".N.", name), []).append(parameter)
    assert len(kinds) > 8
    for kind, parameters in kinds.items():
        kept = [parameter.detach().clone() for parameter in parameters]
        for parameter in parameters:
            parameter.data.fill_(0.0 if kind.endswith(".bias") else 1.0)
        shift = (last_logits(model, inputs) - right).abs().max()
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.data.copy_(value)
        assert shift > VISIBLE, kind


@pytest.mark.parametrize("variant", [v for v in QWEN_VARIANTS if "eps" in v], ids=variant_name)
def test_a_forgotten_epsilon_shows(variant: dict[str, Any]) -> None:
    def damage(model: Any) -> None:
        for module in model.model.language_model.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = 1e-6

    expect_visible(variant, damage)


@every_variant
def test_attention_is_neither_flat_nor_one_hot(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    model, inputs = copy.deepcopy(qwen_model(folder)), talk(folder)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(**inputs, output_attentions=True).attentions
    last = torch.stack([each[0, :, -1] for each in maps])
    entropy = -(last * last.clamp_min(1e-9).log()).sum(-1)
    assert 1 < entropy.median() < 0.97 * np.log(last.shape[-1])
