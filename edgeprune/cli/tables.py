"""Tables on stdout: as wide as the terminal, or wide enough for a pipe, which has no width of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from edgeprune.cli.console import out
from edgeprune.cli.plain import PlainConsole

_PIPE = 160


def show_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> None:
    """Print rows of plain text under a bold title; columns named in `left` are aligned to the left."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for name in head:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = out if out.is_terminal else PlainConsole(width=_PIPE)
    console.print(title, style="bold", markup=False, highlight=False)
    console.print(table, markup=False, highlight=False, soft_wrap=False)
    console.print()
