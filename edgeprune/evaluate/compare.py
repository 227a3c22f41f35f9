"""Ask every question under every selection, then compare each with full budget, question by question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Protocol

from edgeprune.evaluate.answers import Answered, AnswerLog
from edgeprune.evaluate.dataset import Question
from edgeprune.evaluate.metrics import METRICS
from edgeprune_runtime.errors import MeasurementError, RequestError
from edgeprune_runtime.statistics import PairedDifference, paired_difference

AnswerProgress = Callable[[int, int, str], None]
"""Answers done, answers in all, what is going on."""


class Answerer(Protocol):
    """Answers one question with the visual tokens that `selection` names."""

    def answer(self, image: Path, question: str, selection: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """One way of choosing visual tokens, under the name that tables have. `keep_ratio` 1.0 drops nothing.

    tiles   most tiles of a picture beside its overview; None: as many as the model takes
    inside  visual rows that stay at the cuts inside the language model; "none": nobody leaves
    """

    name: str
    method: str
    keep_ratio: float
    keep: int | None = None
    tiles: int | None = None
    inside: str = "none"


@dataclass(frozen=True, slots=True)
class MethodRow:
    """Scores in 0..1 by metric; `differences` to full budget, empty for full budget itself.

    errors   questions that got no answer; they score 0
    kinds    score in the headline metric by kind of question
    over     headline score minus that of each other method at the same keep ratio; only for the first method
    """

    name: str
    method: str
    keep_ratio: float
    keep: int | None
    questions: int
    errors: int
    scores: dict[str, float]
    differences: dict[str, PairedDifference]
    kinds: dict[str, float]
    over: dict[str, PairedDifference]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table. `data` is the name of the data file, `headline` the metric to show first, `settings` what decided the answers."""

    data: str
    images: int
    questions: int
    headline: str
    rows: tuple[MethodRow, ...]
    settings: dict[str, str]


def pending(questions: Sequence[Question], selections: Sequence[Selection], log: AnswerLog) -> int:
    """How many answers the log does not hold yet."""
    return sum(log.get(q.number, s.name) is None for q in questions for s in selections)


def answer_all(
    questions: Sequence[Question],
    selections: Sequence[Selection],
    answerer: Answerer,
    log: AnswerLog,
    progress: AnswerProgress = lambda done, total, label: None,
) -> dict[tuple[int, str], Answered]:
    """Every answer by (question number, selection name); only those missing in `log` are asked for.

    A request that fails (RequestError) is recorded and counts as wrong; any other error ends the evaluation.
    """
    names = [selection.name for selection in selections]
    if len(set(names)) != len(names):
        raise MeasurementError(f"two selections have the same name, got {', '.join(names)}; name each once")
    total, done = pending(questions, selections, log), 0
    answers: dict[tuple[int, str], Answered] = {}
    for question, selection in _in_turn(questions, selections):
        answered = log.get(question.number, selection.name)
        if answered is None:
            progress(done, total, f"question {question.number + 1}, {selection.name}")
            answered = _ask(answerer, question, selection)
            log.add(answered)
            done += 1
        answers[question.number, selection.name] = answered
    progress(total, total, "done")
    return answers


def compare(
    questions: Sequence[Question],
    selections: Sequence[Selection],
    answers: Mapping[tuple[int, str], Answered],
    *,
    data: str,
    headline: str | None = None,
    seed: int = 0,
    settings: Mapping[str, str] | None = None,
) -> Comparison:
    """Score all answers and pair each selection with the one of keep ratio 1.0, clustered by picture.

    headline   by default vqa_accuracy when a question has several reference answers, else exact_match
    settings   what else decided the answers, to be kept with them
    Without a selection of keep ratio 1.0 there are no differences. Raises MeasurementError for an unknown metric.
    """
    full = next((s for s in selections if s.keep_ratio == 1.0 and s.inside == "none"), None)
    first = next((selection.method for selection in selections if selection is not full), None)
    several = any(len(question.answers) > 1 for question in questions)
    headline = headline or ("vqa_accuracy" if several else "exact_match")
    METRICS.get(headline)
    scores = {s.name: _scores(questions, s, answers) for s in selections}
    pictures = [question.image for question in questions]
    rows = []
    for selection in selections:
        mine = scores[selection.name]
        differences = {
            name: paired_difference(mine[name], scores[full.name][name], seed=seed, clusters=pictures)
            for name in METRICS
            if full is not None and selection is not full
        }
        alike = (selection.keep_ratio, selection.tiles, selection.inside)
        others = [s for s in selections if (s.keep_ratio, s.tiles, s.inside) == alike and s is not selection]
        over = {
            s.method: paired_difference(mine[headline], scores[s.name][headline], seed=seed, clusters=pictures)
            for s in others
            if selection.method == first
        }
        rows.append(
            MethodRow(
                name=selection.name,
                method=selection.method,
                keep_ratio=selection.keep_ratio,
                keep=selection.keep,
                questions=len(questions),
                errors=sum(answers[q.number, selection.name].error is not None for q in questions),
                scores={name: mean(values) for name, values in mine.items()},
                differences=differences,
                kinds=_by_kind(questions, mine[headline]),
                over=over,
            )
        )
    return Comparison(data, len(set(pictures)), len(questions), headline, tuple(rows), dict(settings or {}))


def _in_turn(questions: Sequence[Question], selections: Sequence[Selection]) -> list[tuple[Question, Selection]]:
    """All questions about one picture together, those to one selection of it one after the other: what the answerer saw, and what lies in
    a model's cache, serves the next.
    """
    groups: dict[Path, list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.image].append(question)
    return [(question, selection) for group in groups.values() for selection in selections for question in group]


def _ask(answerer: Answerer, question: Question, selection: Selection) -> Answered:
    try:
        text = answerer.answer(question.image, question.question, selection.name)
    except RequestError as error:
        return Answered(question.number, selection.name, "", str(error))
    return Answered(question.number, selection.name, text)


def _scores(
    questions: Sequence[Question], selection: Selection, answers: Mapping[tuple[int, str], Answered]
) -> dict[str, list[float]]:
    """Metric -> one score per question."""
    found = [(answers[q.number, selection.name], q.answers) for q in questions]
    return {
        name: [
            0.0 if given.error is not None else METRICS.get(name)(given.answer, expected) for given, expected in found
        ]
        for name in METRICS
    }


def _by_kind(questions: Sequence[Question], values: Sequence[float]) -> dict[str, float]:
    kinds: dict[str, list[float]] = defaultdict(list)
    for question, value in zip(questions, values, strict=True):
        if question.kind is not None:
            kinds[question.kind].append(value)
    return {kind: mean(kinds[kind]) for kind in sorted(kinds)}
