"""Every published method equals its reference on what the reference model's trained tower really shows of a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from edgeprune.tokens.seen import outputs_from, union
from PIL import Image

from edgeprune.models import open_checkpoint
from edgeprune.plan import MethodPlan
from edgeprune.tokens.methods import METHODS
from edgeprune_export.gate.eager import EagerReference
from edgeprune_runtime.pictures.entropy import patch_entropy
from edgeprune_runtime.pictures.packed import layout_from_size
from edgeprune_runtime.pictures.tiling.anyres import tiles_from_image
from tests.references.picture import Picture
from tests.tokens.test_selectors_equal_references import REFERENCES, same

ROOT = Path(__file__).resolve().parents[2]
#: (height, width): two tiles beside the thumbnail, the second one with padding.
SIZES = ((112, 224), (80, 224))


@pytest.fixture(scope="module")
def seen() -> list[tuple[dict[str, torch.Tensor], MethodPlan, int]]:
    """Readings of the picture at each size, from transformers' own modules."""
    checkpoint = open_checkpoint(ROOT / "tools" / "reference_vlm" / "checkpoint")
    spec = checkpoint.spec
    plan = MethodPlan(feature_layer=spec.feature_layer, last_layer=spec.vision.layers - 1)
    reference = EagerReference(checkpoint, union(METHODS[name].reads(plan) for name in REFERENCES))
    found = []
    for height, width in SIZES:
        picture = Image.open(ROOT / "docs" / "images" / "scene.png").convert("RGB").resize((width, height))
        tiles = tiles_from_image(picture, spec.preprocess)
        entropy = np.zeros((spec.preprocess.tiles_max, spec.preprocess.tokens_per_tile), np.float32)
        for t, tile in enumerate(tiles):
            entropy[t] = patch_entropy(tile, spec.preprocess)
        words = checkpoint.weights.read_rows("embed.weight", 40, 44)
        host = {"question": words, "question_weight": np.full(4, 0.25, np.float32), "entropy": entropy}
        layout = layout_from_size(height, width, spec.preprocess)
        named = reference.seen(torch.from_numpy(tiles), layout, {k: torch.from_numpy(v) for k, v in host.items()})
        named |= {name: torch.from_numpy(value) for name, value in host.items()}
        found.append((named, plan, spec.vision.heads))
    return found


@pytest.mark.parametrize("name", [*REFERENCES])
def test_a_method_keeps_what_its_reference_keeps(
    name: str, seen: list[tuple[dict[str, torch.Tensor], MethodPlan, int]]
) -> None:
    for named, plan, heads in seen:
        one = outputs_from(named)
        by_layer = {
            kind: {layer: value.numpy() for layer, value in getattr(one, kind).items()}
            for kind in ("attention", "wide", "maps", "keys")
        }
        plain = ("features", "slot", "region", "class_feature", "projected", "question", "question_weight", "entropy")
        arrays = {key: getattr(one, key).numpy() for key in plain}
        picture = Picture(**arrays, **by_layer, mosaic=tuple(one.mosaic.tolist()), heads=heads)
        reduction = METHODS[name].reduce(one, 38, plan)
        rows = REFERENCES[name][0](picture, 38, feature_layer=plan.feature_layer, last_layer=plan.last_layer)
        assert same(reduction, rows)
