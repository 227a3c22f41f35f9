"""How every command talks: results on stdout, everything else on stderr, one JSON object with --json.

Errors of the exception tree become one line and exit code 1, usage errors exit code 2, a bug keeps its traceback.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

import typer

from edgeprune.cli.plain import PlainConsole, json_text, labelled
from edgeprune.cli.progress import Activity, end_moving, moving
from edgeprune_runtime.errors import EdgepruneError

_NBSP = "\N{NO-BREAK SPACE}"
_GLUE = "\ue000"  # a space of a command while its text is wrapped; for private use, so no text has it
_QUOTED = re.compile(r"`[^`]*`")
_COMMAND = re.compile(r"edgeprune (?!does |is )[a-z-]")  # with its version, or in a sentence about it, it is no command

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]


class _Results(PlainConsole):
    """Standard output: what is printed there ends the line that moves on stderr."""

    def print(self, *objects: Any, **options: Any) -> None:
        end_moving()
        super().print(*objects, **options)


# A pipe has no width: nothing is wrapped for it, unless COLUMNS says so.
out = _Results(soft_wrap=True, width=None if sys.stdout is not None and sys.stdout.isatty() else 200)
err = PlainConsole(stderr=True, soft_wrap=True)


def stated_width() -> int | None:
    """What COLUMNS says, where it is a number."""
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None


def say(text: str, style: str | None = None, *, indent: str = "") -> None:
    """A sentence on stdout, wrapped at words for a terminal; `indent` stands before all lines but the first."""
    width = out.width if out.is_terminal else stated_width()
    out.print(wrapped(text, width, indent), style=style, markup=False, highlight=False)


def warn(text: str) -> None:
    """A sentence on stderr about what stays unknown."""
    err.print(wrapped(text, _err_width()), style="yellow", markup=False, highlight=False)


def remark(text: str, label: str = "note:") -> None:
    """A sentence on stderr behind a label: `note:` or `warning:`."""
    whole = wrapped(f"{label} {text}", _err_width())
    err.print(labelled(label, "yellow", whole[len(label) + 1 :]), soft_wrap=True)


def note(text: str) -> None:
    """A sentence on stderr about what goes on."""
    err.print(wrapped(text, _err_width()), style="dim", markup=False, highlight=False)


def wrapped(text: str, width: int | None, indent: str = "") -> str:
    """Lines of at most `width`, broken between words: never in a number and its unit, nor in an interval. None: one line.

    What stands in backticks keeps to one line, and a text with a command outside of them stays whole, so that it can be copied.
    """
    if width is None or _COMMAND.search(_QUOTED.sub("", text)):
        return text
    kept = re.sub(r"(\[[^\[\] ]*), (?=[^\[\] ]*\])", rf"\1,{_NBSP}", text)
    kept = _QUOTED.sub(lambda quoted: quoted[0].replace(" ", _GLUE), kept)
    lines = textwrap.fill(kept, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace(_GLUE, " ")


def _err_width() -> int | None:
    return err.width if err.is_terminal else None


def command_line() -> str:
    """This command as one can type it again; it is kept beside what it made."""
    return shlex.join(["edgeprune", *sys.argv[1:]])


def emit(value: Any) -> None:
    """One JSON object on stdout."""
    end_moving()
    sys.stdout.write(json_text(value, sys.stdout.encoding or "ascii") + "\n")


@contextmanager
def track(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A phase of so many steps, 0 for one without, on a line of stderr that moves; silent when stderr is not a terminal."""
    with moving(err, title) as activity, activity.track(title, total) as advance:
        yield advance


def activity(first: str, *, per_second: float = 10) -> AbstractContextManager[Activity]:
    """The line that moves, from now to the end of the block or to the first result on stdout. `first`: what goes on before any `track`."""
    return moving(err, first, per_second=per_second)


@contextmanager
def errors_as_one_line() -> Iterator[None]:
    """Print an edgeprune error as one line and leave with exit code 1; a reader of stdout that left is no error to tell of."""
    try:
        yield
        sys.stdout.flush()
    except EdgepruneError as error:
        _complain(str(error))
        raise typer.Exit(1) from error
    except BrokenPipeError as error:  # `| head` has seen enough
        raise typer.Exit(1) from error
    except OSError as error:  # a full disk, a folder that cannot be written to
        where = f" ({error.filename})" if error.filename else ""
        _complain(f"{error.strerror or error}{where}")
        raise typer.Exit(1) from error


def _complain(text: str) -> None:
    whole = wrapped(f"error: {' '.join(text.split())}", _err_width())
    err.print(labelled("error:", "bold red", whole.removeprefix("error: ")), soft_wrap=True)
