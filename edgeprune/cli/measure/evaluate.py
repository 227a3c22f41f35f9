"""edgeprune eval: do answers stay right when tokens are dropped?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgeprune.cli.console import Json, activity, emit, errors_as_one_line, note, track
from edgeprune.cli.open_bundle import BackendOption, Build, look_at, open_model
from edgeprune.cli.options import (
    BundleFolder,
    Force,
    MaxTokens,
    Seed,
    SkipEqual,
    Threads,
    budget_option,
    inside_option,
    method_option,
    out_option,
    positions_option,
    separators_option,
    tiles_option,
)
from edgeprune_runtime.spec import Positions, Separators

if TYPE_CHECKING:
    from edgeprune.evaluate import Comparison, Question
    from edgeprune.evaluate.compare import Selection
    from edgeprune_runtime import Model

_LONG = 500  # answers from which on losing them would hurt


MetricName = Literal["exact_match", "vqa_accuracy", "anls"]  # scores that the tables can lead with


def evaluate(
    bundle: BundleFolder,
    data: Annotated[
        Path, typer.Option(help='Questions, one JSON object per line: {"image", "question", "answers", "kind"}.')
    ],
    budget: Annotated[list[str] | None, budget_option("all of the bundle")] = None,
    method: Annotated[list[str] | None, method_option("all of the bundle, at the same K", several=True)] = None,
    tiles: Annotated[
        list[int] | None, tiles_option("all that a picture has; others are scored beside", several=True)
    ] = None,
    inside: Annotated[list[str] | None, inside_option("none, and as exported", several="KEEP")] = None,
    skip_equal: SkipEqual = None,
    limit: Annotated[int | None, typer.Option("--limit-questions", min=1, help="Only the first N questions.")] = None,
    metric: Annotated[
        MetricName | None,
        typer.Option(
            help="To lead with.", show_default="vqa_accuracy with several references per question, else exact_match"
        ),
    ] = None,
    max_tokens: MaxTokens = 16,
    positions: Annotated[Positions | None, positions_option("the bundle's own")] = None,
    separators: Annotated[Separators | None, separators_option("the bundle's own")] = None,
    threads: Threads = 0,
    backend: BackendOption = "auto",
    build: Build = True,
    seed: Seed = 0,
    out: Annotated[Path | None, out_option()] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Log of every answer; give it again to go on after an interruption.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Score answers of BUNDLE under each budget and method against budget 1.0, question by question.

    --out keeps the result, for `edgeprune report --eval`.
    """
    with errors_as_one_line(), activity("opening the bundle"):
        from edgeprune.evaluate import load_questions
        from edgeprune.evaluate.answerer import selections_of
        from edgeprune_runtime.claims import claimed, require_new
        from edgeprune_runtime.files import write_json
        from edgeprune_runtime.installed import command

        require_new(out, force=force)
        questions = load_questions(data)[:limit]
        selections = selections_of(look_at(bundle, backend), budget or [], method or [], tiles or [], inside or [])
        with (
            claimed(out),
            claimed(answers),
            open_model(bundle, backend, threads=threads, build=build) as model,
        ):
            plan = model.bundle.manifest.plan
            positions, separators = positions or plan.positions, separators or plan.separators
            model.set_policies(positions=positions, separators=separators)
            settings = {
                "bundle": model.bundle.sha256,
                "precision": model.bundle.manifest.precision,
                "backend": model.backend,
                "positions": positions,
                "separators": separators,
                "max_tokens": str(max_tokens),
            } | ({} if skip_equal is None else {"skip_equal": f"{skip_equal:g}"})
            comparison = _compare(
                model,
                data,
                questions,
                selections,
                max_tokens,
                metric,
                settings,
                answers,
                seed,
                skip_equal,
            )
        if out is not None:
            write_json(out, comparison)
            note(f"{out} written; `{command('edgeprune', 'report', 'REPORT.JSON', '--eval', out)}` shows it")
        if json:
            emit(comparison)
        else:
            from edgeprune.cli.measure.evaluate_table import show

            show(comparison)


def _compare(
    model: Model,
    data: Path,
    questions: tuple[Question, ...],
    selections: tuple[Selection, ...],
    max_tokens: int,
    metric: MetricName | None,
    settings: dict[str, str],
    log_path: Path | None,
    seed: int,
    skip_equal: float | None,
) -> Comparison:
    from edgeprune.evaluate import AnswerLog, answer_all, compare, pending
    from edgeprune.evaluate.answerer import ModelAnswerer

    about = {"data": hashlib.sha256(data.read_bytes()).hexdigest(), **settings}
    with (
        TemporaryDirectory(prefix="edgeprune-") as scratch,
        AnswerLog(log_path or Path(scratch) / "answers.jsonl", about) as log,
    ):
        total = pending(questions, selections, log)
        if log_path is None and total > _LONG:
            note(f"{total} answers; with --answers FILE this can be interrupted and resumed")
        answerer = ModelAnswerer(model, selections, max_tokens, skip_equal)
        with track("answers", total) as advance:
            found = answer_all(
                questions, selections, answerer, log, lambda done, total, label: advance() if done else None
            )
    return compare(
        questions,
        selections,
        found,
        data=data.name,
        headline=metric,
        seed=seed,
        settings=settings,
    )
