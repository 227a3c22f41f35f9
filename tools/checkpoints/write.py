"""Write a made checkpoint: shard by shard, so that memory holds one shard at most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import GenerationConfig

from .byte_pairs import build_byte_pairs, family_ids
from .families import FAMILIES
from .families.family import write_files, write_processor
from .recipe import Recipe, model_config
from .tensors import CLASSES, Planned, plan, values
from .text import build_processor, build_tokenizer, special_ids

_WIDTH = {"float16": 2, "bfloat16": 2, "float32": 4}
_LARGEST_SHARD_BYTES = 1 << 30


def make_checkpoint(folder: Path, recipe: Recipe) -> Path:
    """Write the folder that save_pretrained and the processor would write; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    family = FAMILIES.get(recipe.family)
    tokenizer = build_byte_pairs(recipe, family.specials) if family else build_tokenizer(recipe)
    ids = family_ids(tokenizer, family.specials) if family else special_ids(tokenizer)
    config = (family.config if family else model_config)(recipe, len(tokenizer), ids)
    planned = plan(config, recipe.names)
    shards = _shards(planned, recipe)
    _write_shards(folder, shards, recipe, config.text_config.num_hidden_layers)
    config.architectures = [CLASSES[config.model_type].__name__]
    config.save_pretrained(folder)
    generation: Any = GenerationConfig
    stop = tokenizer.eos_token_id
    generation(bos_token_id=ids["bos"], eos_token_id=stop, pad_token_id=ids["pad"]).save_pretrained(folder)
    if family:
        write_files(folder, recipe, ids, family)
    if recipe.silent_tie:
        _leave_out_tie(folder / "config.json")
    if family:
        tokenizer._set_processor_class(family.processor_class)
        tokenizer.save_pretrained(folder)
        write_processor(folder, recipe, family)
    else:
        _write_processor(folder, recipe, build_processor(recipe, tokenizer))
    return folder


def _leave_out_tie(path: Path) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["tie_word_embeddings"]
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _shards(planned: list[Planned], recipe: Recipe) -> list[list[Planned]]:
    """Consecutive tensors in at least `recipe.shards` files, none above a gigabyte unless one tensor is."""
    total = sum(tensor.size for tensor in planned)
    most = min(-(-total // recipe.shards), _LARGEST_SHARD_BYTES // _WIDTH[recipe.dtype])
    shards: list[list[Planned]] = [[]]
    filled = 0
    for tensor in planned:
        if shards[-1] and filled + tensor.size > most:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.size
    return shards


def _write_shards(folder: Path, shards: list[list[Planned]], recipe: Recipe, depth: int) -> None:
    dtype = getattr(torch, recipe.dtype)
    table: dict[str, str] = {}
    for index, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{index:05d}-of-{len(shards):05d}.safetensors"
        tensors = {tensor.name: _tensor(tensor, recipe.seed, depth, dtype) for tensor in shard}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        table |= dict.fromkeys(tensors, file)
        del tensors
    if len(shards) > 1:
        total = sum(tensor.size for shard in shards for tensor in shard) * _WIDTH[recipe.dtype]
        index_file = {"metadata": {"total_size": total}, "weight_map": dict(sorted(table.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index_file, indent=2) + "\n", encoding="utf-8")


def _tensor(planned: Planned, seed: int, depth: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values(planned, seed, depth), dtype=np.float32)).to(dtype)


def _write_processor(folder: Path, recipe: Recipe, processor: Any) -> None:
    processor.save_pretrained(folder)
    if recipe.processor == "new":
        return
    new, template = folder / "processor_config.json", folder / "chat_template.jinja"
    settings = json.loads(new.read_text(encoding="utf-8"))
    image = {**settings.pop("image_processor"), "processor_class": settings["processor_class"]}
    (folder / "preprocessor_config.json").write_text(json.dumps(image, indent=2) + "\n", encoding="utf-8")
    new.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    text = {"chat_template": template.read_text(encoding="utf-8")}
    (folder / "chat_template.json").write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    template.unlink()
