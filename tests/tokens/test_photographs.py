"""Methods as token selection in a classifier: a made one always, a pretrained one on real photographs where they are given."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgeprune.plan import MethodPlan
from edgeprune.tokens.methods import METHODS
from edgeprune_profiles.measure.picture import draw_picture
from tests.exports import SHIPPED
from tools.photographs import agreement, classifier, photographs, table, usable

WEIGHTS, ARCHIVE = (os.environ.get(name) for name in ("EDGEPRUNE_VIT", "EDGEPRUNE_PHOTOGRAPHS"))
LAYER = 3


def made_classifier(folder: Path) -> Path:
    """A ViT of three blocks with random weights under timm's names."""
    generator, width, patches = torch.Generator().manual_seed(0), 64, 4
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + patches**2, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 8, 8), "patch_embed.proj.bias": (width,)}
    for i in range(3):
        block = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        block |= {"mlp.fc1": (128, width), "mlp.fc2": (width, 128), "norm1": (width,), "norm2": (width,)}
        for name, shape in block.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,), "head.weight": (7, width), "head.bias": (7,)}
    tensors = {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(tensors, folder / "vit.safetensors")
    return folder / "vit.safetensors"


def test_every_usable_method_runs_and_keeping_everything_changes_nothing(tmp_path: Path) -> None:
    model = classifier(made_classifier(tmp_path))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for seed in range(4):
            draw_picture(40, 50, seed=seed).save(tmp_path / "a.png")
            archive.write(tmp_path / "a.png", f"{seed}.png")
    pictures = list(photographs(tmp_path / "a.zip", model.config.image_size, None))
    names = [n for n in SHIPPED if usable(METHODS[n], MethodPlan(feature_layer=1, last_layer=2))]
    found = agreement(model, pictures, names, 1, [16, 4])
    assert len(pictures) == 4 and len(names) >= 15
    assert all(found[name, 16] == [1.0] * 4 for name in names)
    assert {len(values) for values in found.values()} == {4}
    assert table(found, [16, 4]).count("\n") == len(names) + 1


@pytest.mark.skipif(
    not (WEIGHTS and ARCHIVE),
    reason="set EDGEPRUNE_VIT to a pretrained ViT (timm names, safetensors) and EDGEPRUNE_PHOTOGRAPHS to a zip of photographs",
)
def test_class_attention_keeps_what_the_classifier_needs() -> None:
    model = classifier(Path(str(WEIGHTS)))
    pictures = list(photographs(Path(str(ARCHIVE)), model.config.image_size, 10))
    names = [n for n in METHODS if usable(METHODS[n], MethodPlan(feature_layer=LAYER, last_layer=LAYER + 1))]
    patches = (model.config.image_size // model.config.patch_size) ** 2
    found = agreement(model, pictures, names, LAYER, [patches, patches // 2])
    for name in names:
        assert sum(found[name, patches]) == len(pictures), f"{name}: keeping everything changes nothing"
        assert sum(found[name, patches // 2]) >= 0.4 * len(pictures), name
