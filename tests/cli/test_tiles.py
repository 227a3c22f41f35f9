"""--tiles says how many tiles of a picture are looked at: of one request, of a measurement, of an export."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.cli.options import tiles_from_text
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


@pytest.mark.parametrize(("tiles", "tokens"), [("none", 36), ("4", 180), ("2", 72), ("0", 36)])
def test_a_request_looks_at_as_many_tiles_as_asked(tiny_bundle: Path, square: Path, tiles: str, tokens: int) -> None:
    """On two tiles a square is half padding, which is no token."""
    found = answer("run", tiny_bundle, "--image", square, "-p", "what ?", "-b", "1.0", "--tiles", tiles, *QUICK)
    assert found["visual_tokens"] == tokens
    with Model.open(tiny_bundle, threads=1) as model:
        same = model.ask("what ?", image=square, budget="1.0", tiles=tiles_from_text(tiles), max_tokens=2)
    assert found["token_ids"] == list(same.token_ids)


def test_a_report_is_read_with_the_tiles_of_each_of_its_rows(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    answer("profile", tiny_bundle, "-b", "0.2", "--runs", 1, "--warmup", 0, *QUICK, "--tiles", 2, "--out", out)
    report, bundle = load_report(out), Bundle.open(tiny_bundle)
    shapes = {one.budget.name: run_shape(bundle, report, one, None) for one in report.budgets}
    assert {name: (shape.tiles, shape.visual) for name, shape in shapes.items()} == {
        "0.2": (5, 36),
        "0.2 on 2 tiles": (3, 36),
    }


@pytest.mark.parametrize("tiles", ["-1", "many", "2.0", ""])
def test_what_is_no_number_of_tiles_is_refused(tiny_bundle: Path, tiles: str) -> None:
    result = invoke("run", tiny_bundle, "-p", "what ?", "--tiles", tiles)
    assert result.exit_code == 2 and "no number of tiles" in " ".join(result.output.split())
