"""What an operator, a method or a filter of a template would make, told before it is made."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

from edgeprune_runtime.prompting.template_budget import MOST_BITS, MOST_VALUE, current, measure, require_size, too_much

_WIDEST = 1000  # of one value in a formatted text
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?")
#: Methods of texts whose result can be anything, or that take the square of a length.
_REFUSED = {"translate", "maketrans", "striptags"}


def require_operands(operator: str, left: Any, right: Any) -> None:
    """Raise PromptError for an operator whose result would be too large."""
    if operator == "*":
        _require_product(left, right)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        require_bits(left.bit_length() * abs(right))
    elif operator == "%" and isinstance(left, (str, bytes)):
        require_percent(left, right)


def require_bits(bits: int) -> None:
    """Raise PromptError for a whole number that is too long to be computed."""
    if bits > MOST_BITS:
        raise too_much(f"computes a number of more than {MOST_BITS} bits")


def _require_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        require_bits(left.bit_length() + right.bit_length())
        return
    for repeated, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(repeated, (str, bytes, list, tuple)):
            require_size(sum(measure(repeated)) * max(times, 0))


def require_percent(form: str | bytes, values: Any) -> None:
    """Raise PromptError for a `%` format with a width that is too large, or one that is given as a value."""
    text = form.decode("latin-1") if isinstance(form, bytes) else form
    widths = [number for found in _PERCENT.finditer(text) for number in found.groups() if number]
    _require_widths(widths)
    require_size(len(text) + text.count("%") * (sum(measure(values)) + _WIDEST))


def require_format(form: str, values: Any) -> None:
    """The same for `str.format`. Raises ValueError for a broken one."""
    fields = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(form) if name is not None]
    _require_widths([part for _, spec in fields for part in (["*"] if "{" in spec else re.findall(r"\d+", spec))])
    require_size(len(form) + len(fields) * (sum(measure(values)) + _WIDEST))


def _require_widths(widths: Iterable[str]) -> None:
    if any(not width.isdigit() or len(width) > 4 or int(width) > _WIDEST for width in widths):
        raise too_much(f"formats a value to more than {_WIDEST} characters")


def checked_arguments(function: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a call, where the result of a built-in method would not be too large. Raises PromptError."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if isinstance(owner, (str, bytes, int, float, type)):
        numbers = [value for value in (*args, *keywords.values()) if isinstance(value, int)]
        require_size(max(map(abs, numbers), default=0))
    if not isinstance(owner, (str, bytes)):
        return args
    if name in _REFUSED:
        raise too_much(f"calls {name}, which no chat template needs")
    if name in ("format", "format_map") and isinstance(owner, str):
        require_format(owner, (args, dict(keywords)))
    elif name == "replace":
        require_replacement(owner, *args[:2])
    elif name == "expandtabs":
        tab = "\t" if isinstance(owner, str) else b"\t"
        require_size(len(owner) + owner.count(tab) * max((n for n in args if isinstance(n, int)), default=8))  # type: ignore[arg-type]
    elif name == "join" and args:
        return (joinable(owner, args[0]), *args[1:])
    return args


def require_replacement(text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
    """Raise PromptError where `text.replace(old, new)` would be too long."""
    if type(text) is not type(old) or not isinstance(text, (str, bytes)):
        text, old, new = str(text), str(old), str(new)
    require_size(len(text) + text.count(old) * len(new))


def joinable(between: Any, values: Iterable[Any]) -> list[Any]:
    """The values to join, as a list. Raises PromptError where the text would be too long."""
    taken = list(current().each(values))
    require_size(sum(measure(taken)) + len(taken) * len(between))
    return taken


def require_number(what: str, value: Any, most: int = MOST_VALUE) -> None:
    """Raise PromptError for anything but a number of at most `most`."""
    if not isinstance(value, (int, float)) or abs(value) > most:
        raise too_much(f"asks for {what} {str(value)[:20]}")
