"""recommend as a buyer calls it: the answer first, one line per board, nothing broken at any width."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeprune.models.families.shapes import SHAPES, spec_of_shape
from edgeprune_profiles.boards.device import DeviceMemory
from edgeprune_profiles.boards.device_file import device_names, load_device, write_device
from tests.checkpoints import tiny_checkpoint
from tests.commands import answer, complaint, invoke
from tests.profiles.made_boards import board, figure

SHAPE = "llava-onevision-0.5b"


def lines_at(monkeypatch: pytest.MonkeyPatch, columns: int | None, *words: object) -> list[str]:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_the_answer_is_the_first_sentence_and_the_same_in_json() -> None:
    words = ["recommend", SHAPE, "--ttft", "2s", "--max-price", 700]
    first = invoke(*words).stdout.splitlines()[0]
    assert first.startswith("Take ") and "to the first token (projected, " in first and "USD (card alone, 20" in first
    decision = answer(*words)["decision"]
    assert decision["sentences"][0].replace("\N{NO-BREAK SPACE}", " ") == first.replace("\N{NO-BREAK SPACE}", " ")
    assert decision["verdict"] == "take"
    assert decision["choice"]["answers"] == {"fits": "yes", "ttft": "yes", "price": "yes"}
    assert decision["choice"]["price"]["kind"] == "card"
    assert decision["cheaper"]["device"] == "orin-nano-8gb-super-kit"


def test_there_is_one_line_per_board_and_all_of_them_behind_all() -> None:
    text = invoke("recommend", SHAPE, "--ttft", "2s", "--max-price", 700).stdout
    rows = [line.split()[0] for line in text.splitlines() if line.split() and line.split()[0] in device_names()]
    assert len(rows) == len(set(rows)) <= 12
    assert "no, too dear: " in text and "not projected, its TensorRT 8.5.2 is older than 10.3: " in text
    every = invoke("recommend", SHAPE, "--ttft", "2s", "--max-price", 700, "--all").stdout
    assert every.count("orin-nano-8gb-super-kit") > 4 and "agx-orin-32gb@30W" in every


@pytest.mark.parametrize("columns", [60, 80, None])
@pytest.mark.parametrize(
    "words",
    [
        ["recommend", SHAPE, "--ttft", "2s"],
        ["recommend", SHAPE, "--ttft", "2s", "--all"],
        ["recommend", "llava-next-7b", "--ttft", "10ms", "--max-price", 300],
        ["project", SHAPE, "-d", "orin-nano-8gb-super-kit", "-d", "rtx-4060-laptop@45W"],
        ["project", "--backtest"],
        ["devices"],
        ["devices", "agx-orin-64gb-kit"],
        ["devices", "--check"],
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_no_number_and_no_name_is_broken(
    monkeypatch: pytest.MonkeyPatch, words: list[object], columns: int | None
) -> None:
    lines = lines_at(monkeypatch, columns, *words)
    if columns is not None:
        whole = ("http", "  edgeprune ")  # addresses and commands, which are copied
        long = [line for line in lines if len(line) > columns and not any(word in line for word in whole)]
        assert not long
    text = "\n".join(lines)
    known = set(device_names())
    parts = {name[:cut] for name in known for cut in range(8, len(name)) if name[cut - 1] == "-"}
    assert not [line for line in lines if line.split() and line.split()[-1] in parts - known]
    assert "…" not in text


def test_a_column_that_the_needs_speak_of_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    boards = ("-d", "orin-nano-8gb-super-kit", "-d", "orin-nx-8gb", "-d", "agx-orin-64gb-kit")

    def heads(*needs: str) -> list[str]:
        lines = lines_at(monkeypatch, 80, "recommend", SHAPE, "--ttft", "2s", *needs, *boards)
        return next(line.split() for line in lines if line.startswith("board"))

    assert "W" not in heads()
    assert "W" in heads("--max-power", "60W") and "GiB" in heads("--max-memory", "8GB")


def test_what_does_not_fit_is_refused_with_its_needs_and_what_limits_is_named(tmp_path: Path) -> None:
    small = tmp_path / "small.toml"
    write_device(board("small", memory=DeviceMemory(figure(4e9), figure(100e9))), small)
    said = invoke("recommend", "llava-next-7b", "-d", small).stdout
    assert said.startswith("None of these boards holds the model: at least 15.")
    assert "most of them for weights" in said
    projected = invoke("project", "llava-next-7b", "-d", small, "-b", "1.0").stdout
    assert (
        "small does not hold it at budget 1.0: most of the memory is taken by weights; prefill takes most" in projected
    )


def test_where_nothing_meets_the_needs_it_says_what_would_have_to_give() -> None:
    found = answer("recommend", SHAPE, "--ttft", "1s", "--max-price", 200)["decision"]
    assert (found["verdict"], found["choice"]["answers"]["price"]) == ("unsure", "unknown")
    needs = {relax["need"] for one in found["concede"] for relax in one["relax"]}
    assert "price" in needs
    assert "--max-price 299 instead of 200" in " ".join(found["sentences"])


def test_a_checkpoint_folder_stands_in_for_a_bundle(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tower="clip", decoder="llama")
    found = answer("recommend", checkpoint, "-d", "orin-nano-8gb", "-b", "0.2", "-b", "4")
    assert {(c["budget"], c["basis"]) for c in found["choices"]} == {("0.2", "projected"), ("4", "projected")}
    assert "edgeprune export" in invoke("recommend", checkpoint, "-d", "orin-nano-8gb", "--ttft", "1s").stdout
    assert "--report x,y.json does not say of which bundle" in complaint(
        "recommend", checkpoint, "--report", "x,y.json"
    )
    assert "--method" not in invoke("recommend", checkpoint, "-d", "orin-nano-8gb", "--ttft", "1s").stdout
    said = complaint("recommend", "no-such-model")
    assert f"no hub id (owner/name) and no shape; shapes are {', '.join(SHAPES)}" in said


def test_the_next_step_of_a_model_without_a_class_token_needs_no_method() -> None:
    checkpoint = tiny_checkpoint(family="llava_onevision")
    lines = invoke("recommend", checkpoint, "-d", "orin-nano-8gb").stdout.splitlines()
    at = lines.index("To be sure, export on a workstation and measure the copied bundle on orin-nano-8gb:")
    assert "edgeprune export" in lines[at + 1] and "--method" not in lines[at + 1]


def evaluation(folder: Path, *rows: tuple[float, float, float, float]) -> Path:
    """An accuracy file: (keep ratio, low, point, high) in shares below a full budget that scores 90 %."""
    whole = {"name": "1.0", "method": "full", "keep_ratio": 1.0, "questions": 500, "errors": 0, "differences": {}}
    whole["scores"] = {"exact_match": 0.9}
    found: list[dict[str, Any]] = [whole]
    for ratio, low, point, high in rows:
        difference = {"low": low, "point": point, "high": high, "n": 500, "clusters": 100, "distinguishable": high < 0}
        found.append(
            {
                "name": f"{ratio}", "method": "hired", "keep_ratio": ratio, "questions": 500, "errors": 0,
                "scores": {"exact_match": 0.9 + point}, "differences": {"exact_match": difference},
            }
        )  # fmt: skip
    path = folder / "accuracy.json"
    text = {"data": "d", "images": 100, "questions": 500, "headline": "exact_match", "rows": found}
    path.write_text(json.dumps({**text, "settings": {"bundle": "f" * 64}}))
    return path


def test_accuracy_budget_and_board_are_decided_together(tmp_path: Path) -> None:
    path = evaluation(tmp_path, (0.1, -0.09, -0.07, -0.05), (0.5, -0.02, -0.01, 0.0))
    words = ["recommend", SHAPE, "--ttft", "2s", "--max-price", 700, "--eval", path]
    fast = answer(*words)["decision"]["choice"]
    assert fast["budget"] == "0.1", "the fastest budget, as long as nobody asks what it costs"
    asked = answer(*words, "--accuracy", "-3")
    assert asked["decision"]["choice"]["budget"] == "0.5"
    assert asked["decision"]["choice"]["accuracy"]["difference"]["point"] == -0.01
    by = {(c["device"], c["budget"]): c["answers"]["accuracy"] for c in asked["choices"]}
    assert (by["rtx-4060", "0.1"], by["rtx-4060", "0.5"], by["rtx-4060", "1.0"]) == ("no", "yes", "yes")
    assert answer(*words, "--accuracy", "95")["decision"]["verdict"] == "none"
    result = invoke(*words, "--accuracy", "-3")
    assert "evaluated with another bundle (ffffffffffff)" in result.stderr
    assert invoke("recommend", SHAPE, "--accuracy", "-3").exit_code == 2


def test_an_interval_that_holds_the_limit_is_said_to_decide_nothing(tmp_path: Path) -> None:
    path = evaluation(tmp_path, (0.5, -0.06, -0.035, 0.0))
    words = ["recommend", SHAPE, "-b", "0.5", "-d", "rtx-4090", "--eval", path, "--accuracy", "-3"]
    said = invoke(*words).stdout
    assert said.startswith("Nothing here can be called likely.")
    assert "accuracy open: the interval holds the limit" in said


def test_what_eval_and_profile_write_decides_for_a_bundle(
    tiny_bundle: Path,
    measured: tuple[Path, dict[str, Any]],
    evaluated: tuple[Path, dict[str, Any]],
    tmp_path: Path,
) -> None:
    here = tmp_path / "here.toml"
    write_device(board("here", kind="cpu"), here)
    words = ["recommend", tiny_bundle, "-b", "0.2", "-b", "1.0", "-d", "orin-nano-8gb", "--max-tokens", 3]
    words += ["--report", f"{here},{measured[0]}", "--eval", evaluated[0], "--accuracy", "-3"]
    by = {(c["device"], c["budget"]): c for c in answer(*words)["choices"]}
    assert by["here", "1.0"]["answers"]["accuracy"] == "yes" and by["here", "1.0"]["basis"] == "measured"
    few = by["orin-nano-8gb", "0.2"]
    assert few["answers"]["accuracy"] == "open", "three pictures decide nothing"
    assert few["accuracy"]["difference"]["clusters"] == 3
    result = invoke(*words, "-d", here)
    assert "another bundle" not in result.stderr
    assert "to the first token (measured, " in result.stdout or "(measured or projected)" in result.stdout


def test_nothing_heavy_is_imported_for_a_shape() -> None:
    """So that it answers in a base install, and soon."""
    script = (
        "import sys; from typer.testing import CliRunner; from edgeprune.cli import app; "
        "print(CliRunner().invoke(app, ['recommend', 'llava-next-7b', '--json']).exit_code, "
        "sorted({'torch', 'transformers', 'onnx', 'onnx_ir', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0 []", done.stderr


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_a_whole_model_and_the_help_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of_shape(name)
    assert spec.source == SHAPES[name].source and spec.picture.candidates_max >= 576
    monkeypatch.setenv("COLUMNS", "200")
    assert name in invoke("recommend", "--help").stdout


def test_the_parameters_of_the_shapes_are_those_of_their_names() -> None:
    """Decoder and tables, in thousand millions, as the names say."""
    for name, (least, most) in {
        "llava-1.5-7b": (6.5, 7.0),
        "llava-next-7b": (7.0, 7.5),
        "llava-onevision-0.5b": (0.4, 0.6),
        "llava-onevision-7b": (7.0, 7.7),
        "internvl3-1b": (0.4, 0.8),
    }.items():
        language = spec_of_shape(name).language
        block = (
            2 * language.hidden * language.head_dim * (language.heads + language.kv_heads)
            + 3 * language.hidden * language.mlp
        )
        tables = language.vocab * language.hidden * (1 if language.tied else 2)
        assert least < (language.layers * block + tables) / 1e9 < most, name


def test_devices_check_lists_what_is_stale_quoted_and_unknown() -> None:
    found = answer("devices", "--check", "--older-than", 6)
    by = {one["device"]: one for one in found["devices"]}
    assert set(by) == set(device_names()) and found["older_than_months"] == 6
    assert "price" in by["rtx-5080"]["stale"] and "price" in by["l4"]["unknown"]
    assert load_device("agx-orin-32gb").market.price_usd is not None and "price" not in by["agx-orin-32gb"]["quoted"]
    text = invoke("devices", "rtx-5080", "--check").stdout
    assert text.startswith("1 devices: 1 with a price or a version older than 12 months, ")
    assert "\nrtx-5080\n  stale: price (2025-01)\n  quoted: " in text
    assert invoke("devices", "--older-than", 3).exit_code == 2
