"""Next steps that a message prints work when they are pasted: the command is there, so are its options, and odd names are quoted."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomllib
import typer
from packaging.requirements import Requirement

from edgeprune.cli import app
from edgeprune_runtime.installed import command, how_to_install

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("edgeprune", "export/edgeprune_export", "runtime/edgeprune_runtime", "profiles/edgeprune_profiles")
GROUP: Any = typer.main.get_command(app)
FILL = "1"  # for what a message fills in


def said(node: ast.AST) -> str | None:
    """A string of the source, with FILL for what is filled in; the words of a call of `command`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else FILL for part in node.values)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "command" and node.args:
        words = [
            shlex.quote(str(one.value)) if isinstance(one, ast.Constant) else FILL
            for one in node.args
            if not isinstance(one, ast.Starred)
        ]
        return f"`{' '.join(words)}`" if words[0] == "edgeprune" else None
    return None


def steps() -> Iterator[Any]:
    """Every `edgeprune ...` in a string or a call of `command`, with its place."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for step in re.findall(r"`(edgeprune [^`]+)`", said(node) or ""):
                    yield pytest.param(step, id=f"{path.name}:{getattr(node, 'lineno', 0)} {step}")


@pytest.mark.parametrize("step", steps())
def test_a_printed_command_is_there_with_its_options(step: str) -> None:
    _, name, *words = shlex.split(step)
    if name == FILL:
        return
    assert name in GROUP.commands
    known = {word for parameter in GROUP.commands[name].params for word in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known | {"--help"}
    if FILL in words or any(word.isupper() for word in words):  # not a mention of an option, but something to type
        if name == "report" and "1" in words[:1]:
            words[0] = "report.json"
        assert GROUP.commands[name].make_context(name, list(words))


def test_there_are_steps_of_many_commands() -> None:
    assert len({shlex.split(case.values[0])[1] for case in steps()}) >= 10


def test_no_message_installs_an_extra_of_a_package_that_may_not_be_published() -> None:
    guilty = [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if "edgeprune[" in path.read_text(encoding="utf-8")
    ]
    assert not guilty


def asked_for() -> Iterator[str]:
    """What `how_to_install` is called with."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "how_to_install":
                    yield from (str(one.value) for one in node.args if isinstance(one, ast.Constant))


def test_what_is_to_be_installed_is_declared_and_bounded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    declared = {Requirement(text).name for text in texts}
    names = set(asked_for())
    assert names and names <= declared
    for name in names:
        pip, install, *wanted = shlex.split(how_to_install(name).strip("`"))
        assert (pip, install) == ("pip", "install") and [Requirement(one).name for one in wanted] == [name]


@pytest.mark.parametrize(
    "name",
    ["my bundle", "it's", "ck[v1]", "$HOME", "a;b", "*", "-x", "a\x1b[2Jb", "new\nline", "\u202e", "x\udcff", "`x`"],
)
def test_a_command_says_to_a_shell_what_it_says(name: str) -> None:
    line = command("printf", "%s|", name, "plain")
    assert "\x1b" not in line and "\n" not in line
    found = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert found == name.encode("utf-8", errors="surrogateescape") + b"|plain|"


def test_of_several_extras_the_one_that_asks_most_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        "onnx>=1.19; extra == 'rtx'",
        "onnx>=1.21; extra == 'export'",
        "onnx>=1.9; extra == 'jetson'",
        "onnx-ir>=0.1",
    ]
    monkeypatch.setattr("edgeprune_runtime.installed._requirements", lambda: asked)
    assert how_to_install("onnx", "onnx_ir", "unheard-of") == "`pip install 'onnx>=1.21' 'onnx-ir>=0.1' unheard-of`"
