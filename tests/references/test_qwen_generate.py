"""The reference answerer of Qwen-VL: prompts of several pictures and turns, and what is left when visual tokens are dropped."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tests.references.qwen_generate import (
    library_positions,
    merged_grids,
    qwen_answer,
    qwen_inputs,
    qwen_model,
    rendered,
)
from tests.references.qwen_masked import masked_run, packed_answer, packed_run, rows_of, whole_run
from tests.references.qwen_pixels import image_processor
from tests.references.qwen_positions import prompt_positions
from tests.references.qwen_talk import TALK, some_kept, talk, talk_sizes

every_variant = pytest.mark.parametrize("variant", QWEN_VARIANTS, ids=variant_name)


@every_variant
def test_a_talk_is_expanded_as_the_processor_would(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    inputs = talk(folder)
    name = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}
    family = variant["family"]
    kind = getattr(importlib.import_module(f"transformers.models.{family}.processing_{family}"), name[family])
    processor = object.__new__(kind)  # its constructor needs torchvision
    processor.image_token, processor.image_processor = "<|image_pad|>", image_processor(folder)
    text = rendered(folder, TALK)
    for index in range(2):
        run = processor.replace_image_token(inputs, index)
        text = text.replace("<|image_pad|>", run.replace("image_pad", "held"), 1)
    ids = AutoTokenizer.from_pretrained(folder)(text.replace("<|held|>", "<|image_pad|>")).input_ids
    assert ids == inputs["input_ids"][0].tolist()
    assert merged_grids(folder, inputs) == [(6, 4), (2, 7)]


@every_variant
def test_positions_of_a_talk_are_those_of_the_reference(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    inputs = talk(folder)
    ours = prompt_positions(
        inputs["input_ids"][0].tolist(), qwen_model(folder).config.image_token_id, merged_grids(folder, inputs)
    )
    theirs = library_positions(folder, inputs)
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[1] == theirs[1]
    assert theirs[1] == theirs[0].max() + 1
    assert theirs[1] < inputs["input_ids"].shape[1]


@every_variant
def test_the_answer_is_the_greedy_one_at_these_positions(variant: dict[str, Any]) -> None:
    """generate neither samples nor penalises, and goes on at the position behind the prompt."""
    folder = tiny_checkpoint(**variant)
    inputs = talk(folder)
    answer = qwen_answer(folder, TALK, talk_sizes(folder), max_new_tokens=6)
    everything = [range(rows * columns) for rows, columns in merged_grids(folder, inputs)]
    assert packed_answer(folder, inputs, everything, max_new_tokens=6) == answer
    assert len(answer) > 1


@every_variant
def test_answers_tell_pictures_and_positions_apart(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    inputs = talk(folder)
    kept = some_kept(folder, inputs)
    answer, pruned = qwen_answer(folder, TALK, talk_sizes(folder)), packed_answer(folder, inputs, kept)
    assert len(set(answer)) >= 4
    assert qwen_answer(folder, TALK, talk_sizes(folder)[::-1]) != answer != pruned
    _, following = library_positions(folder, inputs)
    length, rows = inputs["input_ids"].shape[1], len(rows_of(folder, inputs, kept))
    # Behind the whole sequence, behind what is left of it, and as far behind the cache as the whole prompt would be.
    for wrong in (length, rows, rows + following - length):
        assert packed_answer(folder, inputs, kept, following=wrong) != pruned


@every_variant
def test_dropping_is_masking_in_every_layer(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    inputs = talk(folder)
    kept = some_kept(folder, inputs)
    masked, packed, whole = (
        masked_run(folder, inputs, kept),
        packed_run(folder, inputs, kept),
        whole_run(folder, inputs),
    )
    rows = rows_of(folder, inputs, kept)
    assert len(rows) < inputs["input_ids"].shape[1] - 10
    assert len(masked.states) == len(packed.states) == qwen_model(folder).config.text_config.num_hidden_layers + 1
    for ours, theirs in zip(packed.states, masked.states, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    np.testing.assert_allclose(packed.logits, masked.logits, atol=2e-4)
    assert np.abs(packed.logits[-1] - whole.logits[-1][None]).max() > 0.05


@every_variant
def test_renumbered_rows_are_another_model(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    inputs = talk(folder)
    kept = some_kept(folder, inputs)
    right = packed_run(folder, inputs, kept)
    plain = np.tile(np.arange(len(rows_of(folder, inputs, kept))), (3, 1))
    assert np.abs(packed_run(folder, inputs, kept, positions=plain).logits[-1] - right.logits[-1]).max() > 0.05


@pytest.mark.parametrize("variant", [v for v in QWEN_VARIANTS if v["family"] == "qwen3_vl"], ids=variant_name)
def test_late_rows_of_kept_tokens_matter(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    inputs = talk(folder)
    kept = some_kept(folder, inputs)
    right, without = (packed_run(folder, inputs, kept, late_rows=late) for late in (True, False))
    np.testing.assert_array_equal(right.states[0], without.states[0])
    assert np.abs(right.states[1] - without.states[1]).max() > 0.5
    assert np.abs(right.logits[-1] - without.logits[-1]).max() > 0.05


def test_text_alone_stands_at_plain_positions() -> None:
    for family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
        folder = tiny_checkpoint(family=family)
        words = [{"role": "user", "content": "what is this?"}]
        inputs = qwen_inputs(folder, words)
        assert inputs.keys() == {"input_ids", "attention_mask"}
        positions, following = library_positions(folder, inputs)
        np.testing.assert_array_equal(whole_run(folder, inputs, positions).logits, whole_run(folder, inputs).logits)
        answer = qwen_answer(folder, words, max_new_tokens=3)
        assert answer[0] == whole_run(folder, inputs).logits[-1].argmax()
        assert following == inputs["input_ids"].shape[1]
