"""What is given in place of a checkpoint or a bundle is called what it is, by every command that takes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import complaint, invoke

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "vocab_size": 96}
BERT = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}


def folder_of(tmp_path: Path, config: dict[str, object]) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", [LLAMA, BERT], ids=["llama", "bert"])
@pytest.mark.parametrize(
    "command",
    [("export", "--budget", "0.2"), ("export",), ("prune", "--structure", "params=0.8")],
    ids=["export", "export without a budget", "prune"],
)
def test_a_model_of_text_alone_is_called_so(
    tmp_path: Path, config: dict[str, object], command: tuple[str, ...]
) -> None:
    name, *rest = command
    said = complaint(name, folder_of(tmp_path, config), *rest, "--out", tmp_path / "out")
    assert f"{config['model_type']!r} and it has no vision_config, so this is a model of text alone" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command", [("run", "--prompt", "red"), ("inspect",), ("verify",), ("build", "--target", "rtx"), ("profile",)]
)
@pytest.mark.parametrize("thing", ["checkpoint", "gguf", "onnx", "file", "empty", "nothing"])
def test_what_is_no_bundle_is_called_what_it_is(tmp_path: Path, command: tuple[str, ...], thing: str) -> None:
    name, *rest = command
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "x.onnx").write_bytes(b"\x08")
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    path, said = {
        "checkpoint": (folder_of(tmp_path, LLAMA), "is a checkpoint, not a bundle"),
        "gguf": (tmp_path / "m.gguf", "is a GGUF file"),
        "onnx": (tmp_path / "x.onnx", "is an ONNX file"),
        "file": (tmp_path / "x.json", "is not a folder"),
        "empty": (tmp_path / "empty", "has no manifest.json"),
        "nothing": (tmp_path / "nothing", "does not exist"),
    }[thing]
    assert said in complaint(name, path, *rest)


def test_a_bundle_that_is_given_for_a_report_is_said_to_be_a_folder(tiny_bundle: Path) -> None:
    assert complaint("report", tiny_bundle).endswith("is a folder; give the file that `edgeprune profile --out` wrote")


@pytest.mark.parametrize("content", [b"", b"[" * 200_000, b"\xff\x00", b"{", b"[]", b'{"schema": 2}', b"NaN"])
@pytest.mark.parametrize(
    "command",
    [
        ("report", "{}"),
        ("compare", "{}", "{}"),
        ("devices", "{}"),
        ("eval", "bundle", "--data", "{}"),
        ("export", "checkpoint", "--recipe", "{}"),
        ("export", "checkpoint", "--settings", "{}", "--budget", "0.2"),
        ("prune", "checkpoint", "--structure-plan", "{}"),
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_a_damaged_file_is_one_sentence_that_names_it(
    tiny_bundle: Path, tmp_path: Path, command: tuple[str, ...], content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.checkpoints import tiny_checkpoint

    monkeypatch.chdir(tmp_path)  # an empty recipe makes a bundle there
    file = tmp_path / "given.toml"
    file.write_bytes(content)
    known = {"{}": file, "bundle": tiny_bundle, "checkpoint": tiny_checkpoint()}
    result = invoke(*(known.get(word, word) for word in command))
    if content == b"" and command[0] in ("devices", "export"):  # an empty TOML file is one
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert "given.toml" in line
