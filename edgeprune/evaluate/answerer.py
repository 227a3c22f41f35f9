"""The real thing to evaluate: a bundle behind the `Answerer` protocol of `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeprune.evaluate.compare import Selection
from edgeprune_runtime.budgets import asked_for, budget_label, by_method, no_method, on_tiles, staying
from edgeprune_runtime.budgets import budgets as held_budgets
from edgeprune_runtime.errors import BudgetError
from edgeprune_runtime.model import Model
from edgeprune_runtime.results import View
from edgeprune_runtime.spec import Manifest
from edgeprune_runtime.stages.counts import InsideChoice, choice_from_text, inside_choices


class ModelAnswerer:
    """Encodes a picture once, keeps tokens of it once per selection, and answers every question about it from those."""

    def __init__(
        self, model: Model, selections: Sequence[Selection], max_tokens: int, skip_equal: float | None = None
    ) -> None:
        self._model, self._max_tokens, self._skip_equal = model, max_tokens, skip_equal
        self._choices: dict[int | None, dict[str, tuple[str, str]]] = {}
        self._inside: dict[str, InsideChoice] = {}
        for selection in selections:
            asked = asked_for(selection.name)
            self._choices.setdefault(selection.tiles, {})[selection.name] = asked.budget, selection.method
            self._inside[selection.name] = choice_from_text(asked.inside)
        self._image: Path | None = None
        self._views: dict[str, View] = {}

    def answer(self, image: Path, question: str, selection: str) -> str:
        if image != self._image:
            views: dict[str, View] = {}
            for tiles, choices in self._choices.items():
                asked = list(choices.values())
                kept = self._model.see_each(image, asked, tiles=tiles, question=question, skip_equal=self._skip_equal)
                views.update(zip(choices, kept, strict=True))
            self._image, self._views = image, views
        view, inside = self._views[selection], self._inside[selection]
        return self._model.ask(question, image=view, max_tokens=self._max_tokens, inside=inside).text


def selections_of(
    manifest: Manifest,
    budgets: Sequence[str] = (),
    methods: Sequence[str] = (),
    tiles: Sequence[int] = (),
    inside: Sequence[str] = (),
) -> tuple[Selection, ...]:
    """Everything the bundle holds, or the named budgets and methods of it; full budget, where held, always and first. With all tiles, then
    with each limit of `tiles`; with nobody leaving inside the language model, then as each of `inside` says, or as exported.

    Raises BudgetError for a budget or method that the bundle does not hold, PlanError or RequestError for what no cut of it can keep.
    """
    wanted = [budget_label(manifest, text) for text in budgets] or list(held_budgets(manifest))
    held = manifest.selections
    names = sorted({one.method for one in held})
    if unknown := sorted(set(methods) - set(names)):
        raise BudgetError(no_method(unknown[0], names))
    found: dict[str, Selection] = {}
    for one in sorted(held, key=lambda one: -one.keep_ratio):
        if one.whole:
            found[one.budget] = Selection(one.budget, one.method, 1.0)
        elif one.budget in wanted and (not methods or one.method in methods):
            name = by_method(one.budget, one.method)
            by_picture = name in found and found[name].keep != one.keep
            found[name] = Selection(name, one.method, one.keep_ratio, None if by_picture else one.keep)
    every = [
        replace(one, name=staying(one.name, leaving), inside=leaving)
        for leaving in inside_choices(manifest, inside)
        for one in found.values()
    ]
    limited = [
        replace(one, name=on_tiles(one.name, most), keep=None, tiles=most)
        for most in dict.fromkeys(tiles)
        for one in every
    ]
    return (*every, *limited)
