"""The references for Qwen-VL's towers, pixels and grids against transformers' own functions and modules."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tests.references.qwen_grids import nearest_grid, stretch
from tests.references.qwen_pixels import image_processor, library_pixels, stretched, unflattened
from tests.references.qwen_rope import tower_angles
from tests.references.qwen_tower import block_order, in_block_order, resampled, window_order, window_side

every_variant = pytest.mark.parametrize("variant", QWEN_VARIANTS, ids=variant_name)


@every_variant
def test_angles_of_the_tower_are_those_of_its_module(variant: dict[str, Any]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint(**variant), dtype=torch.float32)
    tower, vision = model.model.visual, model.config.vision_config
    merge, width = vision.spatial_merge_size, tower.blocks[0].attn.head_dim
    grid = torch.tensor([[1, 4 * merge, 3 * merge]])
    cos, sin = tower.rotary_pos_emb(torch.zeros(1), get_vision_position_ids(grid, merge))
    angles = tower_angles(block_order(4 * merge, 3 * merge, merge), width)
    np.testing.assert_allclose(np.cos(angles), cos, atol=1e-5)
    np.testing.assert_allclose(np.sin(angles), sin, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns", "side"), list(product(range(1, 8), range(1, 8), range(1, 5))))
def test_windows_are_those_of_the_library(rows: int, columns: int, side: int) -> None:
    order, sizes = window_order(rows, columns, side)
    merge, patch = 2, 8
    index, lengths = get_vision_window_index(
        torch.tensor([[1, rows * merge, columns * merge]]), merge, side * merge * patch + patch // 2, patch
    )
    assert order == index.tolist()
    assert np.cumsum([0, *sizes]).tolist() == (lengths // merge**2).tolist()
    assert window_side(side * merge * patch + patch // 2, merge, patch) == side


@pytest.mark.parametrize("variant", [v for v in QWEN_VARIANTS if v["family"] == "qwen3_vl"], ids=variant_name)
@pytest.mark.parametrize("cells", [(1, 1), (1, 5), (3, 2), (7, 4)])
def test_positions_of_patches_are_those_that_the_tower_adds(variant: dict[str, Any], cells: tuple[int, int]) -> None:
    tower = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint(**variant), dtype=torch.float32).model.visual
    merge = tower.spatial_merge_size
    rows, columns = cells[0] * merge, cells[1] * merge
    table = tower.pos_embed.weight.detach()
    ours = in_block_order(resampled(table.numpy(), rows, columns), merge)
    added: list[torch.Tensor] = []
    hook = tower.blocks[0].register_forward_pre_hook(lambda module, inputs: added.append(inputs[0]))
    pixels = torch.zeros(rows * columns, tower.patch_embed.proj.weight[0].numel())
    with torch.no_grad():
        tower(pixels, grid_thw=torch.tensor([[1, rows, columns]]))
        theirs = added[0] - tower.patch_embed(pixels)
    hook.remove()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    side = int(len(table) ** 0.5)
    square = table.reshape(1, side, side, -1).permute(0, 3, 1, 2).double()
    whole = torch.nn.functional.interpolate(square, (rows, columns), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(resampled(table.numpy(), rows, columns), whole[0].permute(1, 2, 0), atol=1e-12)
    if rows != side:
        other = torch.nn.functional.interpolate(square, (rows, columns), mode="bilinear", align_corners=False)
        assert (other - whole).abs().max() > 0.1


@every_variant
def test_pixels_come_back_from_the_rows_of_the_processor(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    processor = image_processor(folder)
    unit = processor.patch_size * processor.merge_size
    image = noise(3 * unit + 5, 2 * unit - 3)
    picture = stretched(image, (2 * unit, 3 * unit))
    pixels, (rows, columns) = library_pixels(folder, picture)
    assert (rows, columns) == (2 * processor.merge_size, 3 * processor.merge_size)
    back = unflattened(pixels, rows, columns, processor.patch_size, processor.merge_size)
    mean, std = (np.array(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    plain = (np.asarray(picture).transpose(2, 0, 1) / 255 - mean) / std
    np.testing.assert_allclose(back, plain, atol=1e-6)


@every_variant
@pytest.mark.parametrize("size", [(90, 60), (64, 64), (33, 200), (300, 400)])
def test_resizing_first_is_what_the_processor_does(variant: dict[str, Any], size: tuple[int, int]) -> None:
    folder, image = tiny_checkpoint(**variant), noise(*size)
    processor = image_processor(folder)
    limits = processor.size["shortest_edge"], processor.size["longest_edge"]
    target = smart_resize(image.height, image.width, processor.patch_size * processor.merge_size, *limits)
    whole = processor(image, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(library_pixels(folder, stretched(image, target))[0], whole)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


SQUARE, WIDE, TALL, LARGE = (448, 448), (336, 560), (560, 336), (896, 896)


@pytest.mark.parametrize(
    ("picture", "grid"),
    [
        ((480, 600), SQUARE),  # a ratio of 1.25, stretched by 1.25 or by 1.333
        ((480, 640), WIDE),  # 1.333, stretched by 1.333 or by 1.25
        ((480, 480), SQUARE),
        ((300, 500), WIDE),
        ((500, 300), TALL),
        ((100, 4000), WIDE),
        ((3000, 3000), LARGE),
        ((633, 634), SQUARE),  # 401322 pixels: half of the large grid's 802816 is 401408
        ((634, 634), LARGE),
    ],
)
def test_a_picture_gets_the_grid_that_stretches_it_least(picture: tuple[int, int], grid: tuple[int, int]) -> None:
    assert nearest_grid(picture, [SQUARE, WIDE, TALL, LARGE]) == grid


@settings(deadline=None, max_examples=50)
@given(picture=st.tuples(st.integers(1, 3000), st.integers(1, 3000)), seed=st.integers(0, 9))
def test_neither_order_nor_transposition_matters(picture: tuple[int, int], seed: int) -> None:
    grids = [SQUARE, WIDE, TALL, (224, 224)]
    best = nearest_grid(picture, grids)
    shuffled = [grids[index] for index in np.random.default_rng(seed).permutation(len(grids))]
    assert nearest_grid(picture, [*shuffled, grids[0]]) == best
    assert stretch(picture, best) == min(stretch(picture, grid) for grid in grids)
    if len({stretch(picture, grid) for grid in grids[:3]}) == 3:
        assert nearest_grid(picture[::-1], grids) == best[::-1]
