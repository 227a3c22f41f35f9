"""What goes on, on stderr: one line that moves from the first to the last moment of a command, and names the phase.

A command opens it with `activity("loading torch")`; every `track` inside shows on the same line, so that nothing stands still between two of
them. What goes to stdout ends it. Nothing of it is shown where stderr is not a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

_REST = "working"
_BAR_WIDTH = 20


class _Counts(ProgressColumn):
    """3/12, and nothing for a phase that has no steps."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")


@dataclass(frozen=True)
class Activity:
    """A line that moves. Its clock is that of the phase."""

    bar: Progress
    task: TaskID

    def phase(self, title: str, total: int | None = None) -> None:
        """What goes on from now; without `total` it is not known how long."""
        (task,) = self.bar.tasks
        task.total = total  # reset() takes None for "as it was"
        self.bar.reset(self.task, description=title)
        self.bar.refresh()

    def told(self, done: int, total: int, label: str) -> None:
        """How much is done, of how much in all, and what goes on."""
        self.bar.update(self.task, completed=done, total=total, description=label)

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """A phase of `total` steps, 0 for one without; the function that it hands out is called after each step."""
        self.phase(title, total or None)
        yield lambda: self.bar.advance(self.task)
        self.phase(_REST)

    def end(self) -> None:
        """Remove the line."""
        self.bar.stop()


_live: ContextVar[Activity | None] = ContextVar("activity", default=None)


@contextmanager
def moving(console: Console, first: str, *, per_second: float = 10) -> Iterator[Activity]:
    """A line on `console` while the block runs, or the one that runs already. `per_second`: how often it is drawn anew."""
    running = _live.get()
    if running is not None and running.bar.live.is_started:
        running.phase(first)
        yield running
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR_WIDTH),
        _Counts(),
        TimeElapsedColumn(),
    )
    bar = Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        refresh_per_second=per_second,
        redirect_stdout=False,
    )
    with bar:
        made = Activity(bar, bar.add_task(first, total=None))
        token = _live.set(made)
        try:
            yield made
        finally:
            _live.reset(token)


def end_moving() -> None:
    """Remove the line, if there is one: something goes to stdout."""
    running = _live.get()
    if running is not None:
        running.end()
