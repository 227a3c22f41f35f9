"""Structured pruning on the command line: what is said beforehand, what comes out, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeprune.models import open_checkpoint
from edgeprune_profiles.measure.picture import draw_picture
from tests.checkpoints import tiny_checkpoint
from tests.classifiers import huggingface_folder, made_model
from tests.commands import answer, complaint, invoke

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images"
RECIPE = """
[tokens]
budgets = [0.4]
method = "uniform"

[structure]
images = "pictures"
limit-images = 2

[structure.tower]
target = "macs=0.8"
align = 8

[structure.language]
target = "params=0.9"
importance = "activation"
align = 8

[export]
weights = "fp32"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number, size in enumerate(((120, 80), (64, 100))):
        draw_picture(*size, seed=number).save(tmp_path / "pictures" / f"{number}.png")
    (tmp_path / "small.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "small.toml"


def test_a_plan_says_what_a_recipe_will_come_to_and_writes_nothing(recipe: Path) -> None:
    model = tiny_checkpoint()
    before = sorted(recipe.parent.rglob("*"))
    found = answer("forecast", model, "--recipe", recipe, "--no-time")["forecast"]
    tower, language = (next(one for one in found if one["part"] == part) for part in ("tower", "language"))
    assert tower["macs"][1] == pytest.approx(0.8 * tower["macs"][0], rel=0.03)
    assert language["params"][1] == pytest.approx(0.9 * language["params"][0], rel=0.03)
    assert language["cache_bytes"][0] >= language["cache_bytes"][1] > 0 == tower["cache_bytes"][0]
    assert all(one["seconds"] is None and one["budget"] == "0.4" for one in found)
    assert "->" in invoke("forecast", model, "--recipe", recipe).stdout
    assert sorted(recipe.parent.rglob("*")) == before


def test_a_forecast_on_a_busy_machine_says_so(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeprune_runtime import meters

    quiet = meters.MachineUse(1.0, 2, 0.0, 0.0, 0.0, 0.1, None)
    monkeypatch.setattr(meters, "use_while_resting", lambda: quiet)
    for found, said in ((replace(quiet, other_cores=1.5, stolen_share=0.2), True), (quiet, False)):
        monkeypatch.setattr(meters, "machine_use", lambda looks, found=found: found)
        text = invoke("forecast", tiny_checkpoint(), "--recipe", recipe).stdout
        assert ("not quiet: during the timing, other programs kept 1.5 of 2 cores busy" in text) is said
        assert ("Do not rely on the seconds" in text) is said
    assert "not quiet" not in invoke("forecast", tiny_checkpoint(), "--recipe", recipe, "--no-time").stdout
    told = answer("forecast", tiny_checkpoint(), "--recipe", recipe)
    assert told["use_during"]["other_cores"] == 0.0 and told["use_before"] is not None


def test_a_plan_counts_the_largest_grid_and_keeps_the_blocks_that_see_it_whole(recipe: Path) -> None:
    """Of four blocks, 0 and 3 see all; one of the others leaves. Its numbers are those that pruning then reaches."""
    model = tiny_checkpoint(family="qwen2_5_vl", vision_layers=4, full_blocks=(0, 3))
    text = (
        '[structure]\nimages = "pictures"\nlimit-images = 1\n[structure.tower]\ntarget = "macs=0.6"\nimportance = "magnitude"\n'
        "align = 8\nblocks = 1\n[export]\n"
    )
    counted = {}
    for grids in ("tokens = 16", "grids = [[64, 128]]"):
        recipe.write_text(text + grids + "\n", encoding="utf-8")
        found = answer("forecast", model, "--recipe", recipe, "--no-time")["forecast"]
        (tower,) = (one for one in found if one["part"] == "tower")
        counted[grids] = tower["macs"][0]
        assert tower["macs"][1] == pytest.approx(0.6 * tower["macs"][0], rel=0.05)
    assert counted["grids = [[64, 128]]"] > 2 * counted["tokens = 16"]
    out = recipe.parent / "smaller"
    done = answer("prune", model, "--recipe", recipe, "--out", out)["record"]["parts"]["tower"]
    assert tower["macs"][0] == done["before"] and tower["macs"][1] == pytest.approx(done["after"], rel=0.05)
    assert {0, 3} < {block["block"] for block in done["blocks"]}
    recipe.write_text(text.replace("blocks = 1", "blocks = 3"), encoding="utf-8")
    assert "3 of 4 blocks of the tower cannot leave" in complaint("forecast", model, "--recipe", recipe)


def test_a_plan_for_a_classifier_says_the_same_of_its_one_part(tmp_path: Path) -> None:
    model = huggingface_folder(tmp_path / "vit", made_model())
    recipe = tmp_path / "r.toml"
    recipe.write_text('[structure.tower]\ntarget = "macs=0.8"\nimportance = "magnitude"\nalign = 8\n', encoding="utf-8")
    (found,) = answer("forecast", model, "--recipe", recipe, "--no-time")["forecast"]
    done = answer("prune", model, "--recipe", recipe, "--out", tmp_path / "smaller")["record"]["parts"]["tower"]
    assert found["part"] == "tower" and found["budget"] is None and found["cache_bytes"] == [0, 0]
    assert found["macs"][0] == done["before"] and found["macs"][1] == pytest.approx(done["after"], rel=0.05)
    recipe.write_text('[structure.language]\ntarget = "macs=0.8"\n', encoding="utf-8")
    assert "has no language; it has tower" in complaint("forecast", model, "--recipe", recipe)


def test_a_recipe_is_pruned_exported_gated_and_answers(recipe: Path) -> None:
    out = recipe.parent / "recipe.bundle"
    found = answer("export", tiny_checkpoint(), "--recipe", recipe, "--out", out)
    assert {s["budget"] for s in found["selections"]} == {"0.4"} and found["parity"]["checks"]
    assert json.loads((out / "structure.json").read_text())["parts"]["tower"]["target"] == "macs=0.8"
    picture = recipe.parent / "pictures" / "0.png"
    assert answer("run", out, "--image", picture, "--prompt", "what?", "--max-tokens", 2)["token_ids"]
    left = {path.name for path in recipe.parent.iterdir()}
    assert left == {"pictures", "small.toml", "recipe.bundle"}


def test_a_pruned_checkpoint_is_smaller_and_says_what_was_reached(recipe: Path) -> None:
    model, out = tiny_checkpoint(), recipe.parent / "smaller"
    words = ("-s", "tower.params=0.9", "-s", "language.macs=0.8", "--align", 8, "--out", out)
    text = invoke("prune", model, *words, "--images", recipe.parent / "pictures", "--limit-images", 2).stdout
    assert "tower: params=0.9 asked, 0." in text and "compensated" in text and "edgeprune export" in text
    before, after = (open_checkpoint(folder).spec for folder in (model, out))
    assert after.language.widths and after.vision.widths and after.language.hidden == before.language.hidden
    assert (out / "model.safetensors").stat().st_size < sum(f.stat().st_size for f in model.glob("*.safetensors"))


def test_data_free_importances_need_no_pictures(tmp_path: Path) -> None:
    found = answer(
        "prune",
        tiny_checkpoint(),
        "-s",
        "language.params=0.9",
        "--importance",
        "dimap",
        "--align",
        8,
        "-o",
        tmp_path / "a",
    )
    assert found["record"]["samples"] == 0 and not found["record"]["compensated"]
    found = answer(
        "prune", tiny_checkpoint(), "-s", "tower.params=0.9", "--importance", "obs", "--align", 8, "-o", tmp_path / "b"
    )
    assert found["record"]["noise"] and found["record"]["compensated"]


def test_a_classifier_is_pruned_and_exported_to_one_graph(tmp_path: Path) -> None:
    model = huggingface_folder(tmp_path / "vit", made_model())
    words = ("-s", "params=0.9", "--importance", "magnitude", "--align", 8, "--out", tmp_path / "smaller")
    assert invoke("prune", model, *words).stdout.endswith("smaller\n")
    found = answer("export", tmp_path / "smaller", "--out", tmp_path / "graph")
    assert found["parity"] and all(check["passed"] for check in found["parity"])
    assert {path.name for path in (tmp_path / "graph").iterdir()} >= {"model.onnx", "weights.bin", "config.json"}
    assert "--budget cannot be given with a classifier" in invoke("export", model, "--budget", "0.2").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-s", "params=0.8"), "measured on pictures"),
        (("-s", "tower.params=0.01", "--importance", "magnitude"), "cannot reach params=0.01"),
        (("-s", "tower.parms=0.8"), "is not known"),
        (("-s", "eye.params=0.8"), "names no part"),
        (("-s", "tower.params=0.8", "-s", "tower.macs=0.8"), "two targets"),
        (("-s", "params=0.8", "--importance", "magnitud"), "did you mean 'magnitude'"),
        (("-s", "params=0.8", "--importance", "magnitude", "--allocation", "even"), "unknown allocation"),
        (("-s", "params=0.8", "--importance", "magnitude", "--normalise", "x"), "unknown normalisation"),
        (("-s", "params=0.8", "--importance", "magnitude", "--blocks", "tower"), "--blocks tower is not understood"),
        (("-s", "params=0.8", "--importance", "magnitude", "--blocks", "99"), "cannot leave"),
        (("-s", "tower.params=0.8", "--importance", "yopo", "--images", PICTURES), "says nothing about the tower"),
        (("-s", "params=0.8", "--importance", "magnitude", "--recover", "5"), "recovery learns on pictures"),
        (("-s", "params=0.8", "--images", "nowhere"), "neither a folder of pictures"),
        ((), "nothing is asked of any part"),
        (("-s", "params=0.8", "--structure-plan", "structure.json"), "give one of them"),
        (("--structure-plan", "structure.json", "--importance", "obs"), "--importance is for a new one"),
        (("-s", "params=0.8", "--importance", "magnitude", "--lora", "4"), "--lora means nothing without --recover"),
        (("-s", "params=0.8", "--importance", "magnitude", "--rate", "1e-3"), "--rate means nothing without --recover"),
        (
            ("-s", "params=0.8", "--weights", "int8"),
            "--weights means something for latency, energy, memory targets",
        ),
        (("-s", "params=0.8", "--block-importance", "removal"), "--block-importance means nothing without --blocks"),
        (("-s", "tower.params=0.8", "--blocks", "language=1"), "there is no target"),
        (("-s", "params=0.8", "--input-shape", "1,3,8,8"), "is for .onnx files"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_and_leaves_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    line = complaint("prune", tiny_checkpoint(), *words, "--align", 8, "--out", tmp_path / "out")
    assert said in line and ";" in line
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_says_what_is_wrong_with_it(recipe: Path) -> None:
    for wrong, said in (
        (RECIPE.replace("macs=0.8", "macs=1.8"), "not a share"),
        (RECIPE.replace("limit-images = 2", 'plan = "structure.json"'), "give one of them"),
        (RECIPE.replace("limit-images = 2", "limit-images = 2\ncolour = 1"), "colour"),
        (RECIPE.replace("[tokens]", "[tokens"), "is not TOML"),
        (RECIPE.replace('"fp32"', '"fp8"'), "fp8"),
        (RECIPE.replace('images = "pictures"', 'images = "elsewhere"'), "elsewhere"),
    ):
        recipe.write_text(wrong, encoding="utf-8")
        assert said in complaint("export", tiny_checkpoint(), "--recipe", recipe, "--out", recipe.parent / "out")
    assert {path.name for path in recipe.parent.iterdir()} == {"pictures", "small.toml"}
    assert "cannot be read" in complaint("forecast", tiny_checkpoint(), "--recipe", recipe.parent / "none.toml")
    clash = invoke("export", tiny_checkpoint(), "--recipe", recipe, "--method", "uniform")
    assert clash.exit_code == 2 and "--method cannot be given with a recipe" in " ".join(clash.stderr.split())
    assert invoke("export", tiny_checkpoint()).exit_code == 2


def test_every_importance_is_listed_with_its_source() -> None:
    found = answer("importances")
    names = {one["name"] for one in found["units"]}
    assert names >= {"magnitude", "taylor", "activation", "amp", "obs", "dimap", "yopo", "core", "random"}
    assert {one["name"] for one in found["blocks"]} == {"similarity", "removal", "visual"}
    assert found["allocations"] == ["uniform", "global", "module", "slope"]
    assert all(one["what"] and one["source"] and one["evidence"] for one in (*found["units"], *found["blocks"]))
    page = (PICTURES.parent / "structure.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in (*names, "similarity", "removal", "visual", *found["allocations"]))


def test_the_example_recipe_can_be_read() -> None:
    from edgeprune.recipe import read_recipe

    read = read_recipe(PICTURES.parent / "examples" / "small.toml")
    assert read.structure is not None and read.structure.tower is not None and read.structure.tower.target == "macs=0.8"


def test_a_recipe_that_nests_too_deeply_is_refused(tmp_path: Path) -> None:
    from edgeprune.errors import PlanError
    from edgeprune.recipe import read_recipe

    (tmp_path / "deep.toml").write_text("[tokens]\nbudgets = " + "[" * 20_000 + "]" * 20_000)
    with pytest.raises(PlanError, match="nests values too deeply"):
        read_recipe(tmp_path / "deep.toml")


GRAPHS = PICTURES.parents[1] / "tests" / "export" / "onnx_pruning" / "graphs"


def test_an_onnx_file_is_pruned_to_a_smaller_onnx_file(tmp_path: Path) -> None:
    out = tmp_path / "smaller.onnx"
    found = answer("prune", GRAPHS / "cnn.onnx", "-s", "params=0.8", "--out", out)
    assert found["met"] and found["after"]["params"] < found["before"]["params"] and out.is_file()
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).standard_normal((4, 3, 24, 24), np.float32))
    words = ("-s", "macs=0.8", "--importance", "obs", "--images", tmp_path / "inputs.npy", "--out", out, "--force")
    text = invoke("prune", GRAPHS / "vit20.onnx", *words).stdout
    assert "coupled groups" in text and "LayerNormalization" in text and "counted from the file" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "0 targets are given"),
        (("-s", "latency=0.8"), "not for ONNX files"),
        (("-s", "params=0.8", "--importance", "taylor"), "unknown importance 'taylor'"),
        (("-s", "params=0.8", "--importance", "obs", "--images", "nowhere.npy"), "nowhere.npy cannot be read"),
        (("-s", "params=0.8", "--input-shape", "1,a"), "is not understood"),
        (("-s", "params=0.8", "--input-shape", "1,3,32,32"), "give sizes that agree"),
        (("-s", "params=0.0001"), "0.0001"),
    ],
)
def test_what_an_onnx_file_cannot_have_is_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in complaint("prune", GRAPHS / "vit20.onnx", *words, "--out", tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []
