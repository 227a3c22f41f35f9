"""A folder is used as it is; a hub id goes through huggingface_hub, for safe files only."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune.models import open_checkpoint, resolve_source
from edgeprune_runtime.errors import CheckpointError, MissingExtra


def test_an_existing_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_source("owner/name") == Path("owner/name")


def test_a_hub_id_downloads_safe_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str]]] = []

    def snapshot_download(repository: str, *, allow_patterns: list[str]) -> str:
        calls.append((repository, allow_patterns))
        return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.chdir(tmp_path)
    assert resolve_source("llava-hf/some-model") == tmp_path
    [(repository, patterns)] = calls
    assert repository == "llava-hf/some-model"

    def fetched(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    assert not any(
        fetched(name) for name in ("pytorch_model.bin", "model.pt", "x.pkl", "consolidated.safetensors", "a.py")
    )
    wanted = (
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.safetensors",
        "model.safetensors.index.json",
    )
    assert all(fetched(name) for name in (*wanted, "model-00001-of-00002.safetensors", "preprocessor_config.json"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.gguf", b"GGUF\x03", "is a GGUF file, weights quantised"),
        ("model-q4", b"GGUF\x03", "is a GGUF file, weights quantised"),
        ("model.onnx", b"", "is an ONNX file, a graph and no checkpoint; prune it with `edgeprune prune "),
        ("model.safetensors", b"", "holds weights alone; give its folder"),
        ("notes.txt", b"words", "is a file; expected the checkpoint's folder"),
    ],
)
def test_a_file_is_called_what_it_is(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(tmp_path / name)


def test_a_folder_is_called_what_it_holds(tmp_path: Path) -> None:
    for name, said in (("manifest.json", "is a bundle, already exported; run it with"), ("a.gguf", "is a GGUF file")):
        folder = tmp_path / f"of {name}"
        folder.mkdir()
        (folder / name).write_bytes(b"{}")
        with pytest.raises(CheckpointError, match=said):
            open_checkpoint(folder)


def test_a_model_of_text_alone_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')
    with pytest.raises(CheckpointError, match="'llama' and it has no vision_config, so this is a model of text alone"):
        open_checkpoint(tmp_path)


def test_a_checkpoint_in_place_of_a_bundle_says_how_to_export_it(tmp_path: Path) -> None:
    from edgeprune_runtime.bundle import Bundle
    from edgeprune_runtime.errors import BundleError

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        BundleError, match=r"is a checkpoint, not a bundle; make one with `edgeprune export .*--out .*\.bundle`"
    ):
        Bundle.open(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(BundleError, match="is a GGUF file; give the folder that `edgeprune export` wrote"):
        Bundle.open(tmp_path / "model.gguf")


def test_without_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*args: Any, **options: Any) -> str:
        raise ConnectionError("cannot reach the server\nwith a second line")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="could not be fetched from the hub .* give the folder") as caught:
        resolve_source("owner/name")
    assert "\n" not in str(caught.value)


def test_without_huggingface_hub_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingExtra, match=r"pip install 'huggingface-hub>="):
        resolve_source("owner/name")


@pytest.mark.parametrize("source", ["nowhere", "/no/such/folder", "a/b/c", "../x", "owner/"])
def test_what_is_neither_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist; expected a checkpoint folder, or a hub id"):
        resolve_source(source)


def test_a_graph_or_a_quantised_file_is_no_classifier(tmp_path: Path) -> None:
    from edgeprune.models.source import is_classifier

    for name, said in (("a.onnx", "is an ONNX file"), ("a.gguf", "is a GGUF file")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(CheckpointError, match=said):
            is_classifier(tmp_path / name)
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert is_classifier(tmp_path / "a.safetensors")
