"""What arguments and small files tell is refused before anything heavy is imported: no torch, no ONNX, no session, in every command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeprune.cli import app
from edgeprune.cli.plain import printable
from tests.checkpoints import tiny_checkpoint

HEAVY = (
    "torch",
    "transformers",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "accelerate",
    "onnxruntime",
    "safetensors",
    "tensorrt",
)
#: Arguments by command, and a part of the sentence. CHECKPOINT, BUNDLE, OTHER (an architecture nobody knows), EMPTY (a folder), TEXT (a
#: text file), DATA (questions), GRAPH (a file called .onnx), VIDEO and TAKEN (a folder that exists) stand for paths.
REFUSALS: list[tuple[str, str]] = [
    ("export NOWHERE --budget 0.2", "does not exist"),
    ("export BUNDLE --budget 0.2", "is a bundle"),
    ("export EMPTY --budget 0.2", "config.json"),
    ("export OTHER --budget 0.2", "parrot"),
    ("export TEXT --budget 0.2", "is a file"),
    ("export CHECKPOINT", "at least one --budget"),
    ("export CHECKPOINT --budget none", "is not a number"),
    ("export CHECKPOINT --budget 0.2 --out TAKEN", "exists"),
    ("export CHECKPOINT --budget 0.2 --method hierd", "unknown method 'hierd'"),
    ("export CHECKPOINT --budget 0.2 --method NOWHERE.py:MINE", "does not exist"),
    ("export CHECKPOINT --budget 0.2 --family lava", "unknown model family 'lava'"),
    ("export CHECKPOINT --budget 0.2 --set windo=7", "has a setting 'windo'"),
    ("export CHECKPOINT --budget 0.2 --set window", "is not NAME=NUMBER"),
    ("export CHECKPOINT --budget 0.2 --settings NOWHERE", "cannot be read"),
    ("export CHECKPOINT --budget 0.2 --capacity 1", "leaves no room"),
    ("export CHECKPOINT --budget 100000", "does not bind"),
    ("export CHECKPOINT --recipe NOWHERE", "cannot be read"),
    ("export CHECKPOINT --recipe TEXT", "is not TOML"),
    ("export CHECKPOINT --fit device=toaster,ttft=1s", "toaster"),
    ("export CHECKPOINT --budget 0.2 --weights int7", "int7"),
    ("prune NOWHERE --structure params=0.7", "does not exist"),
    ("prune BUNDLE --structure params=0.7", "is a bundle"),
    ("prune CHECKPOINT", "nothing is asked"),
    ("prune CHECKPOINT --structure params=7", "is not a share"),
    ("prune CHECKPOINT --structure tower.parms=0.7", "is not known"),
    ("prune CHECKPOINT --structure params=0.7 --importance talyor", "unknown importance"),
    ("prune CHECKPOINT --structure params=0.7 --importance magnitude --allocation glob", "unknown allocation"),
    ("prune CHECKPOINT --structure params=0.7 --out TAKEN", "exists"),
    ("prune CHECKPOINT --structure params=0.7 --images NOWHERE", "neither a folder"),
    ("prune CHECKPOINT --structure params=0.7 --images EMPTY", "holds no pictures"),
    ("prune CHECKPOINT --structure params=0.7", "--images"),
    ("prune CHECKPOINT --structure-plan TEXT", "is not a structure plan"),
    ("prune CHECKPOINT --recipe TEXT", "is not TOML"),
    ("prune NOWHERE.onnx --structure params=0.7", "is not a file"),
    ("prune folder/weights.safetensors --structure params=0.7", "the file folder/weights.safetensors does not exist"),
    ("export folder/weights.safetensors", "the file folder/weights.safetensors does not exist"),
    ("prune GRAPH --structure params=0.7 --out TAKEN", "exists"),
    ("prune GRAPH --structure latency=0.7", "is not for ONNX files"),
    ("prune GRAPH --structure params=0.7 --importance taylor", "unknown importance"),
    ("prune GRAPH --structure params=0.7 --input-shape 1,x", "is not understood"),
    ("prune GRAPH --structure params=0.7 --input-value x=many", "is not understood"),
    ("prune GRAPH --structure params=0.7 --images NOWHERE", "cannot be read"),
    ("calibrate CHECKPOINT --method hired --images EMPTY", "nothing to calibrate"),
    ("calibrate CHECKPOINT --method visionzip --images EMPTY", ""),
    ("calibrate CHECKPOINT --method prumerge --images EMPTY --out TEXT", "replace it with --force"),
    ("calibrate CHECKPOINT --method foprus --images EMPTY", "unknown method"),
    ("calibrate CHECKPOINT --method prumerge --images EMPTY", "holds no pictures"),
    ("calibrate CHECKPOINT --method prumerge --images NOWHERE", "is not a folder"),
    ("forecast NOWHERE --recipe RECIPE", "does not exist"),
    ("forecast CHECKPOINT --recipe TEXT", "is not TOML"),
    ("search NOWHERE --target macs=0.5 --images DATA --out new.toml", "does not exist"),
    ("search BUNDLE --target macs=0.5 --images DATA --out new.toml", "is a bundle"),
    ("search CHECKPOINT --target steps=0.5 --images DATA --out new.toml", "steps"),
    ("search CHECKPOINT --target macs=0.5 --images EMPTY --out new.toml", "holds no pictures"),
    ("search CHECKPOINT --target macs=0.5 --images DATA --out TEXT", "replace it with --force"),
    ("build NOWHERE --target rtx:sm89", "does not exist"),
    ("build CHECKPOINT --target rtx:sm89", "is a checkpoint"),
    ("build BUNDLE --target rtx:sm7", "does not build for"),
    ("build BUNDLE --target gtx", "is unknown"),
    ("build BUNDLE --target onnxruntime --compute bf16", "float16"),
    ("build BUNDLE --target tensorrt", ""),
    ("run NOWHERE --prompt x", "does not exist"),
    ("run CHECKPOINT --prompt x", "is a checkpoint"),
    ("run BUNDLE --prompt x --image NOWHERE", "does not exist"),
    ("run BUNDLE --prompt x --image TEXT", "is not a picture"),
    ("run BUNDLE --prompt x --image VIDEO", "is a video"),
    ("run BUNDLE --prompt x --image PICTURE --budget 0.3", "has no budget"),
    ("run BUNDLE --prompt x --image PICTURE --method dart", "export again with --method dart for another"),
    (
        "run BUNDLE --prompt x --image PICTURE --budget 1.0 --method dart",
        "drops nothing; it has full: leave the method out",
    ),
    ("profile BUNDLE --out TEXT", "replace it with --force"),
    ("eval BUNDLE --data DATA --out TEXT", "replace it with --force"),
    ("compare TEXT TEXT --markdown TEXT", "replace it with --force"),
    ("selftest --out TEXT", "replace it with --force"),
    ("devices --measure-cpu --out TEXT", "replace it with --force"),
    ("run BUNDLE --prompt x --show-tokens kept.png", "--image"),
    ("run BUNDLE --prompt x --image PICTURE --show-tokens kept.gif", "PNG"),
    ("run BUNDLE --prompt x --temperature nan", "temperature"),
    ("run BUNDLE --prompt x --backend onnx", "unknown backend"),
    ("profile CHECKPOINT", "is a checkpoint"),
    ("profile BUNDLE --budget 0.3", "has no budget"),
    ("profile BUNDLE --method dart", "no method"),
    ("profile BUNDLE --image NOWHERE", "does not exist"),
    ("profile BUNDLE --image VIDEO", "is a video"),
    ("profile BUNDLE --sustain soon", "soon"),
    ("profile BUNDLE --eval NOWHERE", "cannot read"),
    ("profile BUNDLE --out TEXT/report.json", "cannot write"),
    ("eval CHECKPOINT --data DATA", "is a checkpoint"),
    ("eval BUNDLE --data NOWHERE", "cannot read"),
    ("eval BUNDLE --data DATA --budget 0.3", "has no budget"),
    ("eval BUNDLE --data DATA --method dart", "has no method"),
    ("report NOWHERE", "cannot read"),
    ("report TEXT", "TEXT"),
    ("report TEXT --accuracy -3", "--accuracy needs --eval"),
    ("report TEXT --ttft soon", "soon"),
    ("compare NOWHERE TEXT", "cannot read"),
    ("inspect CHECKPOINT", "is a checkpoint"),
    ("verify EMPTY", "manifest.json"),
    ("methods hierd", "unknown method"),
    ("devices toaster", "toaster"),
    ("devices --out x.toml", "--measure-cpu"),
    ("devices --older-than 3", "belongs to --check"),
    ("project BUNDLE --device toaster", "toaster"),
    ("project NOWHERE --device orin-nano-8gb", "does not exist"),
    ("project parrot --device orin-nano-8gb", "no shape"),
    ("project CHECKPOINT --device toaster", "toaster"),
    ("project EMPTY --device orin-nano-8gb", "manifest.json"),
    ("project BUNDLE --device orin-nano-8gb --budget 0.3", "has no budget"),
    ("project", "give a MODEL"),
    ("recommend OTHER", "parrot"),
    ("recommend parrot", "no shape"),
    ("recommend CHECKPOINT --device toaster", "toaster"),
    ("recommend CHECKPOINT --budget none", "is not a number"),
    ("recommend BUNDLE --accuracy -3", "--accuracy needs --eval"),
    ("recommend BUNDLE --accuracy -3 --eval NOWHERE", "cannot read"),
    ("recommend BUNDLE --ttft soon", "soon"),
    ("recommend BUNDLE --report nothing", "nothing"),
    ("selftest CHECKPOINT", "is a checkpoint"),
    ("selftest --backend onnx", "unknown backend"),
    ("importances --what", "No such option"),
    ("doctor now", "unexpected extra argument"),
]
#: What a stranger may call a folder.
ODD = "ck[v1] [red]\x1b[31m\x9b2J [*x]"
#: Lists that a base install can print as well.
LISTS = (
    "methods",
    "methods hired",
    "methods --json",
    "importances",
    "importances --json",
    "devices",
    "export --help",
    "--version",
)
_RUN = """
import json, os, sys
from typer.testing import CliRunner
from edgeprune.cli import app
from edgeprune.cli.plain import printable
found = []
for arguments in json.load(sys.stdin):
    before = set(sys.modules)
    result = CliRunner().invoke(app, arguments)
    new = set(sys.modules) - before
    found.append([result.exit_code, result.output, [name for name in sys.argv[1:] if name in new], repr(result.exception)])
