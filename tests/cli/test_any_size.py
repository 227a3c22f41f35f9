"""Commands on a bundle with several grids: each finds the tower of the grid that its picture gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from edgeprune_profiles.measure.picture import draw_picture
from edgeprune_profiles.measure.work import request_shape, request_stages
from edgeprune_runtime import Bundle
from tests.commands import answer, invoke
from tests.exports import exported
from tests.pruning.made import write_questions

QUICK = ["--runs", 1, "--warmup", 0, "--max-tokens", 2, "--threads", 1]
VARIANT = {"family": "qwen3_vl", "vision_layers": 3, "deepstack": (0, 2), "patches": 7}


@pytest.fixture(scope="module")
def bundle() -> Path:
    return exported(VARIANT, budgets=["0.5", "1.0"], parity=False, plan={"method": "divprune"}, tokens=12)


def test_the_work_of_a_request_is_that_of_the_tower_of_its_grid(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    picture, work = opened.manifest.picture, opened.manifest.work
    towers = {}
    for height, width in picture.views:
        shape = request_shape(opened, "1.0", "what", 2, (height, width))
        assert shape.tower == f"tower-{height}x{width}" and shape.visual == height * width // picture.tile.unit_px**2
        towers[height, width] = request_stages(32, work, shape, None)[0].runs[0][1].macs["fp32"]
    assert max(towers, key=lambda view: towers[view]) == picture.largest and len(set(towers.values())) > 1
    assert request_shape(opened, "1.0", "what", 2).tower == "tower-{}x{}".format(*picture.largest)


def test_a_smaller_picture_is_projected_to_be_less_work(bundle: Path) -> None:
    picture = Bundle.open(bundle).manifest.picture
    height, width = min(picture.views, key=lambda view: view[0] * view[1])
    words = ("project", bundle, "--device", "orin-nano-8gb", "--budget", "1.0")
    large, small = (answer(*words, *more) for more in ((), ("--size", f"{width}x{height}")))
    assert [one["projections"][0]["visual_tokens"] for one in (large, small)] == [
        picture.candidates_max,
        height * width // picture.tile.unit_px**2,
    ]


def test_a_profile_fills_the_largest_grid_or_the_one_of_the_size_asked(bundle: Path) -> None:
    picture = Bundle.open(bundle).manifest.picture
    height, width = min(picture.views, key=lambda view: view[0] * view[1])
    assert (height, width) != picture.largest
    for more, said, tokens in (
        ((), "the largest grid of {}x{} pixels".format(*picture.largest), picture.candidates_max),
        (("--size", f"{width}x{height}"), f"a grid of {height}x{width} pixels", None),
    ):
        found = answer("profile", bundle, *QUICK, "--budget", "1.0", *more)
        assert any(said in note for note in found["notes"])
        wanted = tokens or height * width // picture.tile.unit_px**2
        assert found["budgets"][0]["visual_tokens"] == wanted


def test_an_evaluation_a_report_and_drawn_tokens_know_every_grid(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    questions = write_questions(tmp_path / "data" / "questions.jsonl")
    answer("eval", bundle, "--data", questions, "--max-tokens", 2, "--out", tmp_path / "eval.json")
    answer("profile", bundle, *QUICK, "--out", tmp_path / "profile.json")
    words = ("--eval", tmp_path / "eval.json", "--html", tmp_path / "report.html")
    assert invoke("report", tmp_path / "profile.json", *words).exit_code == 0
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    for number, (height, width) in enumerate(Bundle.open(bundle).manifest.picture.views):
        draw_picture(height, width).save(tmp_path / "picture.png")
        drawn = tmp_path / f"{number}.png"
        found = answer(
            "run",
            bundle,
            "--image",
            tmp_path / "picture.png",
            "--prompt",
            "what",
            "--budget",
            "0.5",
            "--max-tokens",
            1,
            "--show-tokens",
            drawn,
        )
        with Image.open(drawn) as sheet:
            assert sheet.width >= 960
        assert all(row * 16 < height and col * 16 < width for _, row, col in found["kept"])
