"""Errors of usage: what was typed is shown as it is, never obeyed. A pasted argument may hold escape sequences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

from edgeprune.cli.plain import printable


class PlainGroup(TyperGroup):
    """A group of commands; errors of usage say what was typed as plain text, whichever of the two below finds them."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        with _shown_plainly():
            return super().make_context(*arguments, **named)

    def invoke(self, *arguments: Any, **named: Any) -> Any:
        with _shown_plainly():
            return super().invoke(*arguments, **named)


@contextmanager
def _shown_plainly() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        words = getattr(
            error, "format_message", None
        )  # of click, which newer versions of Typer bring along under another name
        if words is not None:
            text = printable(words())
            error.format_message = lambda: text  # type: ignore[attr-defined]
        raise
