"""A pruned checkpoint: the source's folder with smaller tensors and a configuration that says so. Safetensors and JSON only."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from edgeprune.models.config.section import json_object
from edgeprune.models.config.structure_key import structure_entry
from edgeprune.models.spec import DecoderSpec, TowerSpec
from edgeprune.structure.plan import ModelPart, widths
from edgeprune_export.pruning.record import STRUCTURE
from edgeprune_runtime.bundle import sha256_of

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float32}
_LEFT = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5", ".onnx", ".gguf")
#: What a backbone's configuration (DINOv2) derives from its number of layers, and checks against it.
_BY_LAYERS = ("stage_names", "out_features", "out_indices")


def fingerprint(folder: Path, advance: Callable[[], None] = lambda: None) -> str:
    """SHA-256 over the configuration and the weights of a checkpoint folder (or file): which model a plan was made for."""
    inside = folder.iterdir() if folder.is_dir() else [folder]
    files = sorted(path for path in inside if path.suffix == ".safetensors" or path.name == "config.json")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
        advance()
    return digest.hexdigest()


def write_checkpoint(
    source: Path,
    folder: Path,
    module: nn.Module,
    texts: Mapping[str, Mapping[str, Any]],
    stored: Callable[[str], str | None],
    record: msgspec.Struct,
) -> None:
    """Fill an empty folder.

    texts   JSON files by name: config.json and what else is not the source's own
    stored  parameter name -> dtype it has in the source (float16 ...), None for one that is not written
    record  what was done, as structure.json
    """
    from safetensors.torch import save_file

    tensors = {}
    for name, value in module.state_dict().items():
        dtype = stored(name)
        if dtype is not None:
            tensors[name] = value.detach().to(_DTYPES[dtype]).contiguous().clone()
    for path in source.iterdir() if source.is_dir() else ():
        if path.is_file() and path.suffix not in _LEFT and not path.name.endswith(".index.json"):
            shutil.copyfile(path, folder / path.name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / STRUCTURE).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def pruned_config(
    source: Path,
    specs: Mapping[ModelPart, TowerSpec | DecoderSpec],
    *,
    layer_types: Sequence[str] | None = None,
    feature_layer: int | None = None,
) -> dict[str, Any]:
    """config.json of a pruned LLaVA model: fewer layers, and the widths of each under "edgeprune".

    specs          the parts as they are after pruning
    layer_types    kinds of the language model's layers that stayed, where the file lists them
    feature_layer  block whose output is used, where the file names one by a number from the front
    """
    config = json_object(source / "config.json")
    for part, spec in specs.items():
        section = config["vision_config" if part == "tower" else "text_config"]
        if section.get("num_hidden_layers") != spec.layers:
            for key in _BY_LAYERS:
                section.pop(key, None)
        section["num_hidden_layers"] = spec.layers
        if part == "language" and isinstance(section.get("layer_types"), list):
            section["layer_types"] = list(layer_types or ())
    if feature_layer is not None and config.get("vision_feature_layer", -2) >= 0:
        config["vision_feature_layer"] = feature_layer + 1
    return config | structure_entry({part: widths(spec, spec.layers) for part, spec in specs.items()})
