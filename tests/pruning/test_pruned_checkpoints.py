"""A pruned checkpoint opens, exports through the parity gate, answers, and can be pruned again; equal requests give equal files."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from edgeprune.models import open_checkpoint
from edgeprune.models.spec import Width
from edgeprune.structure.plan import ModelPart, widths
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.targets import PruneTarget
from edgeprune_export.commands.export import export
from edgeprune_export.pruning.options import PruneOptions
from edgeprune_export.pruning.prune import prune
from edgeprune_export.pruning.samples import CalibrationSample
from edgeprune_export.pruning.specs import specs_of
from edgeprune_export.pruning.vlm import PrunableVlm
from edgeprune_runtime import Model
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint, variant_name
from tests.exports import options
from tests.pruning.made import layers_of, pictures, write_questions

#: Name forms, dtypes, one and more files, tied or not, every kind of block.
PRUNED: tuple[dict[str, Any], ...] = (
    {"tower": "clip", "decoder": "mistral", "names": "hub", "shards": 2, "dtype": "float16"},
    {"tower": "dinov2", "decoder": "qwen2", "names": "old", "swiglu": True, "tied": True, "vision_layers": 4},
    {"family": "llava", "tower": "siglip", "decoder": "llama", "names": "new", "dtype": "bfloat16", "layers": 3},
    {"tower": "vit", "decoder": "mistral", "names": "old", "head_dim": 24, "multi_head": True},
    {
        "family": "internvl",
        "decoder": "qwen3",
        "norm": "rms_norm",
        "tower_bias": False,
        "names": "hub",
        "dtype": "float16",
    },
    {"family": "smolvlm", "merge": 3, "tied": True, "names": "old", "vision_layers": 4},
    {"family": "qwen2_vl", "config": "hub", "processor": "old", "shards": 2, "vision_layers": 3, "layers": 3},
    {"family": "qwen2_5_vl", "config": "both", "vision_layers": 5, "full_blocks": (1, 3), "dtype": "bfloat16"},
    {"family": "qwen3_vl", "vision_layers": 4, "deepstack": (1, 3), "layers": 3, "head_dim": 24, "sections": (2, 5, 5)},
)
MODELS = pytest.mark.parametrize("number", range(len(PRUNED)), ids=[variant_name(variant) for variant in PRUNED])
#: What is asked of each: blocks leave one tower and one language model; another loses channels alone.
REQUESTS: tuple[dict[ModelPart, StructureRequest], ...] = (
    {
        "tower": StructureRequest(PruneTarget("params", 0.7), align=8),
        "language": StructureRequest(PruneTarget("params", 0.8), "taylor", align=8),
    },
    {
        "tower": StructureRequest(
            PruneTarget("params", 0.5), "magnitude", "uniform", align=4, blocks=1, block_importance="removal"
        )
    },
    {
        "language": StructureRequest(
            PruneTarget("params", 0.7), "yopo", "module", align=16, blocks=1, block_importance="visual"
        ),
        "tower": StructureRequest(PruneTarget("macs", 0.75), "activation", "slope", align=1),
    },
    {"tower": StructureRequest(PruneTarget("memory", 150_000.0), "dimap", normalise="module", align=8)},
    {
        "tower": StructureRequest(PruneTarget("params", 0.7), "taylor", align=8),
        "language": StructureRequest(PruneTarget("params", 0.7), "activation", align=8),
    },
    {
        "tower": StructureRequest(PruneTarget("params", 0.6), align=8, blocks=1, block_importance="similarity"),
        "language": StructureRequest(PruneTarget("params", 0.8), "magnitude", "uniform", align=16),
    },
    {
        "tower": StructureRequest(PruneTarget("params", 0.6), align=8, blocks=1),
        "language": StructureRequest(PruneTarget("params", 0.7), "activation", align=8, blocks=1),
    },
    {
        "tower": StructureRequest(PruneTarget("macs", 0.5), "taylor", align=8, blocks=2, block_importance="removal"),
        "language": StructureRequest(PruneTarget("params", 0.8), "dimap", "module", align=8),
    },
    {
        "tower": StructureRequest(PruneTarget("params", 0.5), "amp", "uniform", align=4, blocks=2),
        "language": StructureRequest(
            PruneTarget("macs", 0.7), "yopo", "slope", align=8, blocks=1, block_importance="visual"
        ),
    },
)
#: Those that are exported: an export takes long.
EXPORTED = (0, 1, 2, 4, 5, 6, 7, 8)


@functools.cache
def root() -> Path:
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="edgeprune-pruned-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def asked(number: int, **more: Any) -> PruneOptions:
    return PruneOptions(**({"requests": REQUESTS[number], "images": pictures(), "pictures": 2} | more))


@functools.cache
def pruned(number: int) -> Path:
    """Shared and read only."""
    out = root() / f"{number}"
    prune(tiny_checkpoint(**PRUNED[number]), out, asked(number))
    return out


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "structure.json").read_text(encoding="utf-8"))
    return record


def numbers_stored(folder: Path) -> dict[str, int]:
    """Numbers in the weights file up to the feature layer, per part, read from its header."""
    read = specs_of(open_checkpoint(folder).spec)["tower"][1]
    found = {"tower": 0, "language": 0}
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118  no mapping
            size = math.prod(file.get_slice(name).get_shape())
            if "vision_" in name or (".visual." in name and "merger" not in name):
                block = [int(word) for word in name.split(".") if word.isdigit()]
                found["tower"] += size if not block or block[0] < read else 0
            elif not any(word in name for word in ("projector", "connector", "newline", "merger")):
                found["language"] += size
    return found


@MODELS
def test_what_is_written_is_what_was_promised(number: int) -> None:
    folder, source = pruned(number), open_checkpoint(tiny_checkpoint(**PRUNED[number]))
    checkpoint, record = open_checkpoint(folder), record_of(folder)
    before, after = specs_of(source.spec), specs_of(checkpoint.spec)
    sizes = numbers_stored(folder)
    assert list(record["parts"]) == list(REQUESTS[number]) and record["compensated"] and record["samples"] == 2
    for part, (spec, count) in after.items():
        if part not in REQUESTS[number]:
            assert (spec, count) == before[part]
            continue
        request, told = REQUESTS[number][part], record["parts"][part]
        kept = [Width(len(block["heads"]), len(block["mlp"])) for block in told["blocks"]]
        assert list(widths(spec, count)) == kept and count == before[part][1] - request.blocks
        if request.target.measure == "params":
            assert told["after"] == sizes[part]
            assert abs(told["after"] / told["before"] - request.target.value) < 0.1 or request.blocks
        assert told["after"] < told["before"] and told["target"] == request.target.label
    assert (folder / "model.safetensors").stat().st_size < source.weight_bytes
    for name in source.weights.shapes:
        if name in checkpoint.weights.shapes:
            assert (
                checkpoint.weights.dtype(name) == source.weights.dtype(name) == PRUNED[number].get("dtype", "float32")
            )


@MODELS
def test_nothing_that_could_run_code_and_no_old_weights_are_in_the_folder(number: int) -> None:
    names = {path.name for path in pruned(number).iterdir()}
    assert {name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".pkl"))} == {"model.safetensors"}
    assert {"config.json", "structure.json", "tokenizer.json"} <= names
    assert not any(name.startswith(".") or name.endswith(".index.json") for name in names)


@pytest.mark.parametrize("number", EXPORTED, ids=[variant_name(PRUNED[number]) for number in EXPORTED])
def test_it_exports_through_the_parity_gate_and_answers(number: int, tmp_path: Path) -> None:
    tower = open_checkpoint(pruned(number)).spec.vision
    plan = {} if tower.class_tokens else {"method": "divprune"}
    fewer = {"tokens": 16} if tower.view else {}
    bundle = export(pruned(number), tmp_path / "bundle", options(("0.4", "1.0"), plan=plan, **fewer))
    checks = bundle.manifest.parity.checks
    assert checks and all(check.passed for check in checks)
    with Model.open(bundle.root, threads=1) as model:
        picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        assert len(model.ask("what is this", image=picture, budget=0.4, max_tokens=3).token_ids) >= 1


@MODELS
def test_the_same_seed_gives_the_same_files(number: int, tmp_path: Path) -> None:
    prune(tiny_checkpoint(**PRUNED[number]), tmp_path / "again", asked(number))
    for path in pruned(number).iterdir():
        if path.name != "structure.json":
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    one, other = record_of(pruned(number)), record_of(tmp_path / "again")
    assert {**one, "created": ""} == {**other, "created": ""}


@MODELS
def test_its_plan_makes_the_same_checkpoint_again(number: int, tmp_path: Path) -> None:
    options = PruneOptions(plan=pruned(number) / "structure.json", images=pictures(), pictures=2)
    prune(tiny_checkpoint(**PRUNED[number]), tmp_path / "again", options)
    for name in ("model.safetensors", "config.json"):
        assert (pruned(number) / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    blocks = [
        {part: told["blocks"] for part, told in record_of(f)["parts"].items()}
        for f in (pruned(number), tmp_path / "again")
    ]
    assert blocks[0] == blocks[1]


@MODELS
def test_it_can_be_pruned_again(number: int, tmp_path: Path) -> None:
    out = tmp_path / "again"
    parts = {part: StructureRequest(PruneTarget("params", 0.9), "magnitude", align=4) for part in ("tower", "language")}
    prune(pruned(number), out, PruneOptions(parts, compensate=False))  # type: ignore[arg-type]
    first, second = numbers_stored(pruned(number)), numbers_stored(out)
    for part in parts:
        assert second[part] < first[part] and record_of(out)["parts"][part]["before"] == first[part]
        assert record_of(out)["parts"][part]["after"] == second[part]
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    for name, section in (("tower", "vision_config"), ("language", "text_config")):
        said = config.get(section, config)  # a flat one speaks of the language model at its root
        assert len(config["edgeprune"]["structure"][name]) == said.get("num_hidden_layers", said.get("depth"))


@pytest.mark.parametrize("layer", [-1, -2, -3, 1, 2, 4])
def test_the_feature_layer_stays_the_last_block_that_is_read(layer: int, tmp_path: Path) -> None:
    """Counted from either end; later blocks stay, so that numbers from the end keep their meaning."""
    folder = own_copy(tiny_checkpoint(tower="clip", vision_layers=4), tmp_path)
    edit_json(folder / "config.json", lambda config: config.update(vision_feature_layer=layer))
    before = open_checkpoint(folder).spec
    count = before.feature_layer + 1
    gone = 1 if count > 1 else 0
    request = StructureRequest(
        PruneTarget("params", 0.9), "magnitude", align=4, blocks=gone, block_importance="similarity"
    )
    prune(folder, tmp_path / "out", PruneOptions({"tower": request}, images=pictures(), pictures=1))
    after = open_checkpoint(tmp_path / "out").spec
    assert after.feature_layer == count - 1 - gone and after.vision.layers == 4 - gone
    whole, small = (
        PrunableVlm(open_checkpoint(path), [CalibrationSample(sorted(pictures().iterdir())[0])])
        for path in (folder, tmp_path / "out")
    )
    assert {place[1] for place in layers_of(small) if place[0] == "tower"} == set(range(count - gone))
    with torch.no_grad():
        shapes = {tuple(one.features(one.module, one.batch([0]))[0].shape) for one in (whole, small)}
    assert len(shapes) == 1


def test_a_head_that_differs_from_the_embedding_stays_itself_though_the_configuration_says_tied(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(**PRUNED[0]), tmp_path)
    edit_json(
        folder / "config.json",
        lambda c: (c.update(tie_word_embeddings=True), c["text_config"].update(tie_word_embeddings=True)),
    )
    requests: dict[ModelPart, StructureRequest] = {
        "language": StructureRequest(PruneTarget("params", 0.9), "magnitude", align=8)
    }
    prune(folder, tmp_path / "out", PruneOptions(requests))
    before, after = (open_checkpoint(path).weights for path in (folder, tmp_path / "out"))
    for name in ("head.weight", "embed.weight"):
        np.testing.assert_array_equal(after.read(name), before.read(name))


def test_numbers_of_blocks_follow_those_that_left(tmp_path: Path) -> None:
    """Of Qwen2.5-VL's blocks 1 and 3 see the whole picture; of Qwen3-VL's their features enter the decoder: 0, 2 and 4 may leave."""
    for number, key in ((7, "fullatt_block_indexes"), (8, "deepstack_visual_indexes")):
        config = json.loads((pruned(number) / "config.json").read_text(encoding="utf-8"))
        stayed = [block["block"] for block in record_of(pruned(number))["parts"]["tower"]["blocks"]]
        assert len(stayed) == config["vision_config"]["depth"] == (3 if number == 7 else 2)
        assert config["vision_config"][key] == [stayed.index(1), stayed.index(3)]
        nested, root = config["text_config"], config
        assert number == 8 or nested["num_hidden_layers"] == root["num_hidden_layers"]
    assert open_checkpoint(pruned(8)).spec.language.layers == 2


def test_questions_with_answers_calibrate_too(tmp_path: Path) -> None:
    file = write_questions(tmp_path / "data" / "questions.jsonl")
    requests: dict[ModelPart, StructureRequest] = {
        "language": StructureRequest(PruneTarget("params", 0.8), "taylor", align=8)
    }
    source = tiny_checkpoint(**PRUNED[0])
    record = prune(source, tmp_path / "out", PruneOptions(requests, images=file, pictures=64))
    assert record.samples == 3 and not record.noise
    prune(source, tmp_path / "pictures", PruneOptions(requests, images=file.parent, pictures=64))
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "pictures"))
    assert one != other, "answers have a say"


def test_without_pictures_noise_calibrates_and_weights_alone_need_none(tmp_path: Path) -> None:
    source = tiny_checkpoint(**PRUNED[0])
    noise = prune(
        source,
        tmp_path / "obs",
        PruneOptions({"tower": StructureRequest(PruneTarget("params", 0.7), "obs", align=8)}, pictures=2),
    )
    assert noise.noise and noise.compensated and noise.samples == 2
    requests: dict[ModelPart, StructureRequest] = {
        "tower": StructureRequest(PruneTarget("params", 0.7), "magnitude", align=8)
    }
    assert not prune(source, tmp_path / "magnitude", PruneOptions(requests)).compensated


def test_force_replaces_a_pruned_checkpoint(tmp_path: Path) -> None:
    source, out = tiny_checkpoint(**PRUNED[0]), tmp_path / "out"
    request = StructureRequest(PruneTarget("params", 0.9), "magnitude", align=8)
    prune(source, out, PruneOptions({"tower": request}))
    (out / "stale").write_text("of the older one", encoding="utf-8")
    before = (out / "model.safetensors").read_bytes()
    prune(
        source,
        out,
        PruneOptions({"tower": StructureRequest(PruneTarget("params", 0.6), "magnitude", align=8)}, force=True),
    )
    assert (out / "model.safetensors").read_bytes() != before and not (out / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
