"""Answers of every plan to held-out questions, by the exported bundles and the runtime; logged one by one, so that a killed run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from edgeprune.evaluate import METRICS, AnswerLog, Question, Selection, answer_all, pending
from edgeprune_runtime import Model, View
from tools.bench.settings import say
from tools.inside_language.bundles import ReferenceModel, bundle
from tools.inside_language.plans import Cuts, RowPlan

MOST_TOKENS = 8
METRIC = "exact_match"


class PlanAnswerer:
    """Encodes a picture once for all plans of a bundle, and keeps tokens of it once per output cut."""

    def __init__(self, model: Model, reference: ReferenceModel, plans: Sequence[RowPlan]) -> None:
        self._model, self._tokens = model, reference.tokens
        self._plans = {plan.name: plan for plan in plans}
        self._image: Path | None = None
        self._views: dict[tuple[str, str | None], View] = {}

    def answer(self, image: Path, question: str, selection: str) -> str:
        if image != self._image:
            chosen = list(dict.fromkeys((plan.budget, plan.method) for plan in self._plans.values()))
            self._views = dict(zip(chosen, self._model.see_each(image, chosen), strict=True))
            self._image = image
        plan = self._plans[selection]
        view = self._views[plan.budget, plan.method]
        inside = plan.counts(self._tokens) or None
        return self._model.ask(question, image=view, max_tokens=MOST_TOKENS, inside=inside).text


def scores(work: Path, reference: ReferenceModel, data: Path, questions: Sequence[Question]) -> dict[str, str]:
    """Plan -> for each question 1 where the answer is right, else 0, as one string."""
    found: dict[str, str] = {}
    for cuts in reference.cuts:
        found |= _of_bundle(work, reference, cuts, data, questions)
    return {plan.name: found[plan.name] for plan in reference.plans}


def _of_bundle(
    work: Path, reference: ReferenceModel, cuts: Cuts, data: Path, questions: Sequence[Question]
) -> dict[str, str]:
    plans = reference.served(cuts)
    selections = [Selection(plan.name, plan.method or "full", float(plan.budget)) for plan in plans]
    folder = bundle(work, reference, cuts)
    with Model.open(folder, threads=1) as model:
        about = {
            "data": hashlib.sha256(data.read_bytes()).hexdigest(),
            "bundle": model.bundle.sha256,
            "max_tokens": str(MOST_TOKENS),
        }
        with AnswerLog(folder.with_suffix(f".{data.parent.name}.jsonl"), about) as log:
            say(f"{reference.name} {cuts.name}: {pending(questions, selections, log)} answers to come")

            with Progress(console=Console(stderr=True)) as shown:
                bar = shown.add_task(f"{reference.name} {cuts.name}")
                answers = answer_all(
                    questions,
                    selections,
                    PlanAnswerer(model, reference, plans),
                    log,
                    lambda done, total, label: shown.update(bar, completed=done, total=max(total, 1)),
                )
    if failed := [one for one in answers.values() if one.error]:
        raise AssertionError(f"{len(failed)} requests failed, the first with: {failed[0].error}")
    metric = METRICS[METRIC]
    return {
        plan.name: "".join(str(int(metric(answers[q.number, plan.name].answer, q.answers) == 1)) for q in questions)
        for plan in plans
    }
