"""Made checkpoints of the further families: published layouts, models that answer, and questions built as the library does."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from tests.checkpoints import FAMILY_VARIANTS, tiny_checkpoint, variant_name
from tests.references.families import expanded_ids, image_features, reference_answer, reference_inputs, rendered
from tools.checkpoints.families import FAMILIES
from tools.checkpoints.recipe import Recipe
from tools.checkpoints.tensors import CLASSES, plan
from tools.make_checkpoint import read

QUESTION = "what is the number 12?"
SIZES = ((90, 60), (64, 64), (40, 130), (300, 100), (33, 31))
every_variant = pytest.mark.parametrize("variant", FAMILY_VARIANTS, ids=variant_name)


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Noise of (width, height) pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def names_in(folder: Path) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return shapes


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(**inputs).logits[0, -1]
    return out


@every_variant
def test_transformers_finds_every_tensor_and_no_other(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert type(model) is CLASSES[variant["family"]]
    assert not any(report.values()), report


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_old_names_are_those_that_save_pretrained_writes(family: str, tied: bool, tmp_path: Path) -> None:
    folder = tiny_checkpoint(family=family, tied=tied, names="old")
    config = AutoModelForImageTextToText.from_pretrained(folder).config
    CLASSES[family](config).save_pretrained(tmp_path)  # never loaded, so nothing but its own modules gives it names
    assert names_in(folder) == names_in(tmp_path)


@pytest.mark.parametrize("variant", [v for v in FAMILY_VARIANTS if v.get("silent_tie")], ids=variant_name)
def test_a_silent_configuration_still_ties_the_head(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    assert "tie_word_embeddings" not in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert "lm_head" not in " ".join(names_in(folder))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


@every_variant
def test_the_answer_depends_on_the_picture(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    answer = reference_answer(folder, picture((90, 60)), QUESTION, 3)
    assert 1 <= len(answer) <= 3
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    first, second = (logits(model, reference_inputs(folder, picture((90, 60), seed), QUESTION)) for seed in (0, 1))
    assert answer[0] == first.argmax()
    assert 1 < first.std() < 10
    assert (first - second).abs().max() > 0.5


@every_variant
def test_every_visual_row_has_a_placeholder(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    placeholder = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    token = placeholder.get("image_token_id", placeholder.get("image_token_index"))
    rows = set()
    for size in SIZES:
        features = image_features(folder, picture(size))
        assert expanded_ids(folder, picture(size), QUESTION).count(token) == len(features)
        rows.add(len(features))
    assert len(rows) > 1, "all pictures have the same number of tiles"


@every_variant
def test_the_expansion_is_that_of_the_library(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), bare_processor(folder, variant["family"])
    options = {
        "internvl": {"crop_to_patches": True},
        "idefics3": {"return_row_col_info": True},
        "smolvlm": {"return_row_col_info": True},
        "llava_onevision": {},
    }[variant["family"]]
    for size in SIZES:
        inputs = processor.image_processor(picture(size), return_tensors="pt", **options)
        text = rendered(folder, QUESTION)
        text = text.replace(processor.image_token, processor.replace_image_token(inputs, 0))
        assert tokenizer(text).input_ids == expanded_ids(folder, picture(size), QUESTION)


def bare_processor(folder: Path, family: str) -> Any:
    """The family's processor with the settings of the folder's files, without its constructor, which needs torchvision."""
    settings = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    module = importlib.import_module(f"transformers.models.{family}.processing_{family}")
    processor = object.__new__(getattr(module, settings["processor_class"]))
    tokens = {"internvl": "<IMG_CONTEXT>"}
    processor.image_token = tokens.get(family, "<image>")
    processor.start_image_token, processor.end_image_token = "<img>", "</img>"
    processor.fake_image_token = "<fake_token_around_image>"
    processor.global_image_token = processor.global_image_tag = "<global-img>"
    processor.image_processor = AutoImageProcessor.from_pretrained(folder)
    for name in ("image_seq_length", "image_seq_len", "num_image_tokens", "vision_aspect_ratio"):
        setattr(processor, name, settings.get(name))
    processor.vision_feature_select_strategy = settings.get("vision_feature_select_strategy")
    return processor


@pytest.mark.parametrize("variant", [v for v in FAMILY_VARIANTS if v["family"] == "idefics3"], ids=variant_name)
def test_idefics3_inputs_are_those_of_its_processor(variant: dict[str, Any]) -> None:
    """The one processor of the four that runs without torchvision."""
    from transformers import AutoProcessor

    folder = tiny_checkpoint(**variant)
    processor = AutoProcessor.from_pretrained(folder)
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    text = processor.apply_chat_template(message, add_generation_prompt=True)
    expected = processor(images=picture((90, 60)), text=text, return_tensors="pt")
    inputs = reference_inputs(folder, picture((90, 60)), QUESTION)
    assert inputs.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(inputs[name], value), name


def test_line_ends_join_across_the_seam() -> None:
    """The break of the last row of tiles and the break before the whole picture are one token."""
    folder = tiny_checkpoint(family="smolvlm")
    tokens = AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(
        expanded_ids(folder, picture((90, 60)), QUESTION)
    )
    whole = tokens.index("<global-img>")
    line_end = "\N{LATIN CAPITAL LETTER C WITH DOT ABOVE}"
    assert tokens[whole - 2] == 2 * line_end
    assert tokens[:whole].count(line_end) == 2  # three rows of tiles


@every_variant
def test_a_forgotten_norm_scale_or_bias_shows_in_the_logits(variant: dict[str, Any]) -> None:
    """Each kind of norm weight, layer scale and bias, put back to what a fresh model has, moves the logits."""
    folder = tiny_checkpoint(**variant)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    inputs = reference_inputs(folder, picture((90, 60)), QUESTION)
    right = logits(model, inputs)
    kinds: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if re.search(r"norm\w*\.weight$|lambda_[12]$|\.bias$", name):
            kinds.setdefault(re.sub(r"\.\d+\.", ".N.", name), []).append(parameter)
    assert len(kinds) > 8
    for kind, parameters in kinds.items():
        kept = [parameter.detach().clone() for parameter in parameters]
        for parameter in parameters:
            parameter.data.fill_(0.0 if kind.endswith(".bias") else 1.0)
        moved = (logits(model, inputs) - right).abs().max()
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.data.copy_(value)
        if without_effect(kind, variant["family"]):
            assert moved < 1e-3, kind
        else:
            assert moved > 1e-2, kind


@pytest.mark.parametrize("variant", [v for v in FAMILY_VARIANTS if "eps" in v], ids=variant_name)
def test_a_forgotten_epsilon_shows_in_the_logits(variant: dict[str, Any]) -> None:
    """Those of the tower and of the decoder each; InternVL's projector has an epsilon that no configuration names."""
    folder = tiny_checkpoint(**variant)
    inputs = reference_inputs(folder, picture((90, 60)), QUESTION)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    right = logits(model, inputs)
    for part in (model.model.vision_tower if hasattr(model.model, "vision_tower") else model.model.vision_model, model):
        for module in part.modules():
            for name in ("eps", "variance_epsilon"):
                if getattr(module, name, None) == variant["eps"]:
                    setattr(module, name, 1e-6)
        wrong = logits(model, inputs)
        assert (wrong - right).abs().max() > 5e-3
        right = wrong


