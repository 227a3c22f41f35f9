"""A real bundle in pieces: each can be repeated in any order and leaves the answers as they were."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from pathlib import Path

import pytest

from edgeprune_export.engines.build import build
from edgeprune_export.engines.choices import BuildOptions
from edgeprune_export.engines.selftest import BUNDLE
from edgeprune_export.engines.target import target_from_text
from edgeprune_export.gate.pictures import fixed_pictures
from edgeprune_profiles.measure.runner import ModelRunner, backend_use
from edgeprune_runtime import Model
from edgeprune_runtime.engines.spec import ENGINE_MANIFEST
from tests.simulated_gpu import simulate


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    fixed_pictures()[0].save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_pieces_can_be_repeated_in_any_order_without_changing_the_answer(opened: Model, picture: Path) -> None:
    runner = ModelRunner(opened)
    before = runner.run("0.2", picture, "what is this ?", 5)
    pieces = runner.pieces("0.2", picture, "what is this ?", 5)
    assert [(one.name, one.unit, one.units) for one in pieces] == [
        ("request", "request", 1), ("image", "image", 1), ("select", "image", 1), ("prefill", "request", 1), ("decode", "token", 4),
    ]  # fmt: skip
    for order in itertools.islice(itertools.permutations(pieces), 0, None, 17):
        for one in order:
            one.work()
            one.work()
    assert runner.run("0.2", picture, "what is this ?", 5).token_ids == before.token_ids


def test_decoding_alone_fills_the_positions_that_the_answer_does(opened: Model, picture: Path) -> None:
    runner = ModelRunner(opened)
    runner.run("0.2", picture, "what is this ?", 5)
    filled = opened.language.length
    *_, decode = runner.pieces("0.2", picture, "what is this ?", 5)
    assert opened.language.length == filled - 4
    decode.work()
    decode.work()
    assert opened.language.length == filled


def test_an_answer_of_one_token_has_nothing_to_decode(opened: Model, picture: Path) -> None:
    names = [one.name for one in ModelRunner(opened).pieces("1.0", picture, "what is this ?", 1)]
    assert names == ["request", "image", "select", "prefill"]


def test_decoding_stops_where_the_cache_is_full(opened: Model, picture: Path) -> None:
    capacity = opened.bundle.manifest.language.capacity
    *_, decode = ModelRunner(opened).pieces("0.2", picture, "what is this ?", 2 * capacity)
    decode.work()
    assert opened.language.length == capacity
    assert decode.units < capacity


def test_on_the_processor_no_engines_are_named(opened: Model) -> None:
    used = backend_use(opened)
    assert (used.name, used.device, used.engines) == ("onnxruntime", "cpu", None)


def test_engines_that_ran_are_named_with_the_hash_of_their_manifest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    simulate(monkeypatch)
    root = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    folder, _ = build(root, target_from_text("tensorrt"), BuildOptions())
    with Model.open(root, backend="tensorrt") as model:
        used = backend_use(model)
    assert (used.name, used.device) == ("tensorrt", "gpu")
    assert used.engines is not None
    assert used.engines.folder == folder.name
    assert used.engines.sha256 == hashlib.sha256((folder / ENGINE_MANIFEST).read_bytes()).hexdigest()
