"""A word on the command line means one thing in all commands."""

from __future__ import annotations

import re
import shlex
import types
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.models import OptionInfo

from edgeprune.cli import app

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {command.name: command.callback for command in app.registered_commands if command.callback is not None}


def one_of(annotation: Any) -> Any:
    """The type of one value: without None, and without the list of an option that can be repeated."""
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = [part for part in get_args(annotation) if part is not type(None)]
    return get_args(annotation)[0] if get_origin(annotation) is list else annotation


def options() -> dict[str, dict[str, tuple[Any, ...]]]:
    """What each command says of each option, by the option's spelling: its type with its bounds, and its text."""
    found: dict[str, dict[str, tuple[Any, ...]]] = defaultdict(dict)
    for command, callback in COMMANDS.items():
        for parameter, hint in get_type_hints(callback, include_extras=True).items():
            if get_origin(hint) is not Annotated or not isinstance(hint.__metadata__[0], OptionInfo):
                continue
            info = hint.__metadata__[0]
            given = (
                info.default,
                *(info.param_decls or ()),
            )  # inside Annotated, the first word stands in the place of a default
            written = [word for words in given if isinstance(words, str) for word in words.split("/")]
            for word in written or ["--" + parameter.replace("_", "-")]:
                found[word][str(command)] = (one_of(hint.__origin__), info.min, info.max, info.help)
    return found


@pytest.mark.parametrize("word", sorted(options()))
def test_an_option_has_one_type_and_one_text_in_all_commands(word: str) -> None:
    assert len(set(options()[word].values())) == 1, options()[word]


def test_every_option_has_a_text() -> None:
    assert all(facts[-1] for said in options().values() for facts in said.values())


#: Commands that write a file: what is there is replaced with --force only.
WRITING = {"profile", "eval", "report", "compare", "run", "calibrate", "selftest", "devices"}


def test_what_many_commands_share_is_there_under_one_word() -> None:
    found = options()
    for long, short, commands in (
        ("--out", "-o", {"export", "prune", "profile", "eval", "calibrate", "devices", "selftest"}),
        ("--method", "-m", {"export", "run", "eval", "profile", "calibrate"}),
        ("--budget", "-b", {"export", "run", "profile", "eval", "project", "recommend"}),
        ("--force", "-f", {"export", "prune", "build", *WRITING}),
    ):
        assert set(found[long]) == set(found[short]) == commands
    assert set(found["--weights"]) == {"export", "prune"} and set(found["--compute"]) == {"build", "project"}
    assert set(found["--images"]) == set(found["--limit-images"]) == {"prune", "calibrate"}
    gone = {"--plan", "--precision", "--limit", "--pictures", "--memory", "--alpha", "--early-layer", "--newline"}
    assert not gone & set(found) and "plan" not in COMMANDS


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.stem
)
def test_the_commands_of_a_page_are_understood(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    for line in re.findall(rf"^ *edgeprune ((?:{'|'.join(map(str, COMMANDS))})\b.*)$", page.read_text("utf-8"), re.M):
        name, *words = shlex.split(line, comments=True)
        assert group.commands[name].make_context(name, words), line