def without_effect(kind: str, family: str) -> bool:
    """Softmax ignores what is added to all keys alike, and LLaVA-OneVision reads its tower before the last norm."""
    in_tower = "vision" in kind
    return (in_tower and kind.endswith("k_proj.bias")) or (
        family == "llava_onevision" and ".post_layernorm." in kind and in_tower
    )


@pytest.mark.parametrize(
    ("size", "decoder", "tower"),
    [
        # SmolLM2-360M with 128 more rows of embeddings; SigLIP-B/16 at 512 pixels without its head.
        ("smolvlm2-500m", 361_821_120 + 128 * 960, 86_433_024),
        # Qwen2.5-0.5B with fewer rows and a head of its own; InternViT-300M.
        ("internvl3-1b", 494_032_768 + (2 * 151_674 - 151_936) * 896, 304_012_288),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size: str, decoder: int, tower: int) -> None:
    folder, recipe = read(["made", "--size", size])
    assert folder == Path("made")
    assert recipe.dtype == "float16"
    ids = {"bos": 0, "eos": 0, "pad": 0, "image": 1}
    planned = plan(FAMILIES[recipe.family].config(recipe, 500, ids), recipe.names)
    in_decoder = [tensor.size for tensor in planned if re.search(r"language_model|text_model|lm_head", tensor.name)]
    assert sum(in_decoder) == decoder
    assert sum(tensor.size for tensor in planned if "vision" in tensor.name) == tower


def test_a_size_leaves_the_other_options_free() -> None:
    _, recipe = read(["made", "--size", "smolvlm2-500m", "--dtype", "float32", "--layers", "2"])
    assert recipe == Recipe(family="smolvlm", size="smolvlm2-500m", merge=4, tied=True, dtype="float32", layers=2)
