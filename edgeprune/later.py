"""torch, imported when it is first used: a list of names, or a refusal, must not wait for it.

    from edgeprune.later import torch

Modules that say what there is (methods, importances, allocations) take it from here, and its types for checking only.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class _Later(ModuleType):
    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, found)
        return found


if TYPE_CHECKING:
    import torch as torch
else:
    torch = _Later("torch")


def without_gradients(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """`torch.no_grad()` as a decorator that does not import torch."""

    @functools.wraps(function)
    def wrapped(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        with torch.no_grad():
            return function(*arguments, **named)

    return wrapped
