"""What the command line prints is text: names are shown as they are, and a reader that leaves is no error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.cli.plain import PlainConsole, json_text, labelled, printable
from edgeprune_runtime import Answer, Model, Piece
from tests.commands import complaint, invoke

MAIN = "import sys; from edgeprune.cli import main; sys.argv[0] = 'edgeprune'; main()"
HOSTILE = "ck[v1]\x1b]0;title\x07\x1b[2J[/x] :smile: \u202etxt.exe \x9b2J"
SHOWN = r"ck[v1]\x1b]0;title\x07\x1b[2J[/x] :smile: \u202etxt.exe \x9b2J"


def command(*arguments: str, **streams: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    options = {"stderr": subprocess.PIPE, "text": True, **streams}
    return subprocess.run([sys.executable, "-c", MAIN, *arguments], **options)  # type: ignore[call-overload,no-any-return]


def test_control_characters_become_visible_and_other_text_stays() -> None:
    assert printable(HOSTILE) == SHOWN
    kept = "a\tb\nc é 漢字 \U0001f468\u200d\U0001f469 [bold]"
    assert printable(kept) == kept


def test_every_string_on_the_console_is_text() -> None:
    console = PlainConsole(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(HOSTILE)
    console.print(labelled("error:", "bold red", HOSTILE))
    assert console.file.getvalue() == f"{SHOWN}\nerror: {SHOWN}\n"  # type: ignore[attr-defined]


def test_a_table_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from edgeprune.cli.tables import columns, show_table

    show_table("title [x]", columns(["name"], ["name"]), [[HOSTILE]])
    assert SHOWN in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ck[v1]", "[/x]", "[bold]", ":smile:", "a\x1b[2Jb"])
def test_the_name_of_a_folder_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    assert printable(name) in complaint("inspect", tmp_path / "in" / name)


def test_a_reader_that_leaves_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = command("methods", stdout=writing)
    os.close(writing)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = command("methods", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device") and len(done.stderr.splitlines()) == 1


def test_a_closed_stdout_is_no_traceback() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" methods >&-', sys.executable, MAIN], stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_narrow_encoding_shows_less_and_breaks_nothing() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = command("inspect", "ordn\u00fcng", stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 1 and r"error: ordn\xfcng" in done.stderr


# ------------------------------------------------------------------------------------------ usage, JSON and answers


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "--what\x1b]0;title\x07"],
        ["inspect", "bundle", "more\x9b2J"],
        ["in\x1b[2Jspect"],
        ["run", "bundle", "--prompt", "x", "--max-tokens", "[/x]\x1b[2J"],
        ["run", "bundle", "--prompt", "x", "--tiles", "[/x]\x1b[2J"],
        ["export", "ck", "--weights", "[bold]\x9b2J"],
    ],
)
def test_an_error_of_usage_shows_what_was_typed(words: list[str]) -> None:
    done = command(*words, stdout=subprocess.PIPE)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert not set("\x1b\x9b\x07") & set(done.stderr)
    assert any(part in done.stderr for part in (r"\x1b", r"\x9b", "valid integer"))


@pytest.mark.parametrize("value", [HOSTILE, "name\udcff", "\U000e0001 \U0001f600 \x7f \x85 \u2028", "plain"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_is_safe_to_look_at_and_says_the_same(value: str, encoding: str) -> None:
    text = json_text({"name": value, "n": 1}, encoding)
    assert json.loads(text) == {"name": value, "n": 1}
    assert text == printable(text) and "\n" not in text
    text.encode(encoding)


def test_json_for_an_ascii_terminal_is_whole() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = command("devices", "jetson-orin-nano", "--json", stdout=subprocess.PIPE, env=environment)
    done = done if done.returncode == 0 else command("devices", "--json", stdout=subprocess.PIPE, env=environment)
    assert done.stdout.isascii() and json.loads(done.stdout)


@pytest.mark.parametrize("json_wanted", [False, True])
def test_an_answer_moves_no_cursor(json_wanted: bool, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe too: what reads it may show it."""
    whole = Answer("\x1b[2J\x9b2J", (1,), "stop", 1, 0, None, None, (), (), ())
    monkeypatch.setattr(Model, "stream", lambda *_, **__: iter([Piece(1, "\x1b[2J\x9b2J"), Piece(None, "", whole)]))
    result = invoke("run", tiny_bundle, "--prompt", "what ?", *(["--json"] if json_wanted else []))
    assert result.exit_code == 0 and not set("\x1b\x9b") & set(result.stdout)
    assert json.loads(result.stdout)["text"] == whole.text if json_wanted else r"\x1b[2J\x9b2J" in result.stdout


# ------------------------------------------------------------------------------------------------ completion

NAMED = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the shell is named instead of found among the parents


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown(shell: str) -> None:
    done = command("--show-completion", shell, stdout=subprocess.PIPE, env={**os.environ, **NAMED})
    assert done.returncode == 0 and "_EDGEPRUNE_COMPLETE" in done.stdout, done.stderr


def test_completion_is_installed_and_completes(tmp_path: Path) -> None:
    home = {**os.environ, **NAMED, "HOME": str(tmp_path)}
    done = command("--install-completion", "bash", stdout=subprocess.PIPE, env=home)
    assert done.returncode == 0, done.stderr
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    asked = {"_EDGEPRUNE_COMPLETE": "complete_bash", "COMP_CWORD": "1", "COMP_WORDS": "edgeprune ex"}
    assert command(stdout=subprocess.PIPE, env={**os.environ, **asked}).stdout.split() == ["export"]
    asked |= {"COMP_CWORD": "2", "COMP_WORDS": "edgeprune run --max"}
    assert command(stdout=subprocess.PIPE, env={**os.environ, **asked}).stdout.split() == ["--max-tokens"]
