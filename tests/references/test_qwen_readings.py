"""What the towers of Qwen-VL show is what their blocks go on with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tests.references.qwen_generate import noise, qwen_model
from tests.references.qwen_pixels import image_processor, library_pixels, stretched
from tests.references.qwen_readings import (
    ShownBlock,
    cell_keys,
    cell_map,
    cell_received,
    per_cell,
    shown_blocks,
    tower_order,
)

every_variant = pytest.mark.parametrize("variant", QWEN_VARIANTS, ids=variant_name)
every_grid = pytest.mark.parametrize("cells", [(4, 6), (3, 5)])


def seen(variant: dict[str, Any], cells: tuple[int, int]) -> tuple[list[ShownBlock], list[torch.Tensor], int]:
    """Blocks as shown, what their attention gave [P, C], and how many patches are merged."""
    folder = tiny_checkpoint(**variant)
    model, processor = qwen_model(folder), image_processor(folder)
    merge = processor.merge_size
    unit = processor.patch_size * merge
    pixels, (rows, columns) = library_pixels(folder, stretched(noise(60, 90), (cells[0] * unit, cells[1] * unit)))
    given: list[torch.Tensor] = []
    hooks = [
        block.attn.register_forward_hook(lambda module, inputs, out: given.append(out.detach()))
        for block in model.model.visual.blocks
    ]
    blocks = shown_blocks(model, torch.from_numpy(pixels), rows, columns)
    for hook in hooks:
        hook.remove()
    order, _ = tower_order(model, rows, columns)
    return blocks, [out[np.argsort(order)] for out in given], merge


@every_variant
@every_grid
def test_maps_and_values_make_what_the_block_goes_on_with(variant: dict[str, Any], cells: tuple[int, int]) -> None:
    blocks, given, _ = seen(variant, cells)
    attentions = [block.attn for block in qwen_model(tiny_checkpoint(**variant)).model.visual.blocks]
    for block, out, attention in zip(blocks, given, attentions, strict=True):
        mixed = np.einsum("hqk,hkd->qhd", block.maps(), block.values).reshape(len(out), -1)
        weight, bias = (value.detach().double().numpy() for value in (attention.proj.weight, attention.proj.bias))
        np.testing.assert_allclose(mixed @ weight.T + bias, out, atol=2e-5)


@every_variant
def test_only_the_blocks_of_the_configuration_see_everything(variant: dict[str, Any]) -> None:
    blocks, _, _ = seen(variant, (4, 6))
    full = variant.get("full_blocks", (1,)) if variant["family"] == "qwen2_5_vl" else range(len(blocks))
    assert [index for index, block in enumerate(blocks) if block.sees_everything] == list(full)


@every_variant
def test_readings_of_cells_are_means(variant: dict[str, Any]) -> None:
    blocks, _, merge = seen(variant, (3, 5))
    for block in blocks:
        between, received, keys = cell_map(block, merge), cell_received(block, merge), cell_keys(block, merge)
        assert (between.shape, received.shape, keys.shape[0]) == ((15, 15), (15,), 15)
        np.testing.assert_allclose(between.sum(axis=1) * merge**2, 1)
        np.testing.assert_allclose(between.mean(axis=0), received)
        if block.sees_everything:  # windows of one cell each share out nothing
            assert received.std() > 0.01 * received.mean()
    np.testing.assert_array_equal(per_cell(np.arange(8.0), 0, 2), [1.5, 5.5])
