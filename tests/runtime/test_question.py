"""Methods that look at the question keep tokens anew for each one, from the same encoded picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgeprune_runtime import Model, RequestError
from edgeprune_runtime.pictures.entropy import unit_entropy
from edgeprune_runtime.prompting.content_words import content_words
from edgeprune_runtime.vision import Encoded, _Tower
from tests.exports import every_method
from tests.tilings import tile_spec

ONE, OTHER = "what is the number ?", "how many blue circle ?"


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model.open(every_method(), threads=1) as opened:
        yield opened


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 170, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", ["mmtok", "cdpruner", "recoverable"])
def test_a_view_answers_each_question_as_a_fresh_request_would(model: Model, method: str) -> None:
    view = model.see(picture(), method=method)
    for question in (ONE, OTHER, ONE):
        again = model.ask(question, image=view, max_tokens=3)
        fresh = model.ask(question, image=picture(), method=method, max_tokens=3)
        assert (again.kept, again.token_ids) == (fresh.kept, fresh.token_ids)


@pytest.mark.parametrize("method", ["mmtok", "cdpruner", "recoverable"])
def test_different_questions_keep_different_tokens(model: Model, method: str) -> None:
    view = model.see(picture(), method=method)
    assert model.ask(ONE, image=view, max_tokens=1).kept != model.ask(OTHER, image=view, max_tokens=1).kept


def test_asking_again_does_not_run_the_tower(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    view = model.see(picture(), method="mmtok", question=ONE)
    model.see(picture(1))  # another picture is in the buffers now
    monkeypatch.setattr(_Tower, "run", lambda *_: pytest.fail("the tower ran"))
    same = model.ask(ONE, image=view, max_tokens=1)
    other = model.ask(OTHER, image=view, max_tokens=1)
    assert [span.name for span in same.spans if span.name == "select"] == []
    assert [span.name for span in other.spans if span.name == "select"] == ["select"]


def test_a_view_of_another_bundle_or_model_is_refused_and_the_model_stays_usable(model: Model) -> None:
    view = model.see(picture(), method="mmtok", question=ONE)
    assert view.encoded is not None
    other = replace(view, selection=msgspec.structs.replace(view.selection, keep=7))
    with pytest.raises(RequestError, match="another bundle"):
        model.ask(OTHER, image=other)
    readings = {name: value[:, :1] for name, value in view.encoded.readings.items()}
    with pytest.raises(RequestError, match="another model"):
        model.ask(OTHER, image=replace(view, encoded=Encoded(readings)))
    assert model.ask(OTHER, image=view, max_tokens=1).visual_tokens == view.selection.keep


def test_a_method_that_does_not_read_the_question_ignores_it(model: Model) -> None:
    views = [model.see(picture(), method="hired", question=question) for question in (None, ONE, OTHER)]
    assert len({tuple(view.kept) for view in views}) == 1
    assert all(view.encoded is None for view in views)


def test_a_long_question_is_cut_and_the_answer_says_so(model: Model) -> None:
    answer = model.ask("number circle " * 40, image=picture(), method="mmtok", max_tokens=1)
    assert any("looked at the first 64" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What is the number on the red circle?", ["number", "red", "circle"]),
        ("Answer the question using a single word or phrase: brand of the camera?", ["brand", "camera"]),
        ("what is it?", ["what", "is", "it"]),
        ("", []),
        ("¿Dónde está el gato?", ["Dónde", "está", "el", "gato"]),
    ],
)
def test_content_words_leave_out_function_words_unless_nothing_else_is_there(text: str, words: list[str]) -> None:
    assert content_words(text) == words


def test_entropy_of_tokens_is_that_of_their_grey_values() -> None:
    tile = tile_spec(8, 2, mean=(0.5,) * 3, std=(0.25,) * 3)
    levels = np.zeros((8, 8), np.float32)
    levels[:4, 4:] = np.arange(16).reshape(4, 4)  # 16 values: 4 bits
    levels[4:, :4] = np.arange(16).reshape(4, 4) // 8 * 200  # two values: 1 bit
    levels[4:, 4:] = 255
    pixels = np.repeat(((levels / 255 - 0.5) / 0.25)[None], 3, axis=0).astype(np.float32)
    np.testing.assert_allclose(unit_entropy(pixels, tile), [0, 4, 1, 0], atol=1e-6)
    beside = msgspec.structs.replace(tile, extra=1)
    np.testing.assert_allclose(unit_entropy(pixels, beside), [0, 0, 4, 1, 0], atol=1e-6)


def test_entropy_of_merged_patches_is_that_of_all_their_pixels() -> None:
    """Four patches of one grey each have no entropy; the token they become has four values: 2 bits. Spare pixels do not count."""
    levels = np.kron(np.array([[0, 50], [100, 150]]), np.ones((4, 4)))
    spare = np.pad(levels, ((0, 1), (0, 1)), constant_values=255)
    for shown, px in ((levels, 8), (spare, 9)):
        pixels = np.repeat(((shown / 255 - 0.5) / 0.25)[None], 3, axis=0).astype(np.float32)
        tile = tile_spec(px, 2, mean=(0.5,) * 3, std=(0.25,) * 3)
        np.testing.assert_allclose(unit_entropy(pixels, tile), np.zeros(4), atol=1e-6)
        np.testing.assert_allclose(unit_entropy(pixels, msgspec.structs.replace(tile, merge=2)), [2], atol=1e-6)


def test_the_folder_says_which_tower_a_selection_reads(model: Model) -> None:
    towers = {s.method: s.tower for s in model.bundle.manifest.selections}
    assert towers["flowcut"] == "tower-flowcut-k36"
    assert {tower for name, tower in towers.items() if name != "flowcut"} == {"tower"}
    assert Path(model.bundle.root, "tower-flowcut-k36.onnx").is_file()
