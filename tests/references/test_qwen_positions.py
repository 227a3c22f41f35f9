"""The references for positions and angles of Qwen-VL against transformers' own functions and modules."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel, Qwen2_5_VLRotaryEmbedding
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel, Qwen2VLRotaryEmbedding
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel, Qwen3VLTextRotaryEmbedding

from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tests.references.qwen_positions import kept_rows, packed_positions, prompt_positions
from tests.references.qwen_rope import cos_sin, interleaved_axes, sectioned_axes

MODELS = {"qwen2_vl": Qwen2VLModel, "qwen2_5_vl": Qwen2_5_VLModel, "qwen3_vl": Qwen3VLModel}
ROTARY = {
    "qwen2_vl": Qwen2VLRotaryEmbedding,
    "qwen2_5_vl": Qwen2_5_VLRotaryEmbedding,
    "qwen3_vl": Qwen3VLTextRotaryEmbedding,
}
every_family = pytest.mark.parametrize("family", MODELS)
every_variant = pytest.mark.parametrize("variant", QWEN_VARIANTS, ids=variant_name)
IMAGE = 7
PROMPTS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4).flatmap(
    lambda grids: st.tuples(
        st.just(grids),
        # Text before, between and after; two pictures never touch, since each has its markers.
        st.tuples(*[st.integers(0 if place in (0, len(grids)) else 1, 4) for place in range(len(grids) + 1)]),
    )
)


def expanded(grids: list[tuple[int, int]], texts: tuple[int, ...]) -> list[int]:
    ids: list[int] = []
    for index, length in enumerate(texts):
        ids += [1] * length
        if index < len(grids):
            ids += [IMAGE] * (grids[index][0] * grids[index][1])
    return ids


@every_family
@settings(deadline=None, max_examples=50)
@given(prompt=PROMPTS)
def test_positions_are_those_of_get_rope_index(family: str, prompt: Any) -> None:
    grids, texts = prompt
    ids = expanded(grids, texts)
    positions, following = prompt_positions(ids, IMAGE, grids)
    model, merge = bare_model(family)
    expected, delta = model.get_rope_index(
        torch.tensor([ids]),
        mm_token_type_ids=torch.tensor([ids]).eq(IMAGE).int(),
        image_grid_thw=torch.tensor([[1, rows * merge, columns * merge] for rows, columns in grids]),
    )
    np.testing.assert_array_equal(positions, expected[:, 0])
    assert following == int(delta) + len(ids)


@functools.cache
def bare_model(family: str) -> tuple[Any, int]:
    """Something that has the configuration alone, which is all that positions need."""
    config = AutoConfig.from_pretrained(tiny_checkpoint(family=family))
    model: Any = object.__new__(MODELS[family])
    torch.nn.Module.__init__(model)
    model.config = config
    return model, config.vision_config.spatial_merge_size


@settings(deadline=None, max_examples=50)
@given(prompt=PROMPTS, seed=st.integers(0, 99))
def test_tokens_that_are_left_out_move_nobody(prompt: Any, seed: int) -> None:
    grids, texts = prompt
    draw = np.random.default_rng(seed)
    kept = [[t for t in range(rows * columns) if draw.random() < 0.5] for rows, columns in grids]
    ids = expanded(grids, texts)
    whole, following = prompt_positions(ids, IMAGE, grids)
    rows = kept_rows(ids, IMAGE, kept)
    packed, packed_following = packed_positions(texts, grids, kept)
    np.testing.assert_array_equal(packed, whole[:, rows])
    assert packed_following == following


def test_positions_by_hand() -> None:
    """Two texts, a picture of 2 x 3, one text: time stands still, and text goes on behind the longer side."""
    positions, following = prompt_positions([1, 1, *[IMAGE] * 6, 1], IMAGE, [(2, 3)])
    assert positions.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]
    assert following == 6


@every_variant
def test_angles_of_the_decoder_are_those_of_its_module(variant: dict[str, Any]) -> None:
    config = AutoConfig.from_pretrained(tiny_checkpoint(**variant)).text_config
    sections, theta = config.rope_parameters["mrope_section"], config.rope_parameters["rope_theta"]
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    interleaved = variant["family"] == "qwen3_vl"
    axes = interleaved_axes(sections, width // 2) if interleaved else sectioned_axes(sections)
    assert len(axes) == width // 2
    positions = np.random.default_rng(0).integers(0, 300, (3, 40))
    cos, sin = cos_sin(positions, axes, theta)
    rotary: Any = ROTARY[variant["family"]]
    theirs = rotary(config)(torch.zeros(1, dtype=torch.float32), torch.tensor(positions)[:, None])
    np.testing.assert_allclose(cos, theirs[0][0], atol=1e-4)
    np.testing.assert_allclose(sin, theirs[1][0], atol=1e-4)
    for other in (sectioned_axes([sections[1], sections[0], sections[2]]), [0] * (width // 2)):
        if other != axes:
            assert np.abs(cos_sin(positions, other, theta)[0] - cos).max() > 0.1


def test_sections_that_fit_no_period_of_three() -> None:
    assert interleaved_axes((4, 2, 2), 8) == [0, 1, 2, 0, 1, 2, 0, 0]
    assert interleaved_axes((3, 4, 3), 10) == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]  # the fourth row pair would be pair 10
    assert interleaved_axes((24, 20, 20), 64).count(0) == 24
    assert sectioned_axes((1, 2, 5)) == [0, 1, 1, 2, 2, 2, 2, 2]
