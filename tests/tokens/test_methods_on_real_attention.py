"""Every published method equals its reference on what the reference model's trained tower really shows of a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeprune.models import open_checkpoint
from edgeprune.plan import MethodPlan
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.readings import TowerOutputs, outputs_from, union
from edgeprune_export.gate.eager import EagerReference
from edgeprune_export.graphs.select import geometry_of
from edgeprune_runtime.pictures.entropy import unit_entropy
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.pictures.pixels import tiles_from_image
from tests.references.picture import Picture
from tests.tokens.layouts import Layout
from tests.tokens.pictures import picture_of
from tests.tokens.test_selectors_equal_references import REFERENCES, same

ROOT = Path(__file__).resolve().parents[2]
#: (height, width): two tiles beside the thumbnail, the second one with padding.
SIZES = ((112, 224), (80, 224))


@pytest.fixture(scope="module")
def seen() -> list[tuple[TowerOutputs, Picture, MethodPlan]]:
    """Readings of the picture at each size, from transformers' own modules."""
    checkpoint = open_checkpoint(ROOT / "tools" / "reference_vlm" / "checkpoint")
    spec = checkpoint.spec
    plan = MethodPlan(feature_layer=spec.feature_layer, last_layer=spec.vision.layers - 1)
    reference = EagerReference(checkpoint, union(METHODS[name].reads(plan) for name in REFERENCES))
    found = []
    for height, width in SIZES:
        picture = Image.open(ROOT / "docs" / "images" / "scene.png").convert("RGB").resize((width, height))
        tiles, tile = tiles_from_image(picture, spec.picture), spec.picture.tile
        entropy = np.zeros((spec.picture.tiles_max, tile.units), np.float32)
        for t, pixels in enumerate(tiles):
            entropy[t] = unit_entropy(pixels, tile)
        words = checkpoint.weights.read_rows("embed.weight", 40, 44)
        host = {"question": words, "question_weight": np.full(4, 0.25, np.float32), "entropy": entropy}
        packed = pack_picture(spec.picture.place(height, width), spec.picture)
        given = {name: torch.from_numpy(value) for name, value in host.items()}
        named = reference.outputs(torch.from_numpy(tiles), packed, given) | given
        outputs = outputs_from(named, geometry_of(spec))
        layout = Layout(packed.slot, packed.region, packed.places, outputs.geometry, packed.canvas)
        found.append((outputs, picture_of(outputs, layout, spec.vision.heads), plan))
    return found


@pytest.mark.parametrize("name", [*REFERENCES])
def test_a_method_keeps_what_its_reference_keeps(
    name: str, seen: list[tuple[TowerOutputs, Picture, MethodPlan]]
) -> None:
    for outputs, picture, plan in seen:
        reduction = METHODS[name].reduce(outputs, 38, plan)
        rows = REFERENCES[name][0](picture, 38, feature_layer=plan.feature_layer, last_layer=plan.last_layer)
        assert same(reduction, rows)
