"""Ways to damage a checkpoint folder, and what a refusal has to look like."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeprune.models import open_checkpoint
from edgeprune_runtime.errors import CheckpointError
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint

Damage = Callable[[Path], object]
Case = tuple[Damage, str]
INDEX = "model.safetensors.index.json"
NEWLINE = "image_newline"
QUERY = "language_model.model.layers.0.self_attn.q_proj.weight"
EMBED = "language_model.model.embed_tokens.weight"


def read_all(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    for name in checkpoint.weights.names():
        checkpoint.weights.read(name)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_all(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message, "says what was found and what to do"
    return message


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def config(**changes: Any) -> Damage:
    return lambda folder: edit_json(folder / "config.json", lambda values: values.update(changes))


def part(key: str, **changes: Any) -> Damage:
    return lambda folder: edit_json(folder / "config.json", lambda values: values[key].update(changes))


def vision(**changes: Any) -> Damage:
    return part("vision_config", **changes)


def text(**changes: Any) -> Damage:
    return part("text_config", **changes)


def image(**changes: Any) -> Damage:
    return lambda folder: edit_json(
        folder / "processor_config.json", lambda values: values["image_processor"].update(changes)
    )


def written(name: str, content: str | bytes) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        values = load_file(folder / "model.safetensors")
        change(values)
        save_file(values, folder / "model.safetensors")

    return damage


def renamed_to_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def cut(size: int) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return damage


def header(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        values = json.loads(data[8 : 8 + length])
        change(values)
        new = json.dumps(values).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return damage


def expect_refusal(case: Case, tmp_path: Path, **variant: Any) -> None:
    damage, fragment = case
    folder = own_copy(tiny_checkpoint(**variant), tmp_path)
    damage(folder)
    assert fragment in refusal(folder)
