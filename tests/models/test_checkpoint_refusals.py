"""Files and weights that edgeprune cannot run correctly are refused in one sentence that names what was found."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import edit_json, own_copy, tiny_checkpoint
from tests.damage import (
    EMBED,
    INDEX,
    NEWLINE,
    QUERY,
    Case,
    adapter_only,
    cut,
    expect_refusal,
    header,
    read_all,
    refusal,
    renamed_to_pickle,
    tensors,
    text,
    vision,
    without,
    written,
)


def shifted(entry: dict[str, Any], by: int) -> list[int]:
    return [place + by for place in entry["data_offsets"]]


def last(entries: dict[str, Any]) -> str:
    """The tensor that ends the file."""
    return max((name for name in entries if name != "__metadata__"), key=lambda name: entries[name]["data_offsets"])


FILES: dict[str, Case] = {
    "no config": (without("config.json"), "has no config.json"),
    "config is no JSON": (written("config.json", "{"), "config.json cannot be read as JSON"),
    "config is a list": (written("config.json", "[]"), "config.json holds a list"),
    "config is deep": (written("config.json", "[" * 100000), "config.json cannot be read as JSON"),
    "config is binary": (written("config.json", b"\xff\xfe\x00"), "config.json cannot be read as JSON"),
    "no weights": (without("model.safetensors"), "holds no weights"),
    "pickled weights": (renamed_to_pickle, "holds pickled weights only (pytorch_model.bin)"),
    "adapter": (adapter_only, "holds an adapter only"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer.json"),
    "tokenizer is no JSON": (written("tokenizer.json", "x"), "tokenizer.json cannot be read as JSON"),
    "tokenizer is empty": (written("tokenizer.json", "{}"), "tokenizer.json has no model"),
    "tokenizer is damaged": (
        written("tokenizer.json", '{"model": {"vocab": {"a": "b"}}}'),
        "tokenizer.json has a damaged vocabulary",
    ),
    "no processor": (without("processor_config.json"), "has no image processor settings"),
    "git lfs pointer": (written("model.safetensors", "version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
    "empty weights": (cut(0), "too few for a safetensors file"),
    "cut in the header": (cut(100), "too few for a safetensors file"),
    "cut in the data": (cut(600000), "was cut short"),
    "cut by one byte": (cut(-1), "was cut short"),
    "header is no JSON": (written("model.safetensors", struct.pack("<Q", 4) + b"{{{{"), "damaged safetensors header"),
    "header is a list": (written("model.safetensors", struct.pack("<Q", 2) + b"[]"), "damaged safetensors header"),
    "negative offset": (header(lambda h: h[NEWLINE].update(data_offsets=[-4, 4])), "damaged entry for image_newline"),
    "overlap": (header(lambda h: h[EMBED].update(data_offsets=shifted(h[EMBED], -4))), EMBED + " overlaps "),
    "hole": (header(lambda h: h.pop(QUERY)), "bytes unused after"),
    "hole at the end": (header(lambda h: h.pop(last(h))), "bytes after its last tensor; expected none"),
    "appended": (lambda f: (f / "model.safetensors").open("ab").write(b"more"), "4 bytes after its last tensor"),
    "backwards": (header(lambda h: h[NEWLINE].update(data_offsets=[8, 4])), "damaged entry for image_newline"),
    "no shape": (header(lambda h: h[NEWLINE].pop("shape")), "damaged entry for image_newline"),
    "wrong length": (header(lambda h: h[NEWLINE].update(shape=[63])), "gives image_newline 256 bytes"),
}

WEIGHTS: dict[str, Case] = {
    "missing": (tensors(lambda t: t.pop(QUERY)), "layers.0.q.weight is missing"),
    "missing newline": (tensors(lambda t: t.pop(NEWLINE)), "newline is missing"),
    "missing head": (tensors(lambda t: t.pop("language_model.lm_head.weight")), "head.weight is missing"),
    "shape": (tensors(lambda t: t.update({QUERY: torch.ones(64, 63)})), "has shape [64, 63]; expected [64, 64]"),
    "rank": (tensors(lambda t: t.update({QUERY: torch.ones(2, 64, 64)})), "has shape [2, 64, 64]; expected [64, 64]"),
    "scalar": (tensors(lambda t: t.update({NEWLINE: torch.tensor(1.0)})), "has shape"),
    "int8": (tensors(lambda t: t.update({QUERY: torch.ones(64, 64, dtype=torch.int8)})), "stored as I8"),
    "float8": (tensors(lambda t: t.update({QUERY: torch.ones(64, 64).to(torch.float8_e4m3fn)})), "stored as F8_E4M3"),
    "bool": (tensors(lambda t: t.update({NEWLINE: torch.ones(64, dtype=torch.bool)})), "stored as BOOL"),
    "nan": (tensors(lambda t: t[EMBED][3].fill_(float("nan"))), "embed.weight (" + EMBED + ") holds NaN"),
    "infinity": (
        tensors(lambda t: t[QUERY][0].fill_(float("inf"))),
        "layers.0.q.weight (" + QUERY + ") holds NaN or inf",
    ),
    "unknown": (tensors(lambda t: t.update({"model.audio.weight": torch.ones(1)})), "hold model.audio.weight"),
    "lora": (
        tensors(lambda t: t.update({QUERY.replace("weight", "lora_A.weight"): torch.ones(1)})),
        "no part of LLaVA-NeXT as edgeprune knows it",
    ),
    "one layer too many": (
        tensors(lambda t: t.update({QUERY.replace("layers.0", "layers.2"): torch.ones(64, 64)})),
        "layers.2.self_attn.q_proj.weight, for which config.json leaves no place",
    ),
    "unwanted bias": (
        tensors(lambda t: t.update({QUERY.replace("q_proj.weight", "o_proj.bias"): torch.ones(64)})),
        "o_proj.bias, for which config.json leaves no place",
    ),
    "twice": (tensors(lambda t: t.update({"model.image_newline": torch.ones(64)})), "both "),
    "fewer layers in config": (text(num_hidden_layers=1, layer_types=None), "layers.1."),
    "more layers in config": (text(num_hidden_layers=3, layer_types=None), "layers.2.norm1.weight is missing"),
    "other vocabulary": (text(vocab_size=200), "has shape [133, 64]; expected [200, 64]"),
    "other width": (text(intermediate_size=256), "expected [256, 64]"),
    "other tower": (vision(model_type="vit"), "missing"),
    "positions of another size": (vision(image_size=56), "56"),
}


@pytest.mark.parametrize("case", FILES)
def test_damaged_and_missing_files_are_refused(case: str, tmp_path: Path) -> None:
    expect_refusal(FILES[case], tmp_path)


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    expect_refusal(WEIGHTS[case], tmp_path)


@pytest.mark.parametrize(
    "file", ["../outside.safetensors", "/etc/passwd", "sub/model.safetensors", "pytorch_model.bin"]
)
def test_an_index_stays_inside_its_folder_and_format(file: str, tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(shards=2), tmp_path)
    edit_json(folder / INDEX, lambda values: values["weight_map"].update({NEWLINE: file}))
    assert f"{INDEX} names {file!r}" in refusal(folder)


def test_index_and_shards_must_agree(tmp_path: Path) -> None:
    source = tiny_checkpoint(shards=2)
    table = json.loads((source / INDEX).read_text())["weight_map"]
    first, last = min(table.values()), max(table.values())

    folder = own_copy(source, tmp_path / "missing")
    (folder / last).unlink()
    assert f"names {last}, which is missing" in refusal(folder)

    folder = own_copy(source, tmp_path / "moved")
    edit_json(folder / INDEX, lambda values: values["weight_map"].update({NEWLINE: last}))
    assert table[NEWLINE] == first
    assert f"places {NEWLINE} in {last}, which does not hold it" in refusal(folder)

    folder = own_copy(source, tmp_path / "unlisted")
    edit_json(folder / INDEX, lambda values: values["weight_map"].pop(NEWLINE))
    assert f"{first} holds {NEWLINE}, which {INDEX} does not place there" in refusal(folder)

    folder = own_copy(source, tmp_path / "empty")
    (folder / INDEX).write_text("{}")
    assert "has no weight_map" in refusal(folder)


def test_a_shared_tiny_checkpoint_is_never_refused() -> None:
    read_all(tiny_checkpoint())
