"""Instruments by name. Built-in ones use the same door as any other: `@register("name")` on a factory."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.base import Meter

Factory = TypeVar("Factory", bound=Callable[[], Meter[Any]])

_factories: dict[str, Callable[[], Meter[Any]]] = {}


def register(name: str) -> Callable[[Factory], Factory]:
    """Register a class or function that makes a meter when called without arguments. A name is taken once."""

    def add(factory: Factory) -> Factory:
        if name in _factories:
            raise MeasurementError(f"the meter name {name!r} is taken by {_factories[name]!r}; choose another")
        _factories[name] = factory
        return factory

    return add


def meter_names() -> tuple[str, ...]:
    return tuple(sorted(_factories))


def meter(name: str) -> Meter[Any]:
    """A new instrument. Raises MeasurementError, with suggestions, for a name that nothing registered."""
    if name not in _factories:
        close = difflib.get_close_matches(name, _factories, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise MeasurementError(f"no meter is called {name!r}{hint} Known: {', '.join(meter_names())}")
    return _factories[name]()


def survey() -> dict[str, str | None]:
    """For each instrument: None when it can measure here, else the sentence that says why and what to do."""
    return {name: meter(name).why_unavailable() for name in meter_names()}
