"""What a tower graph gives of towers whose patches are merged: what transformers' own tower shows, each unit the mean of its patches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from edgeprune.models import open_checkpoint
from edgeprune_runtime import Bundle
from tests.checkpoints import FAMILY_VARIANTS, tiny_checkpoint, variant_name
from tests.exports import exported

#: Between them every reading that the tower can give.
METHODS = {
    "internvl": ("visionzip", "prumerge", "hiprune", "recoverable", "received"),
    "smolvlm": ("visionzip", "hiprune", "divprune", "received"),
}
#: A tower with a class token, one without, and one whose merge is odd and whose tiles have pixels that belong to no patch.
VARIANTS = (
    FAMILY_VARIANTS[0],
    *(v for v in FAMILY_VARIANTS if v["family"] == "smolvlm" and v["merge"] == 2),
    *(v for v in FAMILY_VARIANTS if v["family"] == "smolvlm" and v["merge"] == 3),
)


class Shown:
    """What transformers' tower shows of one tile, in float64 and per patch."""

    def __init__(self, folder: Path, tower: str, pixels: torch.Tensor) -> None:
        from transformers import AutoModelForImageTextToText

        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        module = model.eval().get_submodule(tower)
        self._made: dict[str, torch.Tensor] = {}
        for name, part in module.named_modules():
            if name.endswith(("q_proj", "k_proj")):
                part.register_forward_hook(self._listener(name))
        with torch.no_grad():
            self._attentions = module(pixels[None], output_attentions=True).attentions

    def _listener(self, name: str) -> Any:
        def listen(module: Any, inputs: Any, output: torch.Tensor) -> None:
            self._made[name] = output[0].double()

        return listen

    def attention(self, layer: int) -> torch.Tensor:
        """[H, R, R]"""
        return self._attentions[layer][0].double()

    def rows(self, layer: int, kind: str) -> torch.Tensor:
        """Queries or keys, [R, H * d]."""
        (name,) = (name for name in self._made if f".{layer}." in name and name.endswith(f"{kind}_proj"))
        return self._made[name]


def per_unit(values: torch.Tensor, side: int, merge: int) -> torch.Tensor:
    """[side^2, ...] -> [(side / merge)^2, ...]: the mean of each block of patches, by loops."""
    means = []
    for top in range(0, side, merge):
        for left in range(0, side, merge):
            block = [(top + i) * side + left + j for i in range(merge) for j in range(merge)]
            means.append(values[block].mean(dim=0))
    return torch.stack(means)


def expected(shown: Shown, spec: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """(kind_layer, value without the leading 1) of everything that a block can be asked for."""
    side, merge, first = spec.vision.patches, spec.connector.merge, spec.vision.class_tokens

    def columns(rows: torch.Tensor) -> torch.Tensor:
        """[..., R] of keys -> [..., N]."""
        return per_unit(rows[..., first:].movedim(-1, 0), side, merge).movedim(0, -1)

    for layer in range(spec.feature_layer + 1):
        weights, keys = shown.attention(layer), shown.rows(layer, "k")
        units = per_unit(keys[first:], side, merge)
        yield f"keys_{layer}", units.view(len(units), spec.vision.heads, -1)
        mean = columns(weights.mean(dim=0))
        yield f"map_{layer}", torch.cat([mean[:first], per_unit(mean[first:], side, merge)])
        yield f"received_{layer}", mean[first:].mean(dim=0)
        if first:
            yield f"attention_{layer}", columns(weights[:, 0])
            wide = torch.softmax(shown.rows(layer, "q")[0] @ keys.T / keys.shape[1] ** 0.5, dim=0)
            yield f"wide_{layer}", columns(wide)


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_readings_are_pooled_over_the_patches_of_a_unit(variant: dict[str, Any]) -> None:
    first, *rest = METHODS[variant["family"]]
    bundle = Bundle.open(
        exported(variant, budgets=["0.2"], plan={"method": first}, more_methods=rest, parity=False), verify=False
    )
    checkpoint = open_checkpoint(tiny_checkpoint(**variant))
    spec = checkpoint.spec
    assert spec.connector.merge == variant.get("merge", 2) > 1
    px = spec.picture.tile.px
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(3, px, px)).astype(np.float32))
    session = ort.InferenceSession(str(bundle.path("tower.onnx")), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"pixels": pixels[None].numpy()}), strict=True))
    assert found["features"].shape == (1, spec.picture.tile.units, spec.connector.merged)
    shown = dict(expected(Shown(checkpoint.path, checkpoint.family.modules.tower, pixels), spec))
    compared = set()
    for name in names:
        if name in shown:
            np.testing.assert_allclose(found[name][0], shown[name], rtol=1e-3, atol=1e-5, err_msg=name)
            compared.add(name.rpartition("_")[0])
    assert compared == ({"attention", "wide"} if spec.vision.class_tokens else set()) | {"map", "received", "keys"}
    assert {*names} - {*shown} <= {"features", "class_feature", "projected"}
