"""Folders that take videos too: a note at export, and a sentence for who gives a video."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from edgeprune.models import open_checkpoint
from edgeprune.models.config.video import still_pictures_only
from edgeprune_runtime import Bundle
from edgeprune_runtime.errors import ImageError, PromptError
from edgeprune_runtime.pictures.load import is_video, load_image
from edgeprune_runtime.prompting.prompt import Prompter
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint
from tests.commands import invoke

VIDEO_ID = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A made SmolVLM, which has a video processor, with what else published folders of SmolVLM2, InternVL and Qwen carry."""
    folder = own_copy(tiny_checkpoint(family="smolvlm"), tmp_path)
    (folder / "video_preprocessor_config.json").write_text(json.dumps({"fps": 1}), encoding="utf-8")
    edit_json(folder / "config.json", lambda config: config.update(video_token_id=VIDEO_ID))
    return folder


def test_a_folder_with_video_settings_opens_and_is_noted(folder: Path) -> None:
    sentence = still_pictures_only(folder)
    assert sentence is not None and "still pictures only" in sentence
    for what in (
        "video_preprocessor_config.json",
        "processor_config.json.video_processor",
        "config.json.video_token_id",
    ):
        assert what in sentence
    plain, found = open_checkpoint(tiny_checkpoint(family="smolvlm")).spec, open_checkpoint(folder).spec
    assert replace(found, source=plain.source) == plain


def test_a_folder_that_does_not_speak_of_videos_is_not_noted() -> None:
    assert still_pictures_only(tiny_checkpoint()) is None


def test_export_says_so(folder: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune_export.commands.export.export", lambda *_, **__: Bundle.open(tiny_bundle))
    done = invoke("export", folder, "--budget", "0.2")
    assert done.exit_code == 0 and "note: this checkpoint takes videos too" in " ".join(done.stderr.split())
    assert "videos" not in done.stdout


@pytest.mark.parametrize("template", [True, False])
def test_the_placeholder_of_a_video_is_refused_in_a_prompt(folder: Path, template: bool) -> None:
    found = open_checkpoint(folder)
    asked = Prompter(folder / "tokenizer.json", found.chat_template, found.special_tokens, found.spec.image_token_id)
    token = found.special_tokens["video_token"]
    with pytest.raises(PromptError, match="video placeholder .*still pictures"):
        asked.render(f"what moves in {token}?", images=0, template=template)


@pytest.mark.parametrize(
    "begins",
    [
        b"\0\0\0\x20ftypisom\0\0\x02\0",
        b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x23\x42\x86\x81\x01",
        b"RIFF\x24\0\0\0AVI LIST",
        b"\0\0\0\x14ftypqt  \0\0\x02\0",
    ],
)
def test_a_video_is_called_a_video(begins: bytes) -> None:
    with pytest.raises(ImageError, match="is a video; expected a still picture"):
        load_image(begins + b"\0" * 200)


def test_pictures_that_are_stored_like_videos_are_pictures() -> None:
    assert not is_video(b"\0\0\0\x20ftypavif\0\0\0\0") and not is_video(b"\0\0\0\x20ftypheic\0\0\0\0")
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "WEBP")
    assert not is_video(data.getvalue()[:16])
