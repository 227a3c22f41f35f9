"""Made subjects of structured pruning: tiny checkpoints with a few pictures, their linear layers by place, random plans.

What is found here is found anew, from transformers' names alone; no code of edgeprune.structure is used.
"""

from __future__ import annotations

import atexit
import functools
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.hooks import RemovableHandle

from edgeprune.models import open_checkpoint
from edgeprune.models.spec import DecoderSpec, TowerSpec
from edgeprune.structure.plan import BlockPlan, ModelPart, StructurePlan, widths
from edgeprune_export.pruning.samples import CalibrationSample
from edgeprune_export.pruning.vlm import PrunableVlm
from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint

#: Towers with everything that differs between them, decoders with and without biases, shared heads and head widths.
SOME: tuple[dict[str, Any], ...] = (
    {"tower": "clip", "decoder": "llama", "rope": "llama3", "tied": True, "names": "old", "attention_bias": True},
    {"tower": "dinov2", "decoder": "mistral", "rope": "llama3", "names": "new", "swiglu": True, "tied": True},
    {"family": "llava", "tower": "siglip", "decoder": "qwen2", "names": "hub", "processor": "old"},
    {"tower": "vit", "decoder": "mistral", "rope": "yarn", "names": "old", "head_dim": 24},
)
#: Queries, keys and values in one layer, windows, features of two tower blocks that enter behind decoder layers.
QWEN: tuple[dict[str, Any], ...] = (QWEN_VARIANTS[0], QWEN_VARIANTS[3], QWEN_VARIANTS[9])
_PLACE = re.compile(
    r"(vision_tower|vision_model|visual|language_model|text_model)\..*?(?:layers?|blocks)\.(\d+)\."
    r"(?:self_attn|attention|attn|mlp)\.(\w+)$"
)
_OUT = {"out_proj": "heads", "o_proj": "heads", "projection_layer": "heads", "proj": "heads"}
_OUT |= dict.fromkeys(("fc2", "down_proj", "linear_fc2"), "mlp")
_IN = dict.fromkeys(("q_proj", "k_proj", "v_proj", "qkv"), "heads")
_IN |= dict.fromkeys(("fc1", "gate_proj", "up_proj", "linear_fc1"), "mlp")
Place = tuple[ModelPart, int, str]


def write_pictures(folder: Path, count: int = 3, seed: int = 0) -> Path:
    """A folder of small pictures of different shapes, smooth so that they differ from noise."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        coarse = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        size = tuple(int(side) for side in random.integers(40, 120, 2))
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def write_questions(path: Path) -> Path:
    """Two pictures with questions and answers, one of them twice."""
    write_pictures(path.parent, 2)
    lines = [("0.png", "what is this", "a red cat"), ("1.png", "how many", "two"), ("0.png", "describe it", "a dog")]
    text = (json.dumps({"image": image, "question": q, "answer": a}) for image, q, a in lines)
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


@functools.cache
def pictures() -> Path:
    """Three pictures, shared: nobody may change the folder."""
    root = Path(tempfile.mkdtemp(prefix="edgeprune-pictures-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return write_pictures(root)


def prunable_of(variant: Mapping[str, Any], count: int = 2) -> PrunableVlm:
    """A subject of its own, which a test may change."""
    samples = [CalibrationSample(picture) for picture in sorted(pictures().iterdir())[:count]]
    free = any(variant.get("family") == one["family"] for one in QWEN_VARIANTS)  # of any size: small pictures then
    return PrunableVlm(open_checkpoint(tiny_checkpoint(**variant), tokens=16 if free else None), samples)


def precise_subject(variant: Mapping[str, Any], count: int = 1) -> PrunableVlm:
    """A subject in float64, with its samples."""
    prunable = prunable_of(variant, count)
    samples = [prunable.batch([number]) for number in range(count)]
    prunable.module.double()
    for sample in samples:
        sample.inputs["pixel_values"] = sample.inputs["pixel_values"].double()
    prunable.batch = lambda numbers, random=None: samples[numbers[0]]  # type: ignore[method-assign]
    return prunable


@dataclass(frozen=True)
class Layers:
    """The linear layers of one site: `inner` by transformers' name, `out`, and how many units (head groups, channels) there are."""

    inner: dict[str, nn.Linear]
    out: nn.Linear
    units: int
    queries: int

    def columns(self, unit: int) -> list[int]:
        width = self.out.in_features // self.units
        return list(range(unit * width, (unit + 1) * width))


