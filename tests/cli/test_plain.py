"""What the command line prints is text: names are shown as they are, and a reader that leaves is no error."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.cli.plain import PlainConsole, labelled, printable
from tests.commands import complaint

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
    from edgeprune.cli.tables import show_table

    show_table("title [x]", ["name"], [[HOSTILE]], ["name"])
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
