"""The real thing to measure: a bundle behind the `Runner` protocol of `measure`, whole and in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgeprune_profiles.measure.stages import Run
from edgeprune_profiles.record.power_profile import DECODE, IMAGE, PREFILL, REQUEST, SELECT, EnergyPiece
from edgeprune_profiles.record.profile import BackendUse, BudgetRecord, BudgetResult, EnginesRef, Report
from edgeprune_runtime.backends import created
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.budgets import asked_for, budget_label, by_method, no_method, on_tiles, staying
from edgeprune_runtime.budgets import budgets as held_budgets
from edgeprune_runtime.engines.spec import ENGINE_MANIFEST
from edgeprune_runtime.errors import BudgetError
from edgeprune_runtime.model import Model
from edgeprune_runtime.results import Answer, View
from edgeprune_runtime.spec import Manifest, StageSpec, bytes_of
from edgeprune_runtime.stages.counts import InsideChoice, choice_from_text, inside_choices, stage_rows
from edgeprune_runtime.timing import Span


class ModelRunner:
    """Answers from scratch, past the end token: every budget generates the same number of tokens, so times compare. Nothing of an earlier
    prompt is reused, unless a second question is asked for.

    A budget may say by which method and on how many tiles, as in a report. `positions` is the longest sequence per budget so far, prompt and
    answer together, in each stage of the language model.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.positions: dict[str, tuple[int, ...]] = {}
        self._view: View | None = None
        self._inside: InsideChoice = None

    def run(self, budget: str, image: Path, question: str, max_tokens: int) -> Run:
        model = self._model
        model.forget()
        asked = asked_for(budget)
        view = self._view = model.see(image, **asked.of_picture, question=question)
        self._inside = choice_from_text(asked.inside)
        answer = model.ask(question, image=view, max_tokens=max_tokens, stop=False, inside=self._inside)
        rows = stage_rows(model.bundle.manifest.language, answer.prompt_tokens, answer.visual_tokens, self._inside)
        used = tuple(here.rows + len(answer.token_ids) for here in rows)
        self.positions[budget] = max(used, self.positions.get(budget, (0,)))
        return _run(answer, view.spans + answer.spans)

    def second(self, question: str) -> Run:
        """The first token of another question about the picture of the last run, which is still encoded and in the cache."""
        answer = self._model.ask(question, image=self._view, max_tokens=1, stop=False, inside=self._inside)
        return _run(answer, answer.spans)

    def pieces(self, budget: str, image: Path, question: str, max_tokens: int) -> tuple[EnergyPiece, ...]:
        """A request and its pieces, each to be repeated alone; the model must not be asked anything else meanwhile.

        Prefill and decode work on one encoded picture and one sequence, which repeating them leaves as they were.
        """
        model, language, asked = self._model, self._model.language, asked_for(budget)
        inside = choice_from_text(asked.inside)

        def see() -> View:
            return model.see(image, **asked.of_picture, question=question)

        view = see()
        start = model.ask(question, image=view, max_tokens=1, stop=False, inside=inside).prompt_tokens
        steps = min(max_tokens - 1, language.room)

        def decode() -> None:
            language.rewind()
            for position in range(start, start + steps):
                language.step(0, position)

        def prefill() -> None:
            model.forget()
            model.ask(question, image=view, max_tokens=1, stop=False, inside=inside)

        found = [
            EnergyPiece(REQUEST, "request", 1, lambda: self.run(budget, image, question, max_tokens)),
            EnergyPiece(IMAGE, "image", 1, see),
            EnergyPiece(
                SELECT, "image", 1, lambda: model.vision.select(view.selection)
            ),  # no public call selects alone
            EnergyPiece(PREFILL, "request", 1, prefill),
        ]
        return (*found, EnergyPiece(DECODE, "token", steps, decode)) if steps else tuple(found)


def _run(answer: Answer, spans: tuple[Span, ...]) -> Run:
    return Run(spans, answer.visual_tokens, answer.token_ids, answer.prompt_tokens, answer.cached_tokens)


def backend_use(model: Model) -> BackendUse:
    """What runs this model's graphs."""
    backend = created(model.backend)
    if not isinstance(backend, DeviceBackend):
        return BackendUse(model.backend, model.backend_why, "cpu")
    folder, _ = backend.engine_set(model.bundle.root, verify=False)
    digest = hashlib.sha256((folder / ENGINE_MANIFEST).read_bytes()).hexdigest()
    return BackendUse(model.backend, model.backend_why, "gpu", EnginesRef(folder.name, digest))


def budgets_of(
    manifest: Manifest,
    chosen: Sequence[str] = (),
    tiles: Sequence[int] = (),
    methods: Sequence[str] = (),
    inside: Sequence[str] = (),
) -> tuple[BudgetRecord, ...]:
    """The bundle's budgets, or those `chosen` among them, with nobody leaving inside the language model and then as each of `inside` says,
    or as exported; with all tiles and then with each limit of `tiles`. `keep` is None where it depends on the picture. `methods`: instead
    of the bundle's own, which is meant where none is given.

    Raises BudgetError for a budget or a method that the bundle does not hold, PlanError or RequestError for what no cut of it can keep.
    """
    weights_bytes = manifest.files[manifest.weights_file].bytes
    held = sorted({s.method for s in manifest.selections})
    if unknown := sorted(set(methods) - set(held)):
        raise BudgetError(no_method(unknown[0], held))
    budgets = []
    for budget in dict.fromkeys(budget_label(manifest, text) for text in chosen) or held_budgets(manifest):
        here = [s for s in manifest.selections if s.budget == budget]
        found = [s for s in here if (s.own if s.whole or not methods else s.method in methods)]
        for method in dict.fromkeys(s.method for s in found):
            mine = [s for s in found if s.method == method]
            one, kept = mine[0], {s.keep for s in mine}
            keep = kept.pop() if not one.whole and len(kept) == 1 else None
            name = budget if one.own else by_method(budget, method)
            budgets.append(BudgetRecord(name, method, keep, one.keep_ratio, weights_bytes))
    every = [
        msgspec.structs.replace(budget, name=staying(budget.name, leaving))
        for leaving in inside_choices(manifest, inside)
        for budget in budgets
    ]
    limited = [
        msgspec.structs.replace(budget, name=on_tiles(budget.name, most))
        for most in dict.fromkeys(tiles)
        for budget in every
    ]
    return (*every, *limited)


def with_cache_bytes(report: Report, model: Model, positions: dict[str, tuple[int, ...]]) -> Report:
    """Fill in the bytes of the cache rows that each budget writes: the rest of the cache is never touched. positions: of each stage."""
    spec = model.bundle.manifest.language
    width = model.language.cache_bytes / sum(bytes_of(shape, "float32") for shape in spec.cache_shapes)

    def written(stage: StageSpec, used: int) -> int:
        chunk = spec.chunk_of(stage)
        rows = min(stage.capacity, -(-used // chunk) * chunk)
        heads = sum(spec.kv_heads[layer] for layer in range(stage.first, stage.behind))
        return round(width * bytes_of((rows, heads, spec.head_dim), "float32"))

    def filled(result: BudgetResult) -> BudgetResult:
        used = positions[result.budget.name]
        total = sum(written(stage, here) for stage, here in zip(spec.stages, used, strict=True))
        return msgspec.structs.replace(result, budget=msgspec.structs.replace(result.budget, cache_bytes=total))

    return msgspec.structs.replace(report, budgets=tuple(filled(result) for result in report.budgets))
