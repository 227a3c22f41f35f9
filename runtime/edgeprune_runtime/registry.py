"""One typed registry: names to things, with an answer for names nobody knows.

Built-ins and plug-ins use the same door. A thing is registered as it is, as the "module:attribute" to load it from when it is asked for, by
an entry point in the registry's group, or from a user's own `file.py:NAME`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from edgeprune_runtime.errors import EdgepruneError, PlanError

T = TypeVar("T")


@dataclass(frozen=True)
class _Lazy:
    """A thing that is loaded when it is asked for: "module:attribute", and who registered it."""

    target: str
    owner: str

    def load(self) -> object:
        module, _, attribute = self.target.partition(":")
        found: object = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found


class Registry(Generic[T]):
    """Names of one kind, in the order they were registered; plug-ins come last, by name.

    what   the kind in a user's words, such as "method"
    group  the entry-point group that extends it; None: no plug-ins
    kind   the class of its things; what a plug-in or a user's file holds must be one. A thing's own `name` is the name it is registered under
    error  what is raised for a name that nobody knows, and for anything else that is wrong with one
    """

    def __init__(
        self,
        what: str,
        *,
        group: str | None = None,
        kind: type[T] | None = None,
        error: type[EdgepruneError] = PlanError,
    ) -> None:
        self._what = what
        self._group = group
        self._kind = kind
        self._error = error
        self._known: dict[str, T | _Lazy] = {}
        self._searched = False  # whether the plug-ins of the group are in _known

    def add(self, name: str, thing: T) -> T:
        """Register under a new name; a name cannot be taken twice."""
        self._take(name, thing)
        return thing

    def add_lazy(self, name: str, target: str) -> None:
        """Register "module:attribute" under a new name; the module is imported when the name is asked for."""
        self._take(name, _Lazy(target, "edgeprune"))

    def get(self, name: str) -> T:
        """The thing of this name. Raises the registry's error for one that nobody knows, or that cannot be loaded."""
        if not isinstance(name, str) or name not in self._all():
            raise self._error(unknown(self._what, name, self))
        thing = self._known[name]
        if isinstance(thing, _Lazy):
            thing = self._known[name] = self._loaded(name, thing)
        return thing

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._all()))

    def __len__(self) -> int:
        return len(self._all())

    def names(self) -> tuple[str, ...]:
        """All names; nothing is loaded."""
        return tuple(self)

    def choose(self, text: str) -> T:
        """What a user means: a name, or `path/to/file.py:NAME`."""
        if text.rpartition(":")[0].endswith(".py"):
            return self.load_file(text)
        if text not in self:
            raise self._error(f"{unknown(self._what, text, self)}, or give your own as path/to/file.py:NAME")
        return self.get(text)

    def load_file(self, text: str) -> T:
        """Run the file of `path/to/file.py:NAME` and register the thing that it calls NAME.

        Raises the registry's error when the file cannot be run, holds no such thing, or takes a name that is in use.
        """
        path, _, variable = text.rpartition(":")
        found = self._of_kind(getattr(self._module(Path(path)), variable, None))
        if found is None:
            raise self._error(
                f"{path} has no {self._called} called {variable!r}; it needs {variable} = {self._called}(...)"
            )
        name = str(getattr(found, "name", variable))
        if name not in self or self.get(name) != found:
            self.add(name, found)
        return found

    @property
    def _called(self) -> str:
        return self._kind.__name__ if self._kind else self._what

    def _all(self) -> dict[str, T | _Lazy]:
        if self._group is not None and not self._searched:
            for point in sorted(entry_points(group=self._group), key=lambda point: point.name):
                lazy = _Lazy(f"{point.module}:{point.attr}", point.dist.name if point.dist else point.module)
                if self._known.get(point.name) != lazy:  # it is there after a search that a later name stopped
                    self._take(point.name, lazy)
            self._searched = True
        return self._known

    def _take(self, name: str, thing: T | _Lazy) -> None:
        if name in self._known:
            first = self._known[name]
            owners = [f" by {one.owner}" for one in (first, thing) if isinstance(one, _Lazy)]
            raise self._error(
                f"{self._what} {name!r} is registered twice{' and'.join(owners)}; give one of them another name"
            )
        self._known[name] = thing

    def _of_kind(self, found: object) -> T | None:
        """`found`, when it is a thing of this registry."""
        return found if self._kind is None or isinstance(found, self._kind) else None  # type: ignore[return-value]

    def _loaded(self, name: str, lazy: _Lazy) -> T:
        try:
            loaded = lazy.load()
        except EdgepruneError:
            raise
        except Exception as error:  # anything can go wrong in another's module
            raise self._error(
                f"{self._what} {name!r} cannot be loaded from {lazy.target}: {type(error).__name__}: {error}; "
                f"repair or remove the package {lazy.owner}"
            ) from error
        found = self._of_kind(loaded)
        if found is None:
            raise self._error(
                f"{self._what} {name!r} of {lazy.owner} is of type {type(loaded).__name__}; {lazy.target} must be a {self._called}"
            )
        return found

    def _module(self, path: Path) -> ModuleType:
        """The user's file as a module; it runs once, whatever is taken from it."""
        if not path.is_file():
            raise self._error(
                f"{path} does not exist; give a {self._what} as path/to/file.py:NAME, where NAME is a {self._called}"
            )
        name = f"edgeprune_file:{path.resolve()}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # before it runs: dataclasses look there
            try:
                spec.loader.exec_module(module)
            except Exception as error:  # anything can go wrong in a user's file
                del sys.modules[name]
                raise self._error(f"{path} cannot be run: {type(error).__name__}: {error}; repair the file") from error
        return sys.modules[name]


def unknown(what: str, name: str, known: Iterable[str], guess: str | None = None) -> str:
    """The sentence for a name that nobody knows: what was found, a guess at what was meant, the known names, what to do.

    guess: what the caller takes it for, where it knows better than the spelling
    """
    names = tuple(known)
    close = [guess] if guess else difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {what} {name!r}{hint} known: {', '.join(names) or 'none'}; choose one of these"
