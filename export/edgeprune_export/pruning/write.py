"""A pruned checkpoint: the source's folder with smaller tensors and a configuration that says so. Safetensors and JSON only."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from edgeprune.models.config.section import json_object
from edgeprune.models.config.structure_key import structure_entry
from edgeprune.models.spec import DecoderSpec, TowerSpec
from edgeprune.structure.plan import ModelPart, widths
from edgeprune.structure.shrink import BLOCK_NUMBERS
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
    theirs: Mapping[ModelPart, Any],
    *,
    feature_layer: int | None = None,
) -> dict[str, Any]:
    """config.json of a pruned vision-language model: fewer layers, and the widths of each under "edgeprune".

    specs          the parts as they are after pruning
    theirs         transformers' configuration of them
    feature_layer  block whose output is used, where the file names one by a number from the front
    """
    config = json_object(source / "config.json")
    for part, spec in specs.items():
        for section in _sections(config, part):
            names = getattr(theirs[part], "attribute_map", {})
            count = names.get("num_hidden_layers", "num_hidden_layers")
            if section.get(count) != spec.layers:
                for key in _BY_LAYERS:
                    section.pop(key, None)
            section[count] = spec.layers
            if isinstance(section.get("layer_types"), list):
                section["layer_types"] = list(getattr(theirs[part], "layer_types", None) or ())
            for key in BLOCK_NUMBERS:
                if hasattr(theirs[part], key):
                    section[key] = list(getattr(theirs[part], key))
    if feature_layer is not None and config.get("vision_feature_layer", -2) >= 0:
        config["vision_feature_layer"] = feature_layer + 1
    return config | structure_entry({part: widths(spec, spec.layers) for part, spec in specs.items()})


def _sections(config: dict[str, Any], part: ModelPart) -> list[dict[str, Any]]:
    """Where a configuration speaks of a part: in a section of its own, at its root where it is flat, or in both."""
    if part == "tower":
        return [config["vision_config"]]
    nested = [config["text_config"]] if "text_config" in config else []
    return [*nested, *([config] if not nested or "num_hidden_layers" in config else [])]
