"""How every command talks: results on stdout, everything else on stderr, one JSON object with --json.

Errors of the exception tree become one line and exit code 1, usage errors exit code 2, a bug keeps its traceback.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgeprune.cli.plain import PlainConsole, json_text, labelled
from edgeprune_runtime.errors import EdgepruneError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]

# A pipe has no width: nothing is wrapped for it.
out = PlainConsole(soft_wrap=True, width=None if sys.stdout is not None and sys.stdout.isatty() else 200)
err = PlainConsole(stderr=True, soft_wrap=True)


def warn(text: str) -> None:
    """A sentence on stderr about what stays unknown."""
    err.print(text, style="yellow", markup=False, highlight=False)


def remark(text: str, label: str = "note:") -> None:
    """A sentence on stderr behind a label: `note:` or `warning:`."""
    err.print(labelled(label, "yellow", text), soft_wrap=True)


def note(text: str) -> None:
    """A sentence on stderr about what goes on."""
    err.print(text, style="dim", markup=False, highlight=False)


def command_line() -> str:
    """This command as one can type it again; it is kept beside what it made."""
    return shlex.join(["edgeprune", *sys.argv[1:]])


def emit(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json_text(value, sys.stdout.encoding or "ascii") + "\n")


@contextmanager
def track(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar with time left on stderr; silent when stderr is not a terminal."""
    with _bar() as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def track_counts(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """The same for work that says how much is done, of how much in all, and what goes on."""
    with _bar() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, label: bar.update(task, completed=done, total=total)


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, disable=not err.is_terminal, transient=True)


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
    err.print(labelled("error:", "bold red", " ".join(text.split())), soft_wrap=True)