def layers_of(prunable: PrunableVlm) -> dict[Place, Layers]:
    """Every site of a model up to the tower's feature layer."""
    config: Any = prunable.module.config
    found: dict[Place, tuple[dict[str, nn.Linear], list[nn.Linear]]] = {}
    for name, layer in prunable.module.named_modules():
        place = _PLACE.search(name)
        if place is None or not isinstance(layer, nn.Linear):
            continue
        part: ModelPart = "tower" if place[1].startswith("vis") else "language"
        kind = _OUT.get(place[3]) or _IN[place[3]]
        inner, out = found.setdefault((part, int(place[2]), kind), ({}, []))
        if place[3] in _OUT:
            out.append(layer)
        elif place[3] == "qkv":
            inner.update(_thirds(layer))
        else:
            inner[place[3].removeprefix("linear_")] = layer
    last = getattr(config, "vision_feature_layer", -1)
    read = last if last >= 0 else config.vision_config.num_hidden_layers + last + 1
    heads = config.vision_config.num_attention_heads
    groups, all_queries = config.text_config.num_key_value_heads, config.text_config.num_attention_heads
    sites = {}
    for (part, block, kind), (inner, (out,)) in found.items():
        if part == "tower" and block >= read:
            continue
        units = out.in_features if kind == "mlp" else heads if part == "tower" else groups
        queries = all_queries // groups if part == "language" and kind == "heads" else 1
        sites[part, block, kind] = Layers(inner, out, units, queries)
    return sites


def _thirds(layer: nn.Linear) -> dict[str, nn.Linear]:
    """Queries, keys and values of a joint layer, each as a layer over the same memory."""
    height, found = layer.out_features // 3, {}
    for number, name in enumerate(("q_proj", "k_proj", "v_proj")):
        found[name] = nn.Linear(layer.in_features, height)
        rows = slice(number * height, (number + 1) * height)
        found[name].weight = nn.Parameter(layer.weight.data[rows])
        found[name].bias = nn.Parameter(layer.bias.data[rows])
    return found


def never_gone(prunable: PrunableVlm, part: ModelPart) -> set[int]:
    """Blocks that docs/structure.md says stay: what sees the whole picture, what enters the decoder, and where it enters."""
    vision: Any = prunable.module.config.vision_config  # type: ignore[union-attr]
    deep = getattr(vision, "deepstack_visual_indexes", [])
    return set(range(len(deep))) if part == "language" else {*deep, *getattr(vision, "fullatt_block_indexes", [])}


def blocks_of(module: nn.Module, part: ModelPart) -> nn.ModuleList:
    """The blocks of a part, as transformers has them."""
    model: Any = module.model
    names = ("vision_tower", "vision_model", "visual") if part == "tower" else ("language_model", "text_model")
    owner = next(getattr(model, name) for name in names if hasattr(model, name))
    lists = [
        m
        for name, m in owner.named_modules()
        if isinstance(m, nn.ModuleList) and name.endswith(("layer", "layers", "blocks"))
    ]
    return lists[0]


def without(block: nn.Module) -> RemovableHandle:
    """Leave a block out: what goes in comes out. First of all hooks, so that transformers notes this as its output."""

    def skip(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]

    return block.register_forward_hook(skip, prepend=True)


def random_plan(prunable: PrunableVlm, seed: int, *, drop: bool = True) -> StructurePlan:
    """Different heads and channels in every block, none to all of them gone, and sometimes blocks gone."""
    random = np.random.default_rng(seed)

    def some(units: int) -> tuple[int, ...]:
        keep = int(random.choice((1, units, random.integers(1, units + 1))))
        return tuple(sorted(random.permutation(units)[:keep].tolist()))

    everywhere = layers_of(prunable)
    plans: dict[ModelPart, tuple[BlockPlan, ...]] = {}
    for part in ("tower", "language"):
        count = 1 + max(block for p, block, _ in everywhere if p == part)
        bound = never_gone(prunable, part)  # type: ignore[arg-type]
        stay = tuple(sorted({*some(count), *bound})) if drop else tuple(range(count))
        plans[part] = tuple(
            BlockPlan(i, some(everywhere[part, i, "heads"].units), some(everywhere[part, i, "mlp"].units)) for i in stay
        )
    return StructurePlan(plans)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def whole(spec: TowerSpec | DecoderSpec, blocks: int) -> tuple[BlockPlan, ...]:
    """The plan that removes nothing from the first `blocks` blocks."""
    sizes = enumerate(widths(spec, blocks))
    return tuple(BlockPlan(i, tuple(range(width.groups)), tuple(range(width.mlp))) for i, width in sizes)
