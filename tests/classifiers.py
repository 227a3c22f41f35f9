"""Tiny made image classifiers for tests, in every form that `open_classifier` reads.

model = made_model("vit")                   # transformers' own module, random weights
huggingface_folder(folder, model, "old")    # or "new": the two spellings of block names
timm_folder(folder, model); bare_file(path, model, torch.float16)
pruned_folder(folder, model, keep)          # what pruning writes; masked(model, keep) is the same network with zeros
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from edgeprune.models import open_classifier
from edgeprune.models.classifiers.config import ARCHITECTURES, saved_config, saved_processor
from edgeprune.models.spec import ClassifierSpec, Width

PX, PATCH, CLASSES = 32, 8, 7


@dataclass(frozen=True)
class Kept:
    """What stays of one block: its number in the source, heads and MLP channels."""

    block: int
    heads: tuple[int, ...]
    channels: tuple[int, ...]


def made_model(
    kind: str = "vit", *, hidden: int = 48, heads: int = 3, layers: int = 3, seed: int = 0, **more: Any
) -> Any:
    """transformers' classifier with random weights under which every block matters."""
    from transformers import AutoConfig, AutoModelForImageClassification

    sizes = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * hidden,
    }
    pictures = {"image_size": PX, "patch_size": PATCH, "layer_norm_eps": 1e-6}
    labels = {i: f"thing {i}" for i in range(CLASSES)}
    config = AutoConfig.for_model(
        kind, **sizes, **pictures, id2label=labels, architectures=[ARCHITECTURES[kind]], **more
    )
    model = AutoModelForImageClassification.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            spread = 1.5 / value[0].numel() ** 0.5 if name.endswith("weight") and value.ndim > 1 else 0.2
            value.copy_(spread * torch.randn(value.shape, generator=generator))
            if "layernorm" in name and name.endswith("weight"):
                value += 1
    return model


def made_pixels(count: int = 3) -> torch.Tensor:
    """[count, 3, P, P]."""
    return torch.randn(count, 3, PX, PX, generator=torch.Generator().manual_seed(9))


def logits(model: Any, pixels: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(model(pixels).logits)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference as a share of the largest expected value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def huggingface_folder(folder: Path, model: Any, names: str = "old", processor: dict[str, Any] | None = None) -> Path:
    """What save_pretrained writes ("old" block names even in transformers 5.23), or the same under the module's own names."""
    model.save_pretrained(folder)
    if names == "new":
        save_file(dict(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def timm_tensors(model: Any) -> dict[str, torch.Tensor]:
    """The weights of a ViT under timm's names, queries, keys and values joined."""
    state, found = dict(model.state_dict()), {}
    whole = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}
    found = {name: state[f"vit.{source}"] for name, source in whole.items()}
    for part in ("weight", "bias"):
        found[f"patch_embed.proj.{part}"] = state[f"vit.embeddings.patch_embeddings.projection.{part}"]
        found[f"norm.{part}"], found[f"head.{part}"] = state[f"vit.layernorm.{part}"], state[f"classifier.{part}"]
        for i in range(len(model.vit.layers)):
            b = f"vit.layers.{i}"
            joined = [
                state[f"{b}.attention.{one}_proj.{part}"]
                for one in "qkv"
                if f"{b}.attention.{one}_proj.{part}" in state
            ]
            if joined:
                found[f"blocks.{i}.attn.qkv.{part}"] = torch.cat(joined)
            found[f"blocks.{i}.attn.proj.{part}"] = state[f"{b}.attention.o_proj.{part}"]
            for theirs, ours in (
                ("norm1", "layernorm_before"),
                ("norm2", "layernorm_after"),
                ("mlp.fc1",) * 2,
                ("mlp.fc2",) * 2,
            ):
                found[f"blocks.{i}.{theirs}.{part}"] = state[f"{b}.{ours}.{part}"]
    return found


def bare_file(path: Path, model: Any, dtype: torch.dtype = torch.float32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.to(dtype).contiguous() for name, value in timm_tensors(model).items()}, path)
    return path


def timm_folder(folder: Path, model: Any, **settings: Any) -> Path:
    """`settings` go into pretrained_cfg; those that are None are left out."""
    bare_file(folder / "model.safetensors", model)
    told: dict[str, Any] = {
        "input_size": [3, PX, PX],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
    }
    told |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "num_classes": CLASSES} | settings
    config = {"architecture": "vit_tiny_patch8_32", "num_classes": CLASSES, "global_pool": "token"}
    config["pretrained_cfg"] = {key: value for key, value in told.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def masked(model: Any, keep: Sequence[Kept]) -> Any:
    """A copy without the blocks that left, and with zeros where heads and channels did."""
    copied = copy.deepcopy(model)
    layers = copied.base_model.layers
    width = layers[0].attention.head_dim
    with torch.no_grad():
        for kept in keep:
            block = layers[kept.block]
            heads = torch.zeros(block.attention.o_proj.in_features // width).index_fill_(0, torch.tensor(kept.heads), 1)
            channels = torch.zeros(block.mlp.fc2.in_features).index_fill_(0, torch.tensor(kept.channels), 1)
            block.attention.o_proj.weight *= heads.repeat_interleave(width)
            block.mlp.fc2.weight *= channels
    copied.base_model.layers = torch.nn.ModuleList(layers[kept.block] for kept in keep)
    return copied


def pruned_tensors(model: Any, keep: Sequence[Kept]) -> dict[str, torch.Tensor]:
    """The weights that are left, under transformers' names."""
    kind, state = model.config.model_type, dict(model.state_dict())
    width = model.base_model.layers[0].attention.head_dim
    found = {name: value for name, value in state.items() if ".layers." not in name}
    for i, kept in enumerate(keep):
        old, new = f"{kind}.layers.{kept.block}.", f"{kind}.layers.{i}."
        rows = torch.tensor([head * width + d for head in kept.heads for d in range(width)])
        channels = torch.tensor(kept.channels)
        for name in (name for name in state if name.startswith(old)):
            value, part = state[name], name[len(old) :]
            if part.startswith(("attention.q", "attention.k", "attention.v")):
                value = value[rows]
            elif part == "attention.o_proj.weight":
                value = value[:, rows]
            elif part.startswith("mlp.fc1"):
                value = value[channels]
            elif part == "mlp.fc2.weight":
                value = value[:, channels]
            found[new + part] = value.contiguous()
    return found


def pruned_folder(folder: Path, spec: ClassifierSpec, model: Any, keep: Sequence[Kept]) -> Path:
    """A pruned classifier in the layout that edgeprune writes."""
    folder.mkdir(parents=True, exist_ok=True)
    widths = tuple(Width(len(kept.heads), len(kept.channels)) for kept in keep)
    left = replace(spec, vision=replace(spec.vision, layers=len(keep), widths=widths))
    (folder / "config.json").write_text(json.dumps(saved_config(left)), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(saved_processor(left)), encoding="utf-8")
    save_file(pruned_tensors(model, keep), folder / "model.safetensors")
    return folder


def read_all(path: Path) -> None:
    """Open a classifier and read every tensor."""
    classifier = open_classifier(path)
    for name in classifier.weights.names():
        classifier.weights.read(name)
