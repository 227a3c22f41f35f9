"""One measured profile and one evaluation of the tiny bundle, made once through the real commands and shared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeprune_profiles.measure.picture import draw_picture
from edgeprune_runtime.meters import MachineUse
from tests.commands import answer


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share a machine: what else it does is not what they are about."""
    quiet = MachineUse(0.5, 2, 0.0, 0.0, None, 0.1, None)
    monkeypatch.setattr("edgeprune_profiles.measure.session.use_while_resting", lambda look: quiet)


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures with two questions each, mixed."""
    folder = tmp_path_factory.mktemp("data")
    for number, size in enumerate([(96, 96), (48, 96), (60, 40)]):
        draw_picture(*size, seed=number).save(folder / f"{number}.png")
    lines = [
        {"image": f"{number}.png", "question": question, "answers": [reply], "kind": kind}
        for question, reply, kind in (("what is this ?", "on", "object"), ("how many ?", "2", "count"))
        for number in range(3)
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def measured(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A report file and what --json said."""
    path = tmp_path_factory.mktemp("profile") / "report.json"
    options = ["--budget", "0.2", "--budget", "1.0", "--runs", 6, "--warmup", 1, "--max-tokens", 3, "--threads", 1]
    return path, answer("profile", tiny_bundle, *options, "--out", path)


@pytest.fixture(scope="session")
def evaluated(
    tiny_bundle: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A file with accuracy and what --json said."""
    path = tmp_path_factory.mktemp("eval") / "accuracy.json"
    options = ["--budget", "0.20", "--max-tokens", 2, "--threads", 1, "--out", path]
    return path, answer("eval", tiny_bundle, "--data", questions, *options)
