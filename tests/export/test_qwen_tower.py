"""What the towers of Qwen-VL show, graph by graph, against a reference that rebuilds their blocks from plain attention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeprune.models import open_checkpoint
from edgeprune.tokens.readings import reads
from edgeprune_export.graphs.connector import store_connector
from edgeprune_export.graphs.tower import store_tower, tower_graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.pictures.pixels import tiles_from_image
from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tests.references.qwen_generate import noise, qwen_model
from tests.references.qwen_pixels import library_pixels, stretched
from tests.references.qwen_readings import cell_keys, cell_map, cell_received, shown_blocks

#: Windows with whole blocks at odd places, a merge of 3, a resampled table.
CHOSEN = (2, 3, 5, 8)


@pytest.mark.parametrize("number", CHOSEN, ids=[variant_name(QWEN_VARIANTS[n]) for n in CHOSEN])
def test_readings_of_a_grid_are_those_of_the_reference(number: int, tmp_path: Path) -> None:
    folder = tiny_checkpoint(**QWEN_VARIANTS[number])
    plain = open_checkpoint(folder).spec
    step = plain.vision.patch_px * (plain.vision.window or 2 * plain.connector.merge)
    checkpoint = open_checkpoint(folder, sizes=[(2 * step, step), (step, 3 * step)])
    model, read = checkpoint.spec, checkpoint.weights.blocks
    whole = [i for i in range(model.vision.layers) if model.vision.window_of(i) is None]
    asked = reads("projected", keys=range(model.vision.layers), map=whole, received=whole)
    with WeightsWriter(tmp_path / "weights.bin") as writer:
        list(store_tower(writer, read, model, asked, "fp32"))
        store_connector(writer, read, model.connector, "fp32")
    image, merge, side = noise(60, 90), model.connector.merge, model.picture.tile.side
    for view in model.picture.views:
        tower = replace(model.vision, view=view)
        graph = tower_graph(model, tower, asked, writer, "weights.bin")
        onnx.save(graph.model(), tmp_path / "tower.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "tower.onnx", providers=["CPUExecutionProvider"])
        shown = stretched(image, view)
        pixels = tiles_from_image(shown, model.picture)
        assert pixels.shape == (1, 3, *view)
        names = [output.name for output in session.get_outputs()]
        ours = dict(zip(names, session.run(None, {"pixels": pixels}), strict=True))
        rows, grid = library_pixels(folder, shown)
        blocks = shown_blocks(qwen_model(folder), torch.from_numpy(rows), *grid)
        inside = model.picture.tile.units_of(view)
        outside = np.setdiff1d(np.arange(side**2), inside)
        for i, block in enumerate(blocks):
            _equal(ours[f"keys_{i}"][0], cell_keys(block, merge), inside, outside)
        for i in whole:
            _equal(ours[f"received_{i}"][0], cell_received(blocks[i], merge), inside, outside)
            found = ours[f"map_{i}"][0]
            assert not found[outside].any() and not found[:, outside].any()
            np.testing.assert_allclose(found[np.ix_(inside, inside)], cell_map(blocks[i], merge), atol=1e-6)


def _equal(found: Any, expected: Any, inside: Any, outside: Any) -> None:
    """Tokens of the grid have the reference's values, all others of the tile are zero."""
    assert not found[outside].any()
    np.testing.assert_allclose(found[inside], expected, atol=2e-5)
