"""--tiles says how many tiles of a picture are looked at: of one request, of a measurement, of an export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from edgeprune.cli.choices import tiles_from_text

from edgeprune_profiles import load_report
from edgeprune_profiles.measure.picture import draw_picture
from edgeprune_profiles.measure.runs import run_shape
from edgeprune_runtime import Bundle, Model
from tests.commands import answer, invoke

QUICK = ["--max-tokens", 2, "--threads", 1]


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "square.png"
    draw_picture(96, 96).save(path)
    return path


@pytest.mark.parametrize(("tiles", "tokens"), [("none", 180), ("4", 180), ("2", 72), ("0", 36)])
def test_a_request_looks_at_as_many_tiles_as_asked(tiny_bundle: Path, square: Path, tiles: str, tokens: int) -> None:
    """On two tiles a square is half padding, which is no token."""
    found = answer("run", tiny_bundle, "--image", square, "-p", "what ?", "-b", "1.0", "--tiles", tiles, *QUICK)
    assert found["visual_tokens"] == tokens
    with Model.open(tiny_bundle, threads=1) as model:
        same = model.ask("what ?", image=square, budget="1.0", tiles=tiles_from_text(tiles), max_tokens=2)
    assert found["token_ids"] == list(same.token_ids)


def test_an_evaluation_does_and_says_so(tiny_bundle: Path, tmp_path: Path) -> None:
    data, log = tmp_path / "questions.jsonl", tmp_path / "log.jsonl"
    draw_picture(96, 96).save(tmp_path / "square.png")
    data.write_text(json.dumps({"image": "square.png", "question": "what ?", "answers": ["x"], "kind": "k"}) + "\n")
    options = ["--data", data, "-b", "1.0", "--answers", log, *QUICK]
    assert "tiles" not in answer("eval", tiny_bundle, *options)["settings"]
    log.unlink()
    assert answer("eval", tiny_bundle, *options, "--tiles", 2)["settings"]["tiles"] == "2"
    with Model.open(tiny_bundle, threads=1) as model:
        few = model.ask("what ?", image=tmp_path / "square.png", budget="1.0", tiles=2, max_tokens=2).text
    assert few in log.read_text()


def test_a_profile_does_in_all_its_requests_and_records_it(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    answer("profile", tiny_bundle, "-b", "0.2", "--runs", 1, "--warmup", 0, *QUICK, "--tiles", 2, "--out", out)
    report, bundle = load_report(out), Bundle.open(tiny_bundle)
    (result,) = report.budgets
    assert report.tiles == 2 and "(3 tiles)" in " ".join(report.notes)
    assert {len(sample.wall_s["tower"]) for sample in result.samples} == {1}
    shape = run_shape(bundle, report, result, None)
    assert (shape.tiles, shape.visual) == (3, 36)


@pytest.mark.parametrize("tiles", ["-1", "many", "2.0", ""])
def test_what_is_no_number_of_tiles_is_refused(tiny_bundle: Path, tiles: str) -> None:
    result = invoke("run", tiny_bundle, "-p", "what ?", "--tiles", tiles)
    assert result.exit_code == 2 and "no number of tiles" in " ".join(result.output.split())