json.dump(found, sys.stdout)
"""


def places(folder: Path, bundle: Path) -> dict[str, str]:
    """A path for every word."""
    other, empty, text, data = folder / "other", folder / "empty", folder / "TEXT", folder / "questions.jsonl"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "parrot", "vision_config": {}, "text_config": {}}')
    empty.mkdir()
    text.write_text("= nothing [that] any < program > reads\n")
    from PIL import Image

    Image.new("RGB", (8, 8)).save(folder / "picture.png")
    data.write_text('{"image": "picture.png", "question": "what?", "answers": ["x"]}\n')
    (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0")
    (folder / "graph.onnx").write_bytes(b"\x08\x07")
    (folder / "recipe.toml").write_text("[tokens]\nbudgets = [0.2]\n")
    return {
        "CHECKPOINT": str(tiny_checkpoint()),
        "BUNDLE": str(bundle),
        "OTHER": str(other),
        "EMPTY": str(empty),
        "TEXT": str(text),
        "DATA": str(data),
        "GRAPH": str(folder / "graph.onnx"),
        "RECIPE": str(folder / "recipe.toml"),
        "PICTURE": str(folder / "picture.png"),
        "VIDEO": str(folder / "film.mp4"),
        "TAKEN": str(empty),
        "NOWHERE": str(folder / "nowhere"),
    }


@pytest.fixture(scope="module")
def results(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every command line says, in one process that has imported nothing."""
    return said([line for line, _ in REFUSALS] + list(LISTS), tmp_path_factory.mktemp("refusals"), tiny_bundle)


