"""Methods as token selection in a real classifier on real photographs; needs files that cannot be part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeprune.plan import TokenPlan
from edgeprune.tokens.methods import METHODS
from tools.photographs import agreement, classifier, photographs, usable

WEIGHTS, ARCHIVE = (os.environ.get(name) for name in ("EDGEPRUNE_VIT", "EDGEPRUNE_PHOTOGRAPHS"))
LAYER = 3

pytestmark = pytest.mark.skipif(
    not (WEIGHTS and ARCHIVE),
    reason="set EDGEPRUNE_VIT to a pretrained ViT (timm names, safetensors) and EDGEPRUNE_PHOTOGRAPHS to a zip of photographs",
)


def test_class_attention_keeps_what_the_classifier_needs() -> None:
    model = classifier(Path(str(WEIGHTS)))
    pictures = list(photographs(Path(str(ARCHIVE)), model.config.image_size, 10))
    names = [n for n in METHODS if usable(METHODS[n], TokenPlan(feature_layer=LAYER, last_layer=LAYER + 1))]
    patches = (model.config.image_size // model.config.patch_size) ** 2
    found = agreement(model, pictures, names, LAYER, [patches, patches // 2])
    for name in names:
        assert sum(found[name, patches]) == len(pictures), f"{name}: keeping everything changes nothing"
        assert sum(found[name, patches // 2]) >= 0.4 * len(pictures), name
