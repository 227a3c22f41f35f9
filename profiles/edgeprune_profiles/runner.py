"""The real thing to measure: a bundle behind the `Runner` protocol of `measure`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgeprune_profiles.measure import Run
from edgeprune_profiles.record import Budget, BudgetResult, Report
from edgeprune_runtime.model import Model


class ModelRunner:
    """Answers from scratch, past the end token: every budget generates the same number of tokens, so times compare.

    `positions` is the longest sequence per budget so far, prompt and answer together.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.positions: dict[str, int] = {}

    def run(self, budget: str, image: Path, question: str, max_tokens: int) -> Run:
        answer = self._model.ask(question, image=image, budget=budget, max_tokens=max_tokens, stop=False)
        used = answer.prompt_tokens + len(answer.token_ids)
        self.positions[budget] = max(used, self.positions.get(budget, 0))
        return Run(answer.spans, answer.visual_tokens, answer.token_ids)


def budgets_of(model: Model, chosen: Sequence[str] = ()) -> tuple[Budget, ...]:
    """The bundle's budgets, or those `chosen` among them. `keep` is None where it depends on the picture.

    Raises BudgetError for one that the bundle does not hold.
    """
    manifest = model.bundle.manifest
    weights_bytes = manifest.files[manifest.weights_file].bytes
    budgets = []
    for name in dict.fromkeys(model.budget_label(text) for text in chosen) or model.budgets:
        method = model.methods(name)[0]
        kept = {s.keep for s in manifest.selections if (s.budget, s.method) == (name, method)}
        keep = kept.pop() if method != "full" and len(kept) == 1 else None
        value = float(name)
        ratio = value if value <= 1 else value / manifest.preprocess.candidates_max
        budgets.append(Budget(name, method, keep, ratio, weights_bytes))
    return tuple(budgets)


def with_cache_bytes(report: Report, model: Model, positions: dict[str, int]) -> Report:
    """Fill in the bytes of the cache rows that each budget writes: the rest of the cache is never touched."""
    spec = model.bundle.manifest.language
    row = model.language.cache_bytes // spec.capacity

    def filled(result: BudgetResult) -> BudgetResult:
        rows = min(spec.capacity, -(-positions[result.budget.name] // spec.chunk) * spec.chunk)
        return msgspec.structs.replace(result, budget=msgspec.structs.replace(result.budget, cache_bytes=rows * row))

    return msgspec.structs.replace(report, budgets=tuple(filled(result) for result in report.budgets))
