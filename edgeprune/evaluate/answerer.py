"""The real thing to evaluate: a bundle behind the `Answerer` protocol of `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeprune.evaluate.compare import Selection
from edgeprune_runtime.errors import BudgetError
from edgeprune_runtime.model import Model
from edgeprune_runtime.results import View


class ModelAnswerer:
    """Encodes a picture once, keeps tokens of it once per selection, and answers every question about it from those."""

    def __init__(
        self, model: Model, selections: Sequence[Selection], max_tokens: int, tiles: int | None = None
    ) -> None:
        self._model = model
        self._choices = {s.name: (_budget(s.name), s.method) for s in selections}
        self._max_tokens, self._tiles = max_tokens, tiles
        self._image: Path | None = None
        self._views: dict[str, View] = {}

    def answer(self, image: Path, question: str, selection: str) -> str:
        if image != self._image:
            views = self._model.see_each(image, list(self._choices.values()), tiles=self._tiles, question=question)
            self._image, self._views = image, dict(zip(self._choices, views, strict=True))
        return self._model.ask(question, image=self._views[selection], max_tokens=self._max_tokens).text


def selections_of(model: Model, budgets: Sequence[str] = (), methods: Sequence[str] = ()) -> tuple[Selection, ...]:
    """Everything the bundle holds, or the named budgets and methods of it; full budget, where held, always and first.

    Raises BudgetError for a budget or method that the bundle does not hold.
    """
    wanted = [model.budget_label(text) for text in budgets] or list(model.budgets)
    held = model.bundle.manifest.selections
    names = sorted({one.method for one in held})
    if unknown := sorted(set(methods) - set(names)):
        raise BudgetError(f"this bundle has no method {unknown[0]!r}; it has {', '.join(names)}")
    found: dict[str, Selection] = {}
    for one in sorted(held, key=lambda one: -one.keep_ratio):
        if one.whole:
            found[one.budget] = Selection(one.budget, one.method, 1.0)
        elif one.budget in wanted and (not methods or one.method in methods):
            name = f"{one.method}@{one.budget}"
            by_picture = name in found and found[name].keep != one.keep
            found[name] = Selection(name, one.method, one.keep_ratio, None if by_picture else one.keep)
    return tuple(found.values())


def _budget(name: str) -> str:
    return name.rpartition("@")[2]
