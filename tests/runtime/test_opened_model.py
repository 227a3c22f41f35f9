"""An opened model stays the one that was opened, does one thing at a time, and says so otherwise."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_runtime import Model
from edgeprune_runtime.backends import choose
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.engines.sets import engine_folders
from edgeprune_runtime.errors import BundleError, RequestError
from tests.exports import exported, own_bundle

QUESTION = "what is the number?"
PICTURE = np.zeros((40, 60, 3), np.uint8)


def replaced(folder: Path) -> None:
    """What `export --force` does: another bundle takes the name."""
    other = exported({"tower": "vit", "decoder": "llama"}, parity=False)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def in_another_thread(act: Callable[[], Any]) -> Exception | None:
    """What it raised there."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  # the test asks which
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_a_bundle_that_was_replaced_since_it_was_opened_is_not_half_read(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = own_bundle(tiny_bundle, tmp_path)
    bundle = Bundle.open(folder)
    replaced(folder)
    backend = choose("onnxruntime", threads=1, root=folder, verify=True).backend
    with pytest.raises(BundleError, match="was replaced or changed since it was opened .* open it again"):
        bundle.session(backend, "prefill")
    with pytest.raises(BundleError, match="was replaced or changed"):
        bundle.tensor(bundle.manifest.language.embedding)


def test_a_model_goes_on_with_the_weights_that_it_opened(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = own_bundle(tiny_bundle, tmp_path)
    with Model.open(folder, threads=1) as model:
        before = model.ask(QUESTION, max_tokens=4)
        replaced(folder)
        assert model.ask(QUESTION, max_tokens=4).token_ids == before.token_ids
        with pytest.raises(BundleError, match="was replaced or changed since it was opened"):
            model.see(PICTURE)  # the tower is opened with the first picture


def test_a_second_thread_is_refused_while_a_request_runs(tiny_bundle: Path) -> None:
    with Model.open(tiny_bundle, threads=1) as model:
        with model._turns.alone():
            error = in_another_thread(lambda: model.ask(QUESTION, max_tokens=1))
        assert isinstance(error, RequestError)
        assert "another thread's request" in str(error) and "wait=True" in str(error)
        assert in_another_thread(lambda: model.ask(QUESTION, max_tokens=1)) is None


def test_with_wait_threads_take_turns_and_get_the_answers_they_would_get_alone(tiny_bundle: Path) -> None:
    questions = [f"what is number {n}?" for n in range(4)]
    with Model.open(tiny_bundle, threads=1, wait=True) as model:
        alone = [model.ask(question, max_tokens=6).token_ids for question in questions]
        found: dict[int, Any] = {}
        threads = [
            threading.Thread(target=lambda n=n: found.update({n: model.ask(questions[n], max_tokens=6).token_ids}))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [found[n] for n in range(4)] == alone


def test_a_stream_holds_the_model_only_while_it_makes_a_token(tiny_bundle: Path) -> None:
    with Model.open(tiny_bundle, threads=1) as model:
        pieces = model.stream(QUESTION, max_tokens=4, stop=False)
        next(pieces)
        assert in_another_thread(lambda: model.ask(QUESTION, max_tokens=1)) is None
        with pytest.raises(RequestError):
            list(pieces)  # the cache is another request's now


def test_closing_twice_is_no_error_and_a_closed_model_refuses(tiny_bundle: Path) -> None:
    model = Model.open(tiny_bundle, threads=1)
    model.close()
    model.close()
    with pytest.raises(RequestError, match="closed"):
        model.ask(QUESTION)


@pytest.mark.parametrize("name", ["max_tokens", "tiles"])
@pytest.mark.parametrize("value", [True, 2.0, "2", -1])
def test_a_number_that_is_no_whole_number_is_refused_before_work(opened: Model, name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=rf"{name} is .*expected"):
        opened.ask(QUESTION, **{name: value})


def test_what_a_build_left_behind_is_no_engine_set(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = own_bundle(tiny_bundle, tmp_path)
    for name in (".rtx-sm89-fp16.partial", "rtx-sm89-fp16"):
        (folder / "engines" / name).mkdir(parents=True)
        (folder / "engines" / name / "engines.json").write_text("{}", encoding="utf-8")
    assert [found.name for found in engine_folders(folder)] == ["rtx-sm89-fp16"]
