"""How much work a chat template may do: a stranger's program, counted in steps, characters and sizes while it runs.

Nothing here can be undone from inside a template: what was spent stays spent, so that every further step is refused as well.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from edgeprune_runtime.errors import PromptError

MOST_SOURCE = 128 << 10  # characters of a template
MOST_CODE = 512 << 10  # characters of the Python code that jinja2 makes of it
MOST_STEPS = 500_000  # of one rendering: loop turns, calls, comparisons, elements looked at
MOST_MADE = 64 << 20  # characters and elements that one rendering makes in all
MOST_VALUE = 4 << 20  # characters and elements of one value
MOST_DEPTH = 64  # of lists within lists
MOST_BITS = 10_000  # of a whole number
_CHARACTERS_PER_STEP = 1024  # copied in about the time of a step
_Value = TypeVar("_Value")
_NESTED = (list, tuple, set, frozenset, ItemsView, KeysView, ValuesView)


class TemplateBudget:
    """What one rendering has spent."""

    def __init__(self) -> None:
        self._steps = self._made = 0

    def step(self, count: int = 1) -> None:
        """Raises PromptError where the rendering has done too much."""
        self._steps += count
        if self._steps > MOST_STEPS:
            raise too_much(f"takes more than {MOST_STEPS} steps")

    def touched(self, value: _Value) -> _Value:
        """`value`, which is looked at."""
        elements, characters = measure(value)
        self.step(1 + elements + characters // _CHARACTERS_PER_STEP)
        return value

    def made(self, value: _Value) -> _Value:
        """`value`, which is new."""
        elements, characters = measure(value)
        self.step(1 + elements + characters // _CHARACTERS_PER_STEP)
        self.reserve(elements + characters)
        return value

    def reserve(self, size: int) -> None:
        """Count characters or elements that are made."""
        self._made += size
        if self._made > MOST_MADE:
            raise too_much(f"makes more than {MOST_MADE} characters")

    def each(self, values: Iterable[_Value]) -> Iterator[_Value]:
        """The same values, counted one by one as they are taken."""
        for value in values:
            yield self.made(value)


def too_much(what: str) -> PromptError:
    """The refusal of a template."""
    return PromptError(
        f"the checkpoint's chat template {what}, so it was stopped; use the template of the original model, "
        "or give the whole prompt with --no-template"
    )


def require_size(size: int) -> None:
    """Raise PromptError for a value of more characters and elements than a template may hold."""
    if size > MOST_VALUE:
        raise too_much(f"makes a value of more than {MOST_VALUE} characters")


def measure(value: Any) -> tuple[int, int]:
    """Elements and characters of a value as if it were written out: what stands twice counts twice. Raises PromptError where too large.

    Namespaces, macros, generators and other objects write out as a few characters and count as nothing.
    """
    if isinstance(value, (str, bytes)):
        require_size(len(value))
        return 0, len(value)
    elements = characters = 0
    waiting = [(iter((value,)), 0)]
    while waiting:
        values, depth = waiting[-1]
        found = next(values, waiting)
        if found is waiting:  # no more of these; nothing else is `waiting`
            waiting.pop()
            continue
        if isinstance(found, (str, bytes)):
            characters += len(found)
        elif isinstance(found, int):
            if found.bit_length() > MOST_BITS:
                raise too_much(f"computes a number of more than {MOST_BITS} bits")
        elif isinstance(found, range):
            elements += len(found)
        elif isinstance(found, (Mapping, *_NESTED)):
            elements += len(found)
            if depth == MOST_DEPTH:
                raise too_much(f"nests more than {MOST_DEPTH} lists")
            inner = (part for pair in found.items() for part in pair) if isinstance(found, Mapping) else iter(found)
            waiting.append((inner, depth + 1))
        require_size(elements + characters)
    return elements, characters


_CURRENT: ContextVar[TemplateBudget | None] = ContextVar("template budget", default=None)


@contextmanager
def budgeted() -> Iterator[TemplateBudget]:
    """A new budget for what this thread renders or compiles in the block."""
    budget = TemplateBudget()
    before = _CURRENT.set(budget)
    try:
        yield budget
    finally:
        _CURRENT.reset(before)


def current() -> TemplateBudget:
    """The budget of this thread's rendering; outside of one, an own."""
    return _CURRENT.get() or TemplateBudget()
