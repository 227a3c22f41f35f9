"""What a picture shows twice: equal tiles share one run of the tower, which changes nothing; equal tokens leave on request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune_runtime import Model
from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.pictures.equal import twin_of, without_equal
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.vision import Vision
from tests.commands import answer, invoke
from tests.exports import DEEP, exported

NOISE = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tower_runs() -> Iterator[list[int]]:
    """Tiles that a tower ran for."""
    from edgeprune_runtime import vision

    ran: list[int] = []
    run = vision._Tower.run

    def counted(self: Any, tile: int, *rest: Any) -> None:
        ran.append(tile)
        run(self, tile, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision._Tower, "run", counted)
        yield ran


def repeated(model: Model) -> np.ndarray:
    """A picture whose four tiles are the same."""
    side = 2 * model.bundle.manifest.picture.tile.px
    return np.tile(NOISE[: side // 2, : side // 2], (2, 2, 1))


def half_white(model: Model) -> np.ndarray:
    """Noise above, nothing below."""
    side = 2 * model.bundle.manifest.picture.tile.px
    picture = NOISE[:side, :side].copy()
    picture[side // 2 :] = 255
    return picture


def test_equal_tiles_share_one_run_and_the_outputs_are_those_of_a_run_each(
    opened: Model, tower_runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = repeated(opened)
    tower_runs.clear()
    view = opened.see(picture, budget="1.0")
    assert view.picture.tiles == 5 and tower_runs == [0, 1]
    assert "3 of 5 tiles show nothing that others do not: the tower ran 2 times" in view.notes
    shared = {name: value.copy() for name, value in opened.vision.outputs().items()}
    monkeypatch.setattr("edgeprune_runtime.vision.twin_of", lambda *given: None)
    tower_runs.clear()
    again = opened.see(picture, budget="1.0")
    assert tower_runs == [0, 1, 2, 3, 4] and again.notes == ()
    for name, value in opened.vision.outputs().items():
        np.testing.assert_array_equal(shared[name], value)
    np.testing.assert_array_equal(view.visual, again.visual)


def test_a_tile_that_differs_in_one_pixel_or_in_its_padding_runs_by_itself(opened: Model) -> None:
    spec = opened.bundle.manifest.picture
    side = 2 * spec.tile.px
    tiles = np.repeat(np.random.default_rng(0).random((1, 3, 12, 12), np.float32), 3, axis=0)
    tiles[2, 1, 3, 4] += 1e-6
    picture = pack_picture(spec.place(side, side), spec)
    assert [twin_of(t, tiles, picture) for t in range(3)] == [None, 0, None]
    thin = pack_picture(spec.place(side, side // 2 + 10), spec)
    padded = (thin.slot < 0).any(axis=1)[: thin.tiles]
    assert padded.any() and not padded[0], "a picture with padding in some tiles"
    number = int(np.flatnonzero(padded)[0])
    assert twin_of(number, np.repeat(tiles[:1], number + 1, axis=0), thin) != 0


def test_tokens_that_show_the_same_leave_on_request_only(opened: Model, tower_runs: list[int]) -> None:
    picture = half_white(opened)
    whole = opened.see(picture, budget="1.0")
    tower_runs.clear()
    view = opened.see(picture, budget="1.0", skip_equal=0)
    units = opened.bundle.manifest.picture.tile.units
    assert tower_runs == [0, 1, 2], "two tiles are white, as the lower half of the overview"
    assert len(whole.kept) == 5 * units and len(view.kept) < len(whole.kept) - 2 * units
    assert (
        f"{len(whole.kept) - len(view.kept)} of {len(whole.kept)} visual tokens show what one before them shows"
        in view.notes[0]
    )
    assert "2 of 5 tiles show nothing that others do not: the tower ran 3 times" in view.notes
    np.testing.assert_array_equal(whole.visual[np.isin(whole.kept, view.kept)], view.visual)
    answer = opened.ask("what is it?", image=view, max_tokens=2)
    assert answer.visual_tokens == len(view.kept) and view.notes[0] in answer.notes
    assert opened.see(picture, budget="1.0").notes == whole.notes


def test_a_budget_is_filled_from_what_is_left(opened: Model) -> None:
    view = opened.see(half_white(opened), budget="0.2", skip_equal=0)
    assert len(view.kept) == view.selection.keep
    white = opened.see(np.full((100, 100, 3), 200, np.uint8), budget="0.2", skip_equal=0)
    assert len(white.kept) == 1 and "the picture has 1 visual tokens in all" in white.notes[1]


@pytest.mark.parametrize("tolerance", [0, 3, 8])
def test_left_out_is_what_an_exhaustive_search_finds(opened: Model, tolerance: float) -> None:
    spec = opened.bundle.manifest.picture
    side, px = 2 * spec.tile.px, spec.tile.unit_px
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 256, (6, 1, 1, 3)) + rng.integers(-3, 4, (6, px, px, 3))
    blocks = kinds[rng.integers(0, 6, (side // px, side // px))] + rng.integers(
        -2, 3, (side // px, side // px, 1, 1, 1)
    )
    image = Image.fromarray(np.clip(blocks.transpose(0, 2, 1, 3, 4).reshape(side, side, 3), 0, 255).astype(np.uint8))
    place = spec.place(side, side)
    picture, tiles = pack_picture(place, spec), tiles_from_image(image, spec, place)
    mean, std = (np.asarray(part, np.float32)[:, None, None] for part in (spec.tile.mean, spec.tile.std))
    shown: list[np.ndarray] = []
    expected = picture.slot.copy()
    for t, tile in enumerate(tiles):
        levels = np.rint((tile * std + mean) / np.float32(spec.tile.rescale))
        for n in range(spec.tile.side**2):
            row, col = divmod(n, spec.tile.side)
            unit = levels[:, row * px : (row + 1) * px, col * px : (col + 1) * px]
            if expected[t, n] < 0:
                continue
            if any(np.abs(unit - other).max() <= tolerance for other in shown):
                expected[t, n] = -1
            else:
                shown.append(unit)
    found = without_equal(picture, tiles, spec.tile, tolerance)
    np.testing.assert_array_equal(found.slot, expected)
    assert found.left_out == int((picture.slot >= 0).sum() - (expected >= 0).sum()) > 0


def test_what_is_left_out_leaves_a_tower_that_is_cut_first() -> None:
    bundle = exported(DEEP, budgets=["0.1"], plan={"method": "hired"}, inside=["topk@1:0.5"])
    with Model.open(bundle, threads=1) as model:
        view = model.see(half_white(model), skip_equal=0)
        alive = model.vision.outputs("tower-topk")["alive"]
        assert (view.picture.slot.reshape(-1)[view.kept] >= 0).all()
        assert not alive[0][view.picture.slot[0] < 0].any(), "half of the overview is white, and half of it leaves"


@pytest.mark.parametrize("tolerance", [-1, 255, float("nan"), "much", True])
def test_a_tolerance_that_is_none_is_refused(opened: Model, tolerance: Any) -> None:
    with pytest.raises(RequestError, match="skip_equal is .*; expected a number of levels from 0"):
        opened.see(NOISE, skip_equal=tolerance)


def test_without_asking_nothing_is_compared_but_whole_tiles(opened: Model) -> None:
    assert isinstance(opened.vision, Vision)
    view = opened.see(NOISE, budget="1.0")
    assert view.notes == () and view.picture.left_out == 0


def test_run_says_how_many_were_left_out(tiny_bundle: Any, opened: Model, tmp_path: Any) -> None:
    Image.fromarray(half_white(opened)).save(tmp_path / "p.png")
    asked = ("run", tiny_bundle, "--image", tmp_path / "p.png", "--prompt", "what is it?", "--budget", "1.0")
    whole, less = (answer(*asked, "--max-tokens", 2, *more) for more in ((), ("--skip-equal", 0)))
    assert less["visual_tokens"] < whole["visual_tokens"] == less["candidates"]
    assert any("show what one before them shows and were left out" in note for note in less["notes"])
    assert "--skip-equal" in invoke(*asked, "--skip-equal", 300).output
