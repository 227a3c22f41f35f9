"""--help at 80 columns and below, and what a shell completes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from edgeprune.cli import app
from edgeprune.cli.complete import method_names_like
from edgeprune.models.families import FAMILIES
from edgeprune.models.families.shapes import SHAPES
from edgeprune_profiles.boards.device_file import device_names
from tests.commands import invoke

COMMANDS = [str(command.name) for command in app.registered_commands]


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_no_boxes_and_breaks_no_word_and_no_example(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = invoke(name, "--help").stdout
    assert not set(text) & set("╭│─…")
    lines = text.splitlines()
    assert not [line for line in lines if re.search(r"\w-$", line)], "no word is broken at its hyphen"
    examples = [line.strip() for line in re.split(r"^  Examples?:$", text, flags=re.M)[1].splitlines() if line.strip()]
    assert examples
    group: Any = typer.main.get_command(app)
    for example in examples:
        command, *words = shlex.split(example)[1:]
        assert command == name and group.commands[name].make_context(name, words)


def test_texts_of_options_have_room_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = invoke("recommend", "--help").stdout
    assert max(len(line) for line in text.splitlines()) <= 80
    assert re.search(r"^  --max-memory <?\w+>? +Memory that weights, cache, activations and", text, re.M)


def test_the_list_of_commands_says_whole_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = invoke("--help").stdout
    assert "..." not in text.partition("Commands:")[2]
    assert set(COMMANDS) <= set(re.findall(r"^  ([\w-]+) +\S", text, re.M))


def completed(*words: str) -> list[str]:
    """What bash is offered for the last word."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'edgeprune'; from edgeprune.cli import app; app(prog_name='edgeprune')",
        ],
        env={
            "PYTHONPATH": ":".join(sys.path),
            "_EDGEPRUNE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["edgeprune", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


def test_a_shell_completes_boards_methods_families_and_shapes() -> None:
    assert completed("project", "--device", "orin-nano-8") == [n for n in device_names() if n.startswith("orin-nano-8")]
    assert completed("devices", "agx-t") == ["agx-thor"]
    assert completed("export", "--method", "fo") == ["fopru", "fopru-row"]
    assert completed("export", "--family", "llava_o") == ["llava_onevision"]
    assert completed("recommend", "internvl") == [n for n in SHAPES if n.startswith("internvl")]
    assert set(FAMILIES) >= {"llava_onevision"}


def test_what_completes_methods_knows_those_there_are_without_importing_torch() -> None:
    from edgeprune.tokens.methods import METHODS

    assert sorted(method_names_like("")) == sorted(METHODS)
    script = (
        "import sys, edgeprune.cli, edgeprune.cli.complete as c; c.method_names_like('h'); c.device_names_like(''); "
        "c.family_names_like(''); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("words", [["methods"], ["methods", "hired"]], ids=" ".join)
def test_the_tables_of_methods_fit(words: list[str], columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = invoke(*words).stdout
    assert max(len(line) for line in text.splitlines()) <= columns
    assert "hired" in text and "class-token attention ranks" in text


def test_the_example_of_calibrate_names_the_kind_of_file_that_it_writes() -> None:
    text = invoke("calibrate", "--help").stdout
    assert "--out settings.json" in text and ".toml" not in text


def test_export_says_what_its_default_method_is() -> None:
    assert "hired where it fits, else divprune" in " ".join(invoke("export", "--help").stdout.split())
