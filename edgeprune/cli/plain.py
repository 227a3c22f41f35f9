"""Text of strangers on a terminal: file names, error texts and answers are shown as they are, never obeyed.

Neither console markup (`[bold]` in a file's name), nor emoji codes, nor escape sequences that move a cursor or set a title mean anything.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

_LAYOUT = "\n\t"
_HIDDEN = {"Cc", "Cf", "Cs"}
_JOINERS = "\u200c\u200d"  # zero-width, but they shape letters and emoji


def printable(text: str) -> str:
    """The text with control characters, directions and lone surrogates as escapes such as \\x1b; lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(char if _is_shown(char) else _escape(char) for char in text)


def _is_shown(char: str) -> bool:
    return char in _LAYOUT or char in _JOINERS or unicodedata.category(char) not in _HIDDEN


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(value: Any, encoding: str) -> str:
    """`value` as JSON in one line that any terminal can bear and `encoding` can hold: everything else is written as \\u001b and the like.

    The same value is read back from it. Lone surrogates, which stand for bytes of a name that are no UTF-8, are kept so too.
    """
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value, enc_hook=str))
    if not encoding.lower().replace("-", "").startswith("utf"):
        return "".join(char if char.isascii() and char.isprintable() else _in_json(char) for char in text)
    return text if text.isprintable() else "".join(char if _is_shown(char) else _in_json(char) for char in text)


def _in_json(char: str) -> str:
    return json.dumps(char)[1:-1] if not char.isascii() else f"\\u{ord(char):04x}"


class PlainConsole(Console):
    """A console to which every string is text. What is styled is a `Text`, or printed with `style=`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def labelled(label: str, style: str, text: str) -> Text:
    """`text` behind a styled label."""
    return Text.assemble((label, style), " ", printable(text))
