"""Methods from a user's own file: `--method path/to/file.py:name`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from edgeprune.errors import PlanError
from edgeprune.registry import Registry
from edgeprune.tokens.registry.method import Method


def method_name(text: str, registry: Registry[Method]) -> str:
    """The registered name that a user means: a name, or `file.py:variable`, which runs that file and registers its Method.

    Raises PlanError when the file cannot be run, holds no such Method, or takes a name that is in use.
    """
    path, colon, variable = text.rpartition(":")
    if not colon or not path.endswith(".py"):
        return registry[text].name
    found = _from_file(Path(path), variable)
    if found.name not in registry or registry[found.name] != found:
        registry.add(found.name, found)
    return found.name


def _from_file(path: Path, variable: str) -> Method:
    if not path.is_file():
        raise PlanError(f"{path} does not exist; give --method as path/to/file.py:NAME, where NAME is a Method")
    module_name = f"edgeprune_method:{path.resolve()}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # before it runs: dataclasses look there
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # anything can go wrong in a user's file
            del sys.modules[module_name]
            raise PlanError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    found = getattr(sys.modules[module_name], variable, None)
    if not isinstance(found, Method):
        raise PlanError(
            f"{path} has no Method called {variable!r}; it needs {variable} = Method(name, summary, source, reduce)"
        )
    return found
