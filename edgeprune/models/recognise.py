"""What somebody gave in place of a checkpoint, so that the refusal can say it and the next step."""

from __future__ import annotations

from pathlib import Path

from edgeprune_runtime.bundle import DIGEST, MANIFEST
from edgeprune_runtime.installed import command

_GGUF = b"GGUF"


def instead_of_checkpoint(path: Path) -> str | None:
    """What `path` is, and what to do with it; None where it could be a checkpoint's folder, or nobody knows."""
    if path.is_file():
        return _file(path)
    if (path / MANIFEST).is_file() and ((path / DIGEST).is_file() or not (path / "config.json").exists()):
        return (  # a bundle keeps the config.json of its checkpoint
            f"{path} is a bundle, already exported; run it with `{command('edgeprune', 'run', path, '--prompt', 'TEXT')}`, "
            "or give the checkpoint that it was made from"
        )
    inside = sorted(entry for pattern in ("*.gguf", "*.onnx") for entry in path.glob(pattern))
    return _file(inside[0]) if inside and not (path / "config.json").exists() else None


def _file(path: Path) -> str | None:
    if path.suffix == ".gguf" or _starts(path, _GGUF):
        return f"{path} is a GGUF file, weights quantised for llama.cpp; give the folder of the original checkpoint, in safetensors"
    if path.suffix == ".onnx":
        return (
            f"{path} is an ONNX file, a graph and no checkpoint; prune it with "
            f"`{command('edgeprune', 'prune', path, '--structure', 'params=0.7')}`"
        )
    if path.suffix == ".safetensors":
        return f"{path} holds weights alone; give its folder, with config.json and the tokenizer beside it"
    return None


def _starts(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False
