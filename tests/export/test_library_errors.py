"""What transformers would say of a checkpoint's files is said before the work, in one sentence that names the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeprune.models import open_checkpoint
from edgeprune_export.bundle.seal import staging
from edgeprune_export.commands import export as command
from edgeprune_export.gate.inputs import LibraryInputs
from edgeprune_runtime.errors import CheckpointError
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint
from tests.exports import options


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return own_copy(tiny_checkpoint(), tmp_path)


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sentence; nothing is written before it."""

    def written(*_: Any, **__: Any) -> None:
        raise AssertionError("the work had begun")

    monkeypatch.setattr(command, "staging", written)
    assert staging is not written
    with pytest.raises(CheckpointError) as caught:
        command.export(folder, folder.parent / "out", options(("0.2",)))
    assert "\n" not in str(caught.value) and ";" in str(caught.value)
    return str(caught.value)


def template(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "an activation that is none": (
        lambda folder: edit_json(folder / "config.json", lambda values: values["text_config"].update(hidden_act=3)),
        "hidden_act",
    ),
    "a template without pictures": (
        template(
            "{% for m in messages %}{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endfor %}"
        ),
        "no place for exactly one picture",
    ),
    "a broken template": (template("{% for"), "cannot be asked about a picture"),
    "a template without end": (template("{{ 'a' * 10**10 }}"), "so it was stopped"),
    "a tokenizer of an unknown kind": (
        lambda folder: edit_json(folder / "tokenizer.json", lambda v: v["model"].update(type="Nope")),
        "tokenizer.json cannot be used",
    ),
    "canvases that fill the memory": (
        lambda folder: [
            edit_json(folder / "config.json", lambda v: v.update(image_grid_pinpoints=[[48, 48 * 10**6]])),
            edit_json(
                folder / "processor_config.json",
                lambda v: v["image_processor"].update(image_grid_pinpoints=[[48, 48 * 10**6]]),
            ),
        ],
        "more than 1024 tiles",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_exported_is_told_before_the_work(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, said = CASES[case]
    damage(folder)
    assert said in refused(folder, monkeypatch)


def test_an_error_of_transformers_is_one_sentence_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("cannot\nbe read")

    monkeypatch.setattr(transformers.AutoImageProcessor, "from_pretrained", fails)
    said = refused(folder, monkeypatch)
    assert f"cannot make an image processor of {folder}: cannot be read" in said


def test_a_long_value_of_a_file_is_shown_in_short(folder: Path) -> None:
    edit_json(folder / "config.json", lambda v: v.update(vision_feature_layer=list(range(10_000))))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert len(str(caught.value)) < 600 and " ... " in str(caught.value)


@pytest.mark.parametrize(
    "variant", [{}, {"family": "llava", "tower": "vit", "decoder": "qwen2", "names": "old", "bos": "none"}]
)
def test_a_processor_file_without_patch_size_is_enough(variant: dict[str, Any], tmp_path: Path) -> None:
    """Both numbers stand in config.json, and the gate asks the image processor and the tokenizer alone."""
    folder = own_copy(tiny_checkpoint(**variant), tmp_path)
    whole = open_checkpoint(folder).spec

    def forget(values: dict[str, Any]) -> None:
        for key in ("patch_size", "vision_feature_select_strategy"):
            values.pop(key)

    edit_json(folder / "processor_config.json", forget)
    opened = open_checkpoint(folder)
    assert opened.spec == whole
    LibraryInputs(opened)
