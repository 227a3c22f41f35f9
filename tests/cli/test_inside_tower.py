"""What a user sees of cuts in the tower: rows by block, MACs, warnings with numbers, and one sentence for what cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.checkpoints import tiny_checkpoint
from tests.classifiers import huggingface_folder, made_model
from tests.commands import answer, complaint, invoke
from tests.exports import DEEP, exported

RECIPE = '[tokens]\nbudgets = [0.05]\n[[tokens.inside]]\nmethod = "topk"\nlayers = [1, 2]\nkeep = [0.5, 0.5]\n'


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return huggingface_folder(tmp_path_factory.mktemp("vit") / "vit", made_model(layers=4))


def test_a_classifier_is_cut_by_one_word(classifier: Path, tmp_path: Path) -> None:
    result = invoke("export", classifier, "--inside", "topk@1,2:0.5", "--out", tmp_path / "graph", "--no-parity")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("rows by block of the tower")
    assert [line.rstrip("#").split() for line in lines[1:4]] == [
        ["0", "17"],
        ["1", "17", "->", "9"],
        ["2", "9", "->", "5"],
    ]
    assert "GMACs per picture" in lines[4] and "times fewer" in lines[4]
    assert all(len(line) <= 80 for line in lines[:5])


def test_a_forecast_counts_what_cuts_save(classifier: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "cut.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    (found,) = answer("forecast", classifier, "--recipe", recipe, "--no-time")["forecast"]
    assert found["rows"] == [[17, 17], [17, 9], [9, 5]] and found["macs"][1] < found["macs"][0]
    model = tiny_checkpoint(tower="clip", decoder="llama", vision_layers=5)
    parts = {one["part"]: one for one in answer("forecast", model, "--recipe", recipe, "--no-time")["forecast"]}
    assert parts["tower"]["rows"] == [[37, 37], [37, 19], [19, 10], [10, 10]]
    assert parts["tower"]["macs"][1] < parts["tower"]["macs"][0]
    assert parts["language"]["macs"][1] == parts["language"]["macs"][0]
    assert "rows by block of the tower" in invoke("forecast", model, "--recipe", recipe, "--no-time").stdout


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("topk@7:0.5", "the tower has blocks 0 to 3"),
        ("topk@1,1:0.5", "not ascending"),
        ("nobody@1:0.5", "unknown inside method 'nobody'"),
        ("tome@1:0.2", "expected 8 to 15"),
    ],
)
def test_what_cannot_be_is_one_line(classifier: Path, tmp_path: Path, plan: str, words: str) -> None:
    assert words in complaint("export", classifier, "--inside", plan, "--out", tmp_path / "graph")
    assert not (tmp_path / "graph").exists()


def test_inspect_shows_what_a_cut_saves() -> None:
    bundle = exported(DEEP, budgets=["0.1"], plan={"method": "hired"}, inside=["topk@1:0.5"])
    shown = invoke("inspect", bundle).stdout
    assert "inside: topk@1:0.5" in shown
    found = re.search(r"tower-topk: (\S+) of the whole tower's (\S+) GMACs per tile \((\S+) times fewer\)", shown)
    assert found and float(found[1]) < float(found[2]) and float(found[3]) > 1.2


def test_a_forecast_says_what_is_known_to_harm(tmp_path: Path) -> None:
    recipe = tmp_path / "cut.toml"
    recipe.write_text(RECIPE.replace("budgets", 'method = "divprune"\nbudgets'), encoding="utf-8")
    model = tiny_checkpoint(tower="clip", decoder="llama", vision_layers=5)
    said = invoke("forecast", model, "--recipe", recipe, "--no-time").stderr.replace("\n", " ")
    assert "cost divprune 2 points (numbers 10.7) on one model and 10.7 points (numbers 18.4) on another" in said


def test_a_cut_that_is_known_to_harm_says_so(tmp_path: Path) -> None:
    model = tiny_checkpoint(tower="clip", decoder="llama", vision_layers=5)
    asked = ("--budget", "0.1", "--method", "divprune", "--inside", "topk@1:0.5", "--no-parity", "--no-controls")
    result = invoke("export", model, *asked, "--out", tmp_path / "bundle")
    assert result.exit_code == 0, result.output
    assert (
        "cost divprune 2 points (numbers 10.7) on one model and 10.7 points (numbers 18.4) on another"
        in result.stderr.replace("\n", " ")
    )
