"""A made checkpoint is what save_pretrained would have written, and a model that answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.checkpoints import VARIANTS, tiny_checkpoint, variant_name
from tools.checkpoints.recipe import SIZES, Recipe, model_config
from tools.checkpoints.tensors import plan

QUESTION = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is the number 12?"}]}]


def names_in(folder: Path) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return shapes


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_transformers_finds_every_tensor_and_no_other(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    _, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report


@pytest.mark.parametrize("tower", ["clip", "vit", "dinov2", "deit", "siglip"])
@pytest.mark.parametrize("swiglu", [False, True])
def test_old_names_are_those_that_save_pretrained_writes(tower: str, swiglu: bool, tmp_path: Path) -> None:
    folder = tiny_checkpoint(family="llava", tower=tower, swiglu=swiglu and tower == "dinov2", names="old")
    AutoModelForImageTextToText.from_pretrained(folder).save_pretrained(tmp_path)
    assert names_in(folder) == names_in(tmp_path)


def test_layers_differ_and_seeds_repeat() -> None:
    folder = tiny_checkpoint()
    with safe_open(folder / "model.safetensors", "np") as file:
        first, second = (file.get_tensor(f"language_model.model.layers.{i}.mlp.up_proj.weight") for i in (0, 1))
    assert not np.array_equal(first, second)
    other, name = tiny_checkpoint(shards=2, names="new"), "model.language_model.layers.1.mlp.up_proj.weight"
    table = json.loads((other / "model.safetensors.index.json").read_text())["weight_map"]
    with safe_open(other / table[name], "np") as file:
        again = file.get_tensor(name)
    np.testing.assert_array_equal(second, again)


@pytest.mark.parametrize("family", ["llava_next", "llava"])
def test_the_answer_depends_on_the_picture(family: str) -> None:
    folder = tiny_checkpoint(family=family)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    prompt = processor.apply_chat_template(QUESTION, add_generation_prompt=True)
    logits = []
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        inputs = processor(images=Image.fromarray(pixels), text=prompt, return_tensors="pt")
        with torch.no_grad():
            logits.append(model(**inputs).logits[0, -1])
    assert 1 < logits[0].std() < 10
    assert (logits[0] - logits[1]).abs().max() > 0.5


@pytest.mark.parametrize("tokenizer", ["words", "bytes"])
def test_special_tokens_stay_whole_and_bos_comes_once(tokenizer: str) -> None:
    for bos, expected in (("template", 1), ("tokenizer", 1), ("none", 0)):
        processor = AutoProcessor.from_pretrained(tiny_checkpoint(tokenizer=tokenizer, bos=bos))
        ids = processor.tokenizer(processor.apply_chat_template(QUESTION, add_generation_prompt=True)).input_ids
        assert ids.count(processor.tokenizer.bos_token_id) == expected
        assert ids[expected : expected + 2] == [5, 4]
        assert ids[-1] == 6
        assert processor.tokenizer.unk_token_id not in ids


def test_bytes_may_need_several_tokens_for_a_character() -> None:
    tokenizer = AutoProcessor.from_pretrained(tiny_checkpoint(tokenizer="bytes")).tokenizer
    ids = tokenizer("\N{BLACK HEART SUIT}").input_ids
    assert len(ids) == 3
    assert tokenizer.decode(ids) == "\N{BLACK HEART SUIT}"


def test_large_sizes_have_real_proportions() -> None:
    ids = {"bos": 2, "eos": 3, "pad": 0, "image": 4}
    half = plan(model_config(Recipe(size="0.5b", tied=True), 133, ids), "old")
    assert sum(tensor.size for tensor in half if "language_model" in tensor.name) == 494032768  # Qwen2-0.5B
    assert SIZES["0.5b"].patches ** 2 == 576
    large = plan(model_config(Recipe(size="2gb"), 133, ids), "old")
    assert 2 * sum(tensor.size for tensor in large) > 2e9


@pytest.mark.slow
def test_the_command_writes_a_checkpoint_and_never_over_one(tmp_path: Path) -> None:
    script = [sys.executable, "tools/make_checkpoint.py"]
    root = Path(__file__).parents[2]
    folder = tmp_path / "made"
    options = ["--tower", "vit", "--decoder", "llama", "--shards", "2", "--dtype", "float16"]
    subprocess.run([*script, str(folder), *options], cwd=root, check=True, capture_output=True)
    assert json.loads((folder / "config.json").read_text())["vision_config"]["model_type"] == "vit"
    again = subprocess.run([*script, str(folder)], cwd=root, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "is not empty" in again.stderr
