"""Tables on stdout that fit: as wide as the terminal, as COLUMNS says, or wide enough for a pipe, which has no width of its own.

Cells are never broken. A table that is too wide becomes blocks under each other, each of which begins with the first column again; only a
column of text that is too wide by itself wraps, at words.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.table import Table

from edgeprune.cli.console import out, stated_width
from edgeprune.cli.plain import PlainConsole, printable

_PIPE = 160
_GAP = 2


def show_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> None:
    """Print rows of plain text under a bold title; columns named in `left` are aligned to the left."""
    console = out if out.is_terminal else PlainConsole(width=stated_width() or _PIPE)
    cells = [[printable(cell) for cell in row] for row in rows]
    console.print(title, style="bold", markup=False, highlight=False, soft_wrap=False)
    for number, block in enumerate(blocks(head, cells, console.width)):
        if number:
            console.print()
        console.print(_table(head, cells, block, left, console.width), markup=False, highlight=False, soft_wrap=False)
    console.print()


def blocks(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Columns of each block, so that a block is at most `width` wide; the first column stands in all of them."""
    widths = [_width(head, rows, column) for column in range(len(head))]
    found: list[list[int]] = [[0]]
    for column in range(1, len(head)):
        here = found[-1]
        if len(here) > 1 and sum(widths[i] + _GAP for i in here) + widths[column] > width:
            here = [0]
            found.append(here)
        here.append(column)
    return found


def _width(head: Sequence[str], rows: Sequence[Sequence[str]], column: int) -> int:
    """What a column needs: its widest cell, and the longest word of its head, which wraps."""
    cells = (cell_len(line) for row in rows for line in row[column].split("\n"))
    return max((*cells, *(cell_len(word) for word in head[column].split(" "))), default=0)


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int], left: Sequence[str], width: int
) -> Table:
    table = Table(header_style="dim", box=None, pad_edge=False)
    widths = {column: _width(head, rows, column) for column in columns}
    fits = sum(widths.values()) + _GAP * (len(columns) - 1) <= width
    for column in columns:
        name, side = head[column], "left" if head[column] in left else "right"
        titled = "\n".join(textwrap.wrap(name, max(1, widths[column]), break_long_words=False)) if fits else name
        whole = fits or " " not in "".join(row[column] for row in rows)
        table.add_column(titled, justify=side, vertical="top", no_wrap=whole, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table
