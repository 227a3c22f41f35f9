"""Grids of a model that takes any size, from the command line; and several pictures in one prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.cli.options import size_from_text
from edgeprune_profiles.measure.picture import draw_picture
from edgeprune_runtime import Bundle, Model, Turn
from tests.checkpoints import tiny_checkpoint
from tests.commands import answer, invoke

QUICK = ["--max-tokens", 2, "--threads", 1]
EXPORT = ["--budget", "0.5", "--method", "divprune", "--no-parity", "--no-controls", "--max-images", 2]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A wide and a tall one."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "wide.png", folder / "tall.png"]
    for path, (height, width) in zip(paths, ((40, 90), (90, 40)), strict=True):
        draw_picture(height, width).save(path)
    return paths


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grids") / "bundle"
    sizes = ["--grid", "32x64", "--grid", "64x32"]
    assert answer("export", tiny_checkpoint(family="qwen3_vl"), *EXPORT, *sizes, "--out", out)
    return out


def test_a_bundle_has_a_tower_for_each_grid(grids: Path) -> None:
    manifest = Bundle.open(grids).manifest
    assert {g.name for g in manifest.graphs if g.name.startswith("tower")} == {"tower-32x64", "tower-64x32"}
    assert manifest.picture.views == ((32, 64), (64, 32)) and manifest.picture.candidates_max == 8


def test_an_answer_says_the_grid_and_how_places_are_meant(grids: Path, pictures: list[Path]) -> None:
    found = answer("run", grids, "--image", pictures[1], "-p", "what ?", *QUICK)
    (shown,) = found["pictures"]
    assert shown["grid"] == [64, 32] and shown["size"] == [90, 40]
    assert shown["coordinates"] == "thousandths" and shown["scale"] == [40 / 1000, 90 / 1000]
    assert shown["distortion"] == pytest.approx(90 / 40 / 2)
    assert any("changed by 12%" in note or "changed by 13%" in note for note in found["notes"])
    assert found["visual_tokens"] == shown["visual_tokens"] == 4


def test_pictures_with_marks_share_a_prompt_and_others_are_asked_about_one_by_one(
    grids: Path, pictures: list[Path]
) -> None:
    both = ["--image", pictures[0], "--image", pictures[1]]
    question = "first <image> , then <image> . what ?"
    together = answer("run", grids, *both, "-p", question, *QUICK)
    assert together["image"] == [str(path) for path in pictures] and together["visual_tokens"] == 8
    with Model.open(grids, threads=1) as model:
        same = model.ask([Turn("user", question)], image=pictures, max_tokens=2)
        assert together["token_ids"] == list(same.token_ids)
        other = model.ask("first <image> , then <image> . what ?", image=pictures[::-1], max_tokens=2)
        assert other.pictures[0].grid == (64, 32)
    apart = answer("run", grids, *both, "-p", "what ?", *QUICK)["answers"]
    assert [one["image"] for one in apart] == [str(path) for path in pictures]
    assert [one["visual_tokens"] for one in apart] == [4, 4]


def test_a_mark_too_many_is_one_sentence(grids: Path, pictures: list[Path]) -> None:
    result = invoke("run", grids, "--image", pictures[0], "-p", "<image> and <image> ?", *QUICK)
    assert result.exit_code == 1 and "2 marks <image> for 1 picture(s)" in " ".join(result.output.split())


def test_several_pictures_share_a_prompt_of_tiles_too(tiny_bundle: Path, pictures: list[Path]) -> None:
    both = ["--image", pictures[0], "--image", pictures[1]]
    found = answer("run", tiny_bundle, *both, "-p", "what <image> or <image> ?", "-b", "40", *QUICK)
    assert found["visual_tokens"] == 80 and [shown["grid"] for shown in found["pictures"]] == [None, None]


def test_what_was_chosen_where_nobody_said_is_told(tmp_path: Path) -> None:
    made = invoke("export", tiny_checkpoint(family="qwen3_vl"), *EXPORT, "--out", tmp_path / "bundle")
    told = " ".join(made.output.split())
    assert made.exit_code == 0
    assert "grids of up to 256 visual tokens (256x256," in told and "would give up to" in told
    assert "boxes and points want 1024 visual tokens" in told


def test_grids_and_tokens_say_the_same_thing(tmp_path: Path) -> None:
    folder = tiny_checkpoint(family="qwen3_vl")
    result = invoke("export", folder, *EXPORT, "--tokens", 16, "--grid", "32x32", "--out", tmp_path / "bundle")
    assert result.exit_code == 1 and "give one of them" in " ".join(result.output.split())


@pytest.mark.parametrize("text", ["32", "32x", "x32", "-1x32", "0x32", "axb", "32x32x32", ""])
def test_what_is_no_grid_is_refused(tmp_path: Path, text: str) -> None:
    result = invoke("export", "nowhere", "--budget", "0.5", "--grid", text, "--out", tmp_path / "bundle")
    assert result.exit_code in (1, 2) and (
        "is no grid" in " ".join(result.output.split()) or "nowhere" in result.output
    )


def test_a_grid_is_height_and_width() -> None:
    assert size_from_text("448x336") == (448, 336)
