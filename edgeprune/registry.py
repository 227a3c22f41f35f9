"""One typed registry: names to things, with an answer for names nobody knows.

Built-ins and plug-ins use the same door. A plug-in is an entry point in the registry's group, loaded only when its name is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from edgeprune.errors import PlanError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind (`what`, such as "method"); `group` is the entry-point group that extends it."""

    def __init__(self, what: str, *, group: str) -> None:
        self._what = what
        self._group = group
        self._known: dict[str, T] = {}

    def add(self, name: str, thing: T) -> T:
        """Register under a new name; a name cannot be taken twice."""
        if name in self._known:
            raise PlanError(f"{self._what} {name!r} is registered twice; give one of them another name")
        self._known[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        if name in self._known:
            return self._known[name]
        for point in entry_points(group=self._group, name=name):
            return self.add(name, point.load())
        close = difflib.get_close_matches(name, self, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        raise PlanError(f"unknown {self._what} {name!r}{hint} known: {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._known, *(point.name for point in entry_points(group=self._group))}))