@pytest.fixture(scope="module")
def oddly_named(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same where every path has markup and escape sequences in its name."""
    folder = tmp_path_factory.mktemp("refusals") / ODD
    folder.mkdir(parents=True)
    (folder / "bundle").symlink_to(tiny_bundle)
    return said([line for line, _ in REFUSALS], folder, folder / "bundle")


def said(lines: list[str], folder: Path, bundle: Path) -> dict[str, Any]:
    named = places(folder, bundle)
    asked = []
    for line in lines:
        words = line.split()
        for name, path in named.items():
            words = [path + word.removeprefix(name) if word.startswith(name) else word for word in words]
        asked.append(words)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *HEAVY],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    return dict(zip(lines, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("line", "sentence"), REFUSALS, ids=[line for line, _ in REFUSALS])
def test_a_refusal_imports_nothing_heavy(line: str, sentence: str, results: dict[str, Any]) -> None:
    code, output, heavy, error = results[line]
    assert code in (1, 2) and "SystemExit" in error, (output, error)
    assert " ".join(sentence.split()) in " ".join(output.replace("\u2502", " ").split()), output
    assert heavy == []


@pytest.mark.parametrize("line", [line for line, _ in REFUSALS])
def test_an_odd_name_is_shown_as_it_is(line: str, oddly_named: dict[str, Any]) -> None:
    code, output, _, error = oddly_named[line]
    assert code in (1, 2) and "SystemExit" in error, (output, error)
    assert not set("\x1b\x9b") & set(output)
    if (
        "refusals" in output and "\u2502" not in output and "cannot read" not in output
    ):  # a path, in a sentence that is not wrapped
        assert printable(ODD) in output


@pytest.mark.parametrize("line", LISTS)
def test_a_list_imports_nothing_heavy(line: str, results: dict[str, Any]) -> None:
    code, output, heavy, _ = results[line]
    assert code == 0 and output
    assert heavy == []


def test_every_command_has_a_refusal_here() -> None:
    names = {command.name for command in app.registered_commands}
    assert names == {line.split()[0] for line, _ in REFUSALS}
