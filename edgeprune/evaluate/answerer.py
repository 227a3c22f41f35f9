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

    def __init__(self, model: Model, selections: Sequence[Selection], max_tokens: int) -> None:
        self._model = model
        self._choices = {s.name: (_budget(s.name), s.method) for s in selections}
        self._max_tokens = max_tokens
        self._image: Path | None = None
        self._views: dict[str, View] = {}

    def answer(self, image: Path, question: str, selection: str) -> str:
        if image != self._image:
            views = self._model.see_each(image, list(self._choices.values()), question=question)
            self._image, self._views = image, dict(zip(self._choices, views, strict=True))
        return self._model.ask(question, image=self._views[selection], max_tokens=self._max_tokens).text


def selections_of(model: Model, budgets: Sequence[str] = (), methods: Sequence[str] = ()) -> tuple[Selection, ...]:
    """Everything the bundle holds, or the named budgets and methods of it; full budget, where held, always and first.

    Raises BudgetError for a budget or method that the bundle does not hold.
    """
    wanted = [model.budget_label(text) for text in budgets] or list(model.budgets)
    order = sorted(dict.fromkeys([*(b for b in model.budgets if b == "1.0"), *wanted]), key=lambda b: -_ratio(model, b))
    held = {method for budget in model.budgets for method in model.methods(budget)}
    unknown = sorted(set(methods) - held)
    if unknown:
        raise BudgetError(f"this bundle has no method {unknown[0]!r}; it has {', '.join(sorted(held))}")
    found = []
    for budget in order:
        for method in model.methods(budget):
            if method == "full":
                found.append(Selection(budget, method, 1.0))
            elif not methods or method in methods:
                found.append(Selection(f"{method}@{budget}", method, _ratio(model, budget), _keep(model, budget)))
    return tuple(found)


def _budget(name: str) -> str:
    return name.rpartition("@")[2]


def _ratio(model: Model, budget: str) -> float:
    value = float(budget)
    return value if value <= 1 else value / model.bundle.manifest.preprocess.candidates_max


def _keep(model: Model, budget: str) -> int | None:
    kept = {s.keep for s in model.bundle.manifest.selections if s.budget == budget}
    return kept.pop() if len(kept) == 1 else None
