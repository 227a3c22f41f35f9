"""--help in plain lines: words such as orin-nano-8gb and --max-tokens are never broken, so that what is shown can be copied.

No boxes, and no column of types, which would leave little room for the texts at 80 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

from edgeprune.cli.usage import PlainGroup

_Context: Any = TyperCommand.context_class
_Formatter: Any = _Context.formatter_class
#: A paragraph that begins with this is printed line by line.
_AS_IT_IS = "\b"


def examples(lines: Sequence[str]) -> str:
    """What stands below the options: commands in one line each, however narrow the terminal is."""
    return "\n".join([_AS_IT_IS, "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


class _WholeWords(_Formatter):  # type: ignore[misc]
    def write_text(self, text: str) -> None:
        indent = " " * self.current_indent
        room = max(self.width, len(indent) + 11)
        self.write("\n\n".join("\n".join(lines) for lines in _paragraphs(text, room, indent)) + "\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Names on the left, texts beside them; a name that is too long stands above its text."""
        begin = min(max(len(name) for name, _ in rows), col_max) + col_spacing
        pad, margin = " " * (self.current_indent + begin), " " * self.current_indent
        for name, text in rows:
            lines = [line for lines in _paragraphs(text, self.width, pad) for line in lines]
            first = f"{margin}{name}"
            if not lines:
                self.write(f"{first}\n")
            elif len(name) <= begin - col_spacing:
                self.write("\n".join([first.ljust(len(pad)) + lines[0].lstrip(), *lines[1:]]) + "\n")
            else:
                self.write("\n".join([first, *lines]) + "\n")


def _paragraphs(text: str, room: int, indent: str) -> Iterator[list[str]]:
    for part in textwrap.dedent(text).strip("\n").split("\n\n"):
        if part.startswith(_AS_IT_IS):
            yield [indent + line for line in part.removeprefix(_AS_IT_IS).strip("\n").splitlines()]
        elif part.strip():
            yield textwrap.wrap(
                " ".join(part.split()),
                room,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
                break_long_words=False,
            )


class _PlainContext(_Context):  # type: ignore[misc]
    formatter_class = _WholeWords


class HelpCommand(TyperCommand):
    """A command whose help is plain."""

    context_class = _PlainContext


class HelpGroup(PlainGroup):
    """A group of commands whose help and errors of usage are plain."""

    context_class = _PlainContext
