"""Methods as token selection inside a real, pretrained image classifier, on real photographs.

A ViT classifier (timm's key names, safetensors) sees every photograph once whole. Then K patches are kept at the output of one layer, chosen
by each method from what the unpruned tower shows there, and the rest of the network runs on the class token and those K. What counts is how
often the top-1 class stays what it was, beside random patches at the same K. Methods that look at a question, or in which tokens leave
inside the tower, have no meaning here.

    python tools/photographs.py --weights vit_tiny_patch16_224.safetensors --photographs val.zip
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeprune.models import open_classifier
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine
from edgeprune.tokens.methods import METHODS, Method
from edgeprune.tokens.methods.controls import FULL
from edgeprune.tokens.readings import Geometry, outputs_from
from edgeprune_export.gate.eager_classifier import classifier_module
from edgeprune_export.gate.eager_tower import after_blocks, read_tile
from edgeprune_runtime.statistics import paired_difference


def classifier(weights: Path) -> Any:
    """transformers' ViT with the given weights, in float32; attention is written out, so that methods can see it."""
    return classifier_module(open_classifier(weights), "eager")


def photographs(archive: Path, size: int, limit: int | None) -> Iterator[torch.Tensor]:
    """[3, size, size] in -1..1, in the order of the archive."""
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if name.lower().endswith((".jpeg", ".jpg", ".png"))]
        for name in names[:limit]:
            picture = (
                Image.open(io.BytesIO(file.read(name))).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
            )
            yield torch.from_numpy(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)


def usable(method: Method, plan: MethodPlan) -> bool:
    reads = method.reads(plan)
    return "question" not in reads and method.own_cuts is None and method is not FULL


@torch.inference_mode()
def agreement(
    model: Any, pictures: Sequence[torch.Tensor], names: Sequence[str], layer: int, keeps: Sequence[int]
) -> dict[tuple[str, int], list[float]]:
    """Per (method, K): 1 where the top-1 class is that of the unpruned network, else 0, one per photograph."""
    config = model.config
    patches = config.image_size // config.patch_size
    spec: Any = SimpleNamespace(
        feature_layer=layer, vision=SimpleNamespace(class_tokens=1), connector=SimpleNamespace(merge=1)
    )
    plan = MethodPlan(feature_layer=layer, last_layer=layer + 1)
    slot = torch.arange(patches**2)[None]
    given = {
        "slot": slot,
        "region": torch.zeros(1, patches**2),
        "places": torch.stack([torch.div(slot, patches, rounding_mode="floor"), slot % patches], dim=2),
        "entropy": torch.zeros(1, patches**2),
    }
    found: dict[tuple[str, int], list[float]] = {}
    for picture in pictures:
        whole = int(model(picture[None]).logits.argmax())
        for name in names:
            method = METHODS[name]
            reads = method.reads(plan)
            read = {key: value[None] for key, value in read_tile(model.vit, spec, picture, reads).items()}
            read |= {"projected": read["features"]} if "projected" in reads else {}
            outputs = outputs_from({**read, **given}, Geometry(patches))
            for keep in keeps:
                reduction = method.reduce(outputs, keep, plan)
                rows = combine.apply(outputs, reduction)

                def cut(block: int, state: torch.Tensor, rows: torch.Tensor = rows) -> torch.Tensor:
                    return torch.cat([state[:, :1], rows[None]], dim=1) if block == layer else state

                with after_blocks(model.vit, cut):
                    same = int(model(picture[None]).logits.argmax()) == whole
                found.setdefault((name, keep), []).append(float(same))
    return found


def table(found: dict[tuple[str, int], list[float]], keeps: Sequence[int]) -> str:
    names = sorted({name for name, _ in found}, key=lambda name: -sum(sum(found[name, k]) for k in keeps))
    lines = [("method", *(f"K = {keep}" for keep in keeps)), tuple("---" for _ in range(len(keeps) + 1))]
    for name in names:
        cells = []
        for keep in keeps:
            d = paired_difference(found[name, keep], found["random", keep], seed=0)
            apart = "" if name == "random" else f" ({100 * d.point:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}])"
            cells.append(f"{100 * np.mean(found[name, keep]):.1f}{apart}{' *' if d.distinguishable else ''}")
        lines.append((name, *cells))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a ViT classifier, timm names, safetensors")
    parser.add_argument("--photographs", type=Path, required=True, help="zip archive")
    parser.add_argument("--layer", type=int, default=3, help="0-based layer at whose output K patches are kept")
    parser.add_argument("--keep", type=int, action="append", help="K [default: 98 and 49]")
    parser.add_argument("--limit", type=int, help="only the first N photographs")
    options = parser.parse_args()
    model = classifier(options.weights)
    plan = MethodPlan(feature_layer=options.layer, last_layer=options.layer + 1)
    names = [name for name in METHODS if usable(METHODS[name], plan)]
    pictures = list(photographs(options.photographs, model.config.image_size, options.limit))
    keeps = options.keep or [98, 49]
    found = agreement(model, pictures, names, options.layer, keeps)
    patches = (model.config.image_size // model.config.patch_size) ** 2
    print(f"{len(pictures)} photographs, K of {patches} patches kept at the output of layer {options.layer}")
    print(table(found, keeps))


if __name__ == "__main__":
    main()
