"""What a user sees of rows that leave inside the language model: names, rows by layer, caches, and one sentence for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import tiny_checkpoint
from tests.commands import answer, complaint, invoke
from tests.exports import exported

RECIPE = '[tokens]\nbudgets = [1.0]\n[[tokens.inside]]\nmethod = "pdrop"\nlayers = [1, 3]\nkeep = [0.5, 0.25]\n'
#: As the design names them.
NAMES = "fastv pdrop feather sparsevlm transprune mustdrop vflowopt todre flowcut yopo gsearch psigmoid corematching lvlm-csp"
FOUR = {"tower": "clip", "decoder": "llama", "layers": 4}


def test_every_method_is_listed_with_where_it_acts() -> None:
    listed = answer("methods")
    for name in (*NAMES.split(), "encoder", "random-rows", "uniform-rows", "drop-all"):
        assert listed[f"{name}@language"]["acts"] == "before layers of the language model"


def test_a_forecast_counts_rows_and_caches_by_layer(tmp_path: Path) -> None:
    recipe = tmp_path / "leaving.toml"
    recipe.write_text(RECIPE + '[export]\nstage-room = "kept"\n', encoding="utf-8")
    model = tiny_checkpoint(**FOUR)
    parts = {one["part"]: one for one in answer("forecast", model, "--recipe", recipe, "--no-time")["forecast"]}
    language, keep = parts["language"], parts["language"]["keep"]
    assert language["visual"] == [keep, round(keep / 2), round(keep / 2), round(keep / 4)]
    assert language["macs"][1] < language["macs"][0] and language["cache_bytes"][1] < language["cache_bytes"][0]
    assert parts["tower"]["visual"] == [] and parts["tower"]["macs"][1] == parts["tower"]["macs"][0]
    shown = invoke("forecast", model, "--recipe", recipe, "--no-time").stdout
    assert "visual rows by layer of the language model" in shown and "#" * 40 in shown


def test_a_forecast_of_nothing_left_out_is_that_of_one_stage(tmp_path: Path) -> None:
    recipe, plain = tmp_path / "whole.toml", tmp_path / "plain.toml"
    recipe.write_text(RECIPE.replace("[0.5, 0.25]", "[1, 1]") + "[export]\nstage-chunk = 128\n", encoding="utf-8")
    plain.write_text("[tokens]\nbudgets = [1.0]\n", encoding="utf-8")
    found = [answer("forecast", tiny_checkpoint(**FOUR), "--recipe", one, "--no-time") for one in (recipe, plain)]
    whole, none = (one["forecast"][-1] for one in found)
    assert whole["part"] == "language" and whole["macs"] == none["macs"] == [none["macs"][0]] * 2
    assert whole["cache_bytes"] == none["cache_bytes"]


def test_inspect_shows_stages_and_a_bar_for_each(tmp_path: Path) -> None:
    bundle = exported(FOUR, budgets=("1.0",), inside=["pdrop@1,3:0.5,6"], parity=False)
    shown = invoke("inspect", bundle).stdout
    assert "inside: pdrop@1,3:0.5,6" in shown and "kept over layers" in shown
    bars = [line for line in shown.splitlines() if line.endswith("#")]
    assert [bar.split()[0] for bar in bars] == ["0", "1-2", "3"] and len(bars[0].split()[-1]) == 40


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("pdrop@4:0.5", "before layer 4 of the language model, which has layers 0 to 3"),
        ("pdrop@0:0.5", "before layer 0 a --budget chooses"),
        ("pdrop@1:5000", "at most"),
        ("pdrop@1,3:6,0.9", "only 6 arrive there"),
        ("todre@2:0.5", "todre lets all visual rows leave; write todre@2:0"),
        ("lvlm-csp@1,3:0.5", "lvlm-csp has three layers"),
        ("fastv@1:0.5:seed=1", "has no setting 'seed'"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(tmp_path: Path, plan: str, words: str) -> None:
    said = complaint(
        "export", tiny_checkpoint(**FOUR), "--budget", "1.0", "--inside", plan, "--out", tmp_path / "bundle"
    )
    assert words in said and not (tmp_path / "bundle").exists()
