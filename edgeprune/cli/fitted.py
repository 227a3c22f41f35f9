"""Tables and sentences that fit a terminal: columns that matter less leave first, then rows become blocks; nothing is ever broken.

A pipe has no width of its own: it gets every column, and sentences on one line each. COLUMNS says otherwise, as to any program.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from edgeprune.cli.console import out
from edgeprune.cli.plain import printable

_PIPE = 160
_GAP = "  "
_LEAST = 24  # cells that a column of sentences needs


@dataclass(frozen=True)
class Column:
    """`rank` 0 always stays, the highest leaves first. `wraps`: sentences, broken between words; at most one column, the last."""

    head: str
    rank: int = 0
    left: bool = False
    wraps: bool = False


def width() -> int:
    """Cells of a line: those of the terminal or of COLUMNS, else those of a pipe."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    return out.width if out.is_terminal else _PIPE


def say(text: str, *, style: str | None = None, indent: str = "") -> None:
    """A sentence, broken between words where lines have an end; `indent` stands before all lines but the first."""
    ends = out.is_terminal or os.environ.get("COLUMNS", "").isdecimal()
    lines = _broken(printable(text), width(), indent) if ends else [text]
    for line in lines:
        out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def show_fitted(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of plain text under a bold title, and an empty line."""
    say(title, style="bold")
    cells = [[printable(cell) for cell in row] for row in rows]
    kept = _kept(columns, cells, width())
    if kept is None:
        _blocks(columns, cells)
    else:
        _table([columns[i] for i in kept], [[row[i] for i in kept] for row in cells])
    out.print()


def _kept(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Which columns stay so that a line fits; None where not even those of rank 0 do."""
    kept = list(range(len(columns)))
    while sum(_needed(columns[i], [row[i] for row in rows]) for i in kept) + len(_GAP) * (len(kept) - 1) > room:
        worst = max(kept, key=lambda i: (columns[i].rank, i))
        if columns[worst].rank == 0:
            return None
        kept.remove(worst)
    return kept


def _needed(column: Column, cells: Sequence[str]) -> int:
    longest = max([cell_len(column.head), *map(cell_len, cells)])
    return min(longest, _LEAST) if column.wraps else longest


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    widths = [max([cell_len(c.head), *(cell_len(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    if columns[-1].wraps:
        widths[-1] = min(widths[-1], width() - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1))
    heads = [c.head for c in columns]
    out.print(Text(_line(columns, widths, heads), "dim"), soft_wrap=True)
    for row in rows:
        last = _broken(row[-1], widths[-1]) if columns[-1].wraps else [row[-1]]
        for n, part in enumerate(last or [""]):
            begin = row[:-1] if n == 0 else [""] * (len(row) - 1)
            out.print(Text(_line(columns, widths, [*begin, part])), soft_wrap=True)


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    padded = [
        cell + " " * (size - cell_len(cell)) if c.left or c.wraps else " " * (size - cell_len(cell)) + cell
        for c, size, cell in zip(columns, widths, cells, strict=True)
    ]
    return _GAP.join(padded).rstrip()


def _blocks(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """The first cell as a heading, the others below it, each with its own name and in one piece."""
    for row in rows:
        out.print(Text(row[0], "bold"), soft_wrap=True)
        facts = [f"{c.head} {cell}".strip() for c, cell in zip(columns[1:], row[1:], strict=True) if cell]
        line = "  "
        for n, fact in enumerate(facts):
            fact += "," if n + 1 < len(facts) else ""
            if len(line) > 2 and cell_len(line) + 1 + cell_len(fact) > width():
                out.print(Text(line.rstrip()), soft_wrap=True)
                line = "  "
            line += fact if len(line) == 2 else f" {fact}"
        for part in _broken(line.strip(), max(width() - 2, 1)):
            out.print(Text(f"  {part}"), soft_wrap=True)


def _broken(text: str, room: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, max(room, len(indent) + 1), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
