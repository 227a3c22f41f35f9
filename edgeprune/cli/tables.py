"""Tables on stdout that fit: as wide as the terminal, as COLUMNS says, or wide enough for a pipe, which has no width of its own.

Cells are never broken but for sentences, which wrap between words. Where a table is too wide, columns that matter less leave; one that is
still too wide becomes blocks under each other, each of which begins with the first column again.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table

from edgeprune.cli.console import out, stated_width
from edgeprune.cli.plain import PlainConsole, printable

_PIPE = 160
_GAP = 2
_SENTENCE = 24  # cells that a column of sentences needs


@dataclass(frozen=True)
class Column:
    """`rank` 0 always stays, the highest leaves first. `left`: aligned to the left. `wraps`: holds sentences."""

    head: str
    rank: int = 0
    left: bool = False
    wraps: bool = False


def columns(heads: Iterable[str], left: Collection[str] = ()) -> list[Column]:
    """Columns that all stay; those named in `left` are aligned to the left."""
    return [Column(head, left=head in left) for head in heads]


def show_table(title: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of plain text under a bold title, and an empty line."""
    console = out if out.is_terminal else PlainConsole(width=stated_width() or _PIPE)
    cells = [[printable(cell) for cell in row] for row in rows]
    console.print(title, style="bold", markup=False, highlight=False, soft_wrap=False)
    for number, block in enumerate(blocks(columns, cells, console.width)):
        if number:
            console.print()
        console.print(_table(columns, cells, block, console.width), markup=False, highlight=False, soft_wrap=False)
    console.print()


def blocks(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Columns of each block, so that a block is at most `width` wide; the first column stands in all of them."""
    needed = [_needed(column, [row[i] for row in rows]) for i, column in enumerate(columns)]
    kept = list(range(len(columns)))
    while _together(needed[i] for i in kept) > width and any(columns[i].rank for i in kept):
        kept.remove(max(kept, key=lambda i: (columns[i].rank, i)))
    first, *others = kept
    found = [[first]]
    for column in others:
        here = found[-1]
        if len(here) > 1 and _together(needed[i] for i in (*here, column)) > width:
            here = [first]
            found.append(here)
        here.append(column)
    return found


def _needed(column: Column, cells: Sequence[str]) -> int:
    """The widest cell, and the longest word of the head, which wraps."""
    lines = [cell_len(line) for cell in cells for line in cell.split("\n")]
    words = [cell_len(word) for word in column.head.split(" ")]
    return min(max((*lines, *words)), _SENTENCE) if column.wraps else max((*lines, *words))


def _together(widths: Iterable[int]) -> int:
    sizes = list(widths)
    return sum(sizes) + _GAP * (len(sizes) - 1)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], block: Sequence[int], width: int) -> Table:
    table = Table(header_style="dim", box=None, pad_edge=False)
    needed = {i: _needed(columns[i], [row[i] for row in rows]) for i in block}
    fits = _together(needed.values()) <= width
    roomy = _together(max(needed[i], cell_len(columns[i].head)) for i in block) <= width
    for i in block:
        one = columns[i]
        head = one.head
        if fits and not roomy and not one.wraps:
            head = "\n".join(textwrap.wrap(head, max(1, needed[i]), break_long_words=False))
        breaks = one.wraps or (not fits and " " in "".join(row[i] for row in rows))
        side = "left" if one.left or one.wraps else "right"
        table.add_column(head, justify=side, vertical="top", no_wrap=not breaks, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(row[i] for i in block))
    return table
