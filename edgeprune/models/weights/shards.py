"""Finding the weights of a checkpoint folder: one safetensors file, or shards with an index.

Only safetensors is read. A pickle runs code when it is loaded, so .bin and .pt files are refused, with the way out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from edgeprune.models.config.section import json_object
from edgeprune.models.weights.stored import DOWNLOAD_AGAIN, StoredTensor, stored_tensors
from edgeprune_runtime.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_COMPILED = "_orig_mod."
_MODULE = re.compile(r"^(?:module\.)+")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def tensors_of_folder(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the checkpoint by the name it has in its file, less wrappers."""
    if (folder / SINGLE).is_file():
        return unwrapped(stored_tensors(folder / SINGLE))
    if (folder / INDEX).is_file():
        return unwrapped(_tensors_of_shards(folder))
    raise _no_weights(folder)


def unwrapped(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The same tensors without what torch.compile (`_orig_mod.`) and DataParallel (`module.`) put into their names."""
    found: dict[str, StoredTensor] = {}
    for source, tensor in tensors.items():
        name = _MODULE.sub("", source.replace(_COMPILED, ""))
        if name in found:
            raise CheckpointError(
                f"the weights hold both {found[name].name} and {source}; expected one of them; {DOWNLOAD_AGAIN}"
            )
        found[name] = tensor
    return found


def weight_bytes_on_disk(tensors: dict[str, StoredTensor]) -> int:
    """Size of all weight files together."""
    return sum(path.stat().st_size for path in {tensor.path for tensor in tensors.values()})


def _tensors_of_shards(folder: Path) -> dict[str, StoredTensor]:
    table = json_object(folder / INDEX).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(file, str) for file in table.values()):
        raise CheckpointError(f"{INDEX} has no weight_map from tensor names to files; {DOWNLOAD_AGAIN}")
    shards = {file: _shard(folder, file) for file in sorted(set(table.values()))}
    for name, file in table.items():
        if name not in shards[file]:
            raise CheckpointError(f"{INDEX} places {name} in {file}, which does not hold it; {DOWNLOAD_AGAIN}")
    for file, tensors in shards.items():
        if stray := next((name for name in tensors if table.get(name) != file), None):
            raise CheckpointError(f"{file} holds {stray}, which {INDEX} does not place there; {DOWNLOAD_AGAIN}")
    return {name: shards[file][name] for name, file in table.items()}


def _shard(folder: Path, file: str) -> dict[str, StoredTensor]:
    # The name is checked, not the resolved path: the hub's cache itself consists of links that leave the folder.
    if not file.endswith(".safetensors") or Path(file).name != file or "\\" in file:
        raise CheckpointError(
            f"{INDEX} names {file!r}; expected a .safetensors file inside the folder; {DOWNLOAD_AGAIN}"
        )
    if not (folder / file).is_file():
        raise CheckpointError(f"{INDEX} names {file}, which is missing from {folder}; {DOWNLOAD_AGAIN}")
    return stored_tensors(folder / file)


def _no_weights(folder: Path) -> CheckpointError:
    names = sorted(path.name for path in folder.iterdir())
    expected = f"expected {SINGLE}, or shards with {INDEX}"
    if pickles := [name for name in names if name.endswith(_PICKLES)]:
        return CheckpointError(
            f"{folder} holds pickled weights only ({pickles[0]}); {expected}; a pickle can run code when loaded and is "
            "never read: convert it once, where you trust it, with from_pretrained and save_pretrained of transformers"
        )
    if "adapter_config.json" in names:
        return CheckpointError(
            f"{folder} holds an adapter only; {expected}; merge the adapter into its base model and save that"
        )
    return CheckpointError(f"{folder} holds no weights; {expected}; {DOWNLOAD_AGAIN}")
