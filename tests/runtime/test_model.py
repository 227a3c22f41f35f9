"""One opened model: what it says about itself, its views, and that a bad request leaves it usable."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune_runtime import Model, Sampling, View
from edgeprune_runtime.errors import BudgetError, ImageError, PromptError, RequestError
from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.vision import Vision

QUESTION = "what is the number?"
LARGEST = 5 * 36


def picture(height: int = 120, width: int = 170, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def packed(model: Model, height: int, width: int) -> PackedPicture:
    spec = model.bundle.manifest.picture
    return pack_picture(spec.place(height, width), spec)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_the_model_names_its_budgets_and_methods(opened: Model) -> None:
    assert opened.budgets == ("0.2", "0.5", "40", "1.0")
    assert opened.methods("0.2") == ("hired", "random", "uniform", "downsample")
    assert opened.methods("1.0") == ("full",)
    assert opened.backend == "onnxruntime"


@pytest.mark.parametrize(("budget", "keep"), [("0.2", 36), (0.5, 90), ("40", 40), (40, 40)])
@pytest.mark.parametrize("method", ["hired", "random", "uniform", "downsample"])
def test_keeps_exactly_the_budget(opened: Model, budget: Any, keep: int, method: str) -> None:
    for size in ((120, 170), (60, 110), (100, 50)):
        view = opened.see(picture(*size), budget=budget, method=method)
        assert len(view.kept) == len(view.visual) == len(view.triples) == len(set(view.triples)) == keep
        assert view.notes == () and view.picture.place.size == size
        slots = view.picture.slot.reshape(-1)[view.kept]
        assert (slots >= 0).all() and (np.diff(slots) > 0).all()
        assert np.isfinite(view.visual).all()


@pytest.mark.parametrize("size", [(120, 170), (50, 140), (30, 900), (900, 30), (1, 1)])
def test_the_whole_budget_drops_nothing(opened: Model, size: tuple[int, int]) -> None:
    view = opened.see(picture(*size), budget="1.0")
    assert sorted(view.kept.tolist()) == np.flatnonzero(view.picture.slot.reshape(-1) >= 0).tolist()
    thin = 0 in view.picture.canvas
    assert [("so thin" in note) for note in view.notes] == [True] * thin


@pytest.mark.parametrize("method", ["hired", "random", "uniform", "downsample"])
@pytest.mark.parametrize("size", [(30, 900), (900, 30)])
def test_a_thin_picture_is_answered_and_the_view_says_what_happened(
    opened: Model, size: tuple[int, int], method: str
) -> None:
    answer = opened.ask(QUESTION, image=picture(*size), budget=0.5, method=method, max_tokens=3)
    assert answer.visual_tokens == 36 and len(answer.kept) == 36
    thin, unbound = answer.notes
    assert "only the thumbnail" in thin
    assert "36 visual tokens" in unbound and "90" in unbound
    assert opened.see(picture(*size), budget=0.2, method=method).notes == (thin,), "36 of 36: the budget is met"


def test_the_default_budget_is_the_first_of_the_export(opened: Model) -> None:
    assert opened.see(picture()).selection.budget == "0.2"


def test_the_ways_to_write_a_budget_are_one(opened: Model) -> None:
    first = opened.see(picture(), budget="0.2")
    for budget in (0.2, ".2", "0.20"):
        assert np.array_equal(opened.see(picture(), budget=budget).kept, first.kept)
    for budget in (1, 1.0, "1", "1.0"):
        assert opened.see(picture(), budget=budget).selection.method == "full"


def test_a_view_may_be_asked_again_without_encoding_again(opened: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = (QUESTION, "say the colour", "how many are there? read it")
    separate = [opened.ask(q, image=picture(), budget=0.5, max_tokens=6) for q in questions]
    view = opened.see(picture(), budget=0.5)
    monkeypatch.setattr(Vision, "encode", None)
    together = [opened.ask(q, image=view, max_tokens=6) for q in questions]
    assert [a.token_ids for a in together] == [a.token_ids for a in separate]
    assert [a.kept for a in together] == [a.kept for a in separate]


def test_an_earlier_view_outlives_a_later_picture(opened: Model) -> None:
    view = opened.see(picture(seed=1), budget=0.5)
    before = opened.ask(QUESTION, image=view, max_tokens=6)
    opened.see(picture(90, 300, seed=2), budget=0.5)
    opened.ask(QUESTION, image=picture(40, 40, seed=3), max_tokens=2)
    assert opened.ask(QUESTION, image=view, max_tokens=6).token_ids == before.token_ids


def test_views_of_one_encoding_equal_separate_views(opened: Model) -> None:
    choices = [("0.2", None), (0.5, "random"), ("1.0", None), (40, "downsample")]
    for view, (budget, method) in zip(opened.see_each(picture(), choices), choices, strict=True):
        alone = opened.see(picture(), budget=budget, method=method)
        assert np.array_equal(view.kept, alone.kept) and np.array_equal(view.visual, alone.visual)
        assert [span.name for span in view.spans] == ["preprocess", "tower", "select"]


def test_pictures_in_turn_do_not_disturb_one_another(opened: Model) -> None:
    sizes = [(120, 170), (30, 900), (200, 60), (48, 48)]
    forward = [opened.ask(QUESTION, image=picture(*s, seed=i), max_tokens=4).token_ids for i, s in enumerate(sizes)]
    backward = [
        opened.ask(QUESTION, image=picture(*s, seed=i), max_tokens=4).token_ids
        for i, s in reversed(list(enumerate(sizes)))
    ]
    assert forward == backward[::-1]
    assert len(set(forward)) > 1


def test_one_picture_in_any_form_gives_one_answer(opened: Model, tmp_path: Path) -> None:
    array = picture()
    (tmp_path / "picture.png").write_bytes(png(array))
    forms: list[Any] = [
        array,
        Image.fromarray(array),
        png(array),
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
    ]
    assert len({opened.ask(QUESTION, image=form, max_tokens=4).token_ids for form in forms}) == 1


def test_kept_tokens_are_named_by_tile_row_and_column(opened: Model) -> None:
    answer = opened.ask(QUESTION, image=picture(), budget="1.0", max_tokens=1)
    whole = packed(opened, 120, 170)
    order = np.argsort(np.where(whole.slot.reshape(-1) >= 0, whole.slot.reshape(-1), 10**6), kind="stable")
    assert answer.kept == whole.triples(order[: answer.visual_tokens].tolist(), opened.bundle.manifest.picture.tile)


def test_fewer_tiles_are_asked_for_with_the_picture(opened: Model) -> None:
    """48-pixel tiles of 36 tokens: a 2 x 2 canvas as it is, the best of the two-tile canvases, and one view."""
    wide = picture(96, 110)
    counts = {}
    for tiles, canvas in ((None, (2, 2)), (4, (2, 2)), (3, (1, 2)), (2, (1, 2)), (1, (1, 1)), (0, (1, 1))):
        view = opened.see(wide, budget="1.0", tiles=tiles)
        assert (view.picture.place.rows, view.picture.place.cols) == canvas
        assert {tile for tile, _, _ in view.triples} == set(range(view.picture.tiles))
        counts[tiles] = len(view.kept)
        answer = opened.ask(QUESTION, image=wide, budget="1.0", tiles=tiles, max_tokens=3)
        assert answer.kept == view.triples
        assert answer.token_ids == opened.ask(QUESTION, image=view, max_tokens=3).token_ids
    assert counts[None] == counts[4] > counts[3] == counts[2] > counts[1] == counts[0] == 36


def test_a_limit_that_does_not_bind_changes_no_answer(opened: Model) -> None:
    asked = [opened.ask(QUESTION, image=picture(), budget=0.5, tiles=tiles, max_tokens=4) for tiles in (None, 4, 99)]
    assert len({(answer.token_ids, answer.kept) for answer in asked}) == 1


def test_one_view_is_the_overview_of_the_whole_picture(opened: Model) -> None:
    """Tile 0 is encoded alike with and without further tiles."""
    alone = opened.see(picture(), budget="1.0", tiles=0)
    whole = opened.see(picture(), budget="1.0")
    np.testing.assert_allclose(alone.visual, whole.visual[:36], atol=1e-4 * np.abs(whole.visual).max())


def test_less_than_no_tiles_is_refused(opened: Model) -> None:
    before = answer_of(opened)
    with pytest.raises(RequestError, match="tiles is -1; expected at least 0"):
        opened.see(picture(), tiles=-1)
    assert answer_of(opened) == before


def test_policies_change_positions_and_separators(opened: Model) -> None:
    plan = opened.bundle.manifest.plan
    try:
        counts = {}
        for separators in ("all", "rows", "none"):
            opened.set_policies(positions="renumber", separators=separators)  # type: ignore[arg-type]
            counts[separators] = opened.ask(QUESTION, image=picture(), max_tokens=1).prompt_tokens
        whole = set()
        for separators in ("all", "none"):
            opened.set_policies(positions="keep", separators=separators)  # type: ignore[arg-type]
            whole.add(opened.ask(QUESTION, image=picture(), budget="1.0", max_tokens=1).prompt_tokens)
    finally:
        opened.set_policies(positions=plan.positions, separators=plan.separators)
    rows = packed(opened, 120, 170).canvas[0]
    assert counts["all"] == counts["none"] + rows
    assert counts["none"] <= counts["rows"] <= counts["all"]
    assert len(whole) == 1, "budget 1.0 keeps every newline under any policy"


def answer_of(model: Model) -> tuple[int, ...]:
    return model.ask(QUESTION, image=picture(), budget=0.5, max_tokens=5).token_ids


BAD_PICTURES: dict[str, Callable[[Path], Any]] = {
    "missing": lambda folder: folder / "nowhere.png",
    "folder": lambda folder: folder,
    "empty file": lambda folder: _file(folder, b""),
    "text file": lambda folder: _file(folder, b"I am not a picture."),
    "empty bytes": lambda folder: b"",
    "truncated png": lambda folder: _file(folder, png(picture())[:5000]),
    "half a header": lambda folder: png(picture())[:20],
    "huge": lambda folder: _file(folder, bomb()),
    "no height": lambda folder: np.zeros((0, 5, 3), np.uint8),
    "no width": lambda folder: np.zeros((5, 0, 3), np.uint8),
    "floats": lambda folder: np.zeros((5, 5, 3), np.float32),
    "five channels": lambda folder: np.zeros((5, 5, 5), np.uint8),
    "number": lambda folder: 7,
    "null byte": lambda folder: "a\0b.png",
}


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "file.png"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_is_an_image_error_and_the_model_stays_usable(opened: Model, name: str, tmp_path: Path) -> None:
    before = answer_of(opened)
    with pytest.raises(ImageError) as caught:
        opened.ask(QUESTION, image=BAD_PICTURES[name](tmp_path), max_tokens=2)
    assert ";" in str(caught.value) and "\n" not in str(caught.value)
    assert answer_of(opened) == before


def test_a_truncated_jpeg_is_an_image_error(opened: Model, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    with pytest.raises(ImageError):
        opened.ask(QUESTION, image=_file(tmp_path, data[: len(data) // 2]))
    assert opened.ask(QUESTION, image=tmp_path / "whole.jpg", max_tokens=2).visual_tokens == 36


@pytest.mark.parametrize("budget", ["0.3", 7, "many", 2.5, 40.4, "-1", 0, float("nan"), float("inf"), ""])
def test_a_budget_that_the_bundle_lacks_is_refused_with_those_it_has(opened: Model, budget: Any) -> None:
    before = answer_of(opened)
    with pytest.raises(BudgetError, match=r"0\.2, 0\.5, 40, 1\.0"):
        opened.ask(QUESTION, image=picture(), budget=budget, max_tokens=2)
    assert answer_of(opened) == before


@pytest.mark.parametrize(("budget", "method"), [("0.2", "magic"), ("0.2", "full"), ("1.0", "hired")])
def test_a_method_that_the_bundle_lacks_is_refused_with_those_it_has(opened: Model, budget: str, method: str) -> None:
    before = answer_of(opened)
    with pytest.raises(BudgetError, match=", ".join(opened.methods(budget))):
        opened.see(picture(), budget=budget, method=method)
    assert answer_of(opened) == before


@pytest.mark.parametrize(
    ("prompt", "request_"),
    [
        ("what is it?", {"template": False, "image": picture()}),
        ("<image> <image> what is it?", {"template": False, "image": picture()}),
        ("<image> what is it?", {"template": False}),
        ("what is <image> in <image> ?", {"image": picture()}),
        ("", {"template": False}),
        ("a \ud800 b", {}),
        ("a " * 400, {"template": False}),
        ("<image> " + "a " * 400, {"template": False, "image": picture()}),
    ],
    ids=["none", "two", "without picture", "a mark too many", "empty", "surrogate", "long", "long with picture"],
)
def test_a_bad_prompt_is_a_prompt_error_and_the_model_stays_usable(
    opened: Model, prompt: str, request_: dict[str, Any]
) -> None:
    before = answer_of(opened)
    with pytest.raises(PromptError):
        opened.ask(prompt, **request_, max_tokens=2)
    assert answer_of(opened) == before


@pytest.mark.parametrize("tokens", [0, -1])
def test_no_tokens_at_all_is_refused(opened: Model, tokens: int) -> None:
    with pytest.raises(RequestError, match="expected at least 1"):
        opened.ask(QUESTION, max_tokens=tokens)


def test_the_largest_picture_and_question_fit_into_the_default_capacity(opened: Model) -> None:
    answer = opened.ask(QUESTION, image=picture(96, 96), budget="1.0", max_tokens=1)
    assert answer.visual_tokens == LARGEST
    assert answer.prompt_tokens + 40 < opened.bundle.manifest.language.capacity


def test_a_closed_model_says_so(tiny_bundle: Path) -> None:
    with Model.open(tiny_bundle, threads=1) as model:
        pass
    with pytest.raises(RequestError, match="closed"):
        model.ask(QUESTION)


def test_a_view_of_another_model_is_refused(opened: Model, tiny_bundle: Path) -> None:
    view = opened.see(picture(), budget=0.5)
    other = View(view.selection, view.picture, view.tile, view.visual[:, :5], view.kept, (), ())
    before = answer_of(opened)
    with pytest.raises(RequestError):
        opened.ask(QUESTION, image=other, max_tokens=2)
    assert answer_of(opened) == before


def test_sampling_does_not_change_what_is_kept(opened: Model) -> None:
    greedy = opened.ask(QUESTION, image=picture(), max_tokens=2)
    warm = opened.ask(QUESTION, image=picture(), max_tokens=2, sampling=Sampling(temperature=2.0, seed=3))
    assert greedy.kept == warm.kept
