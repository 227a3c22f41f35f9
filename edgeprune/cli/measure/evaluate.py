"""edgeprune eval: do answers stay right when tokens are dropped?"""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.choices import Tiles
from edgeprune.cli.console import Json, emit, err, errors_as_one_line, track
from edgeprune.cli.open_bundle import BackendOption, Build, open_model
from edgeprune_runtime.spec import Positions, Separators

if TYPE_CHECKING:
    from edgeprune.evaluate import Comparison, Question
    from edgeprune_runtime import Model

_LONG = 500  # answers from which on losing them would hurt


class MetricName(str, Enum):
    """Scores that the tables can lead with."""

    exact_match = "exact_match"
    vqa_accuracy = "vqa_accuracy"
    anls = "anls"


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder written by `edgeprune export`.")],
    data: Annotated[
        Path, typer.Option(help='Questions, one JSON object per line: {"image", "question", "answers", "kind"}.')
    ],
    budget: Annotated[
        list[str] | None, typer.Option("--budget", "-b", help="Repeat for several. [default: all of the bundle]")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Repeat for several. [default: the bundle's own and its controls, at the same K]"),
    ] = None,
    tiles: Tiles = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N questions.")] = None,
    metric: Annotated[
        MetricName | None,
        typer.Option(
            help="To lead with. [default: vqa_accuracy with several references per question, else exact_match]"
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 16,
    positions: Annotated[
        Positions | None, typer.Option(help="Instead of the bundle's own policy, to compare them.")
    ] = None,
    separators: Annotated[Separators | None, typer.Option(help="Instead of the bundle's own policy.")] = None,
    threads: Annotated[int, typer.Option(min=0, max=256, help="Threads per graph; 0 lets the backend choose.")] = 0,
    backend: BackendOption = "auto",
    build: Build = True,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Keep the result here, for `edgeprune report --eval`.")] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Log of every answer; give it again to go on after an interruption.")
    ] = None,
    json: Json = False,
) -> None:
    """Score answers of BUNDLE under each budget and method against budget 1.0, question by question."""
    with errors_as_one_line():
        from edgeprune.evaluate import load_questions
        from edgeprune_runtime.files import write_json

        questions = load_questions(data)[:limit]
        with open_model(bundle, backend, threads=threads, build=build) as model:
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
                **({} if tiles is None else {"tiles": str(tiles)}),
            }
            comparison = _compare(
                model, data, questions, budget or [], method or [], tiles, max_tokens, metric, settings, answers, seed
            )
        if out is not None:
            write_json(out, comparison)
            err.print(f"[dim]{out} written; `edgeprune report REPORT.JSON --eval {out}` shows it[/]", highlight=False)
        if json:
            emit(comparison)
        else:
            from edgeprune.cli.measure.evaluate_table import show

            show(comparison)


def _compare(
    model: Model,
    data: Path,
    questions: tuple[Question, ...],
    budgets: list[str],
    methods: list[str],
    tiles: int | None,
    max_tokens: int,
    metric: MetricName | None,
    settings: dict[str, str],
    log_path: Path | None,
    seed: int,
) -> Comparison:
    from edgeprune.evaluate import AnswerLog, answer_all, compare, pending
    from edgeprune.evaluate.answerer import ModelAnswerer, selections_of

    selections = selections_of(model, budgets, methods)
    about = {"data": hashlib.sha256(data.read_bytes()).hexdigest(), **settings}
    with (
        TemporaryDirectory(prefix="edgeprune-") as scratch,
        AnswerLog(log_path or Path(scratch) / "answers.jsonl", about) as log,
    ):
        total = pending(questions, selections, log)
        if log_path is None and total > _LONG:
            err.print(f"[dim]{total} answers; with --answers FILE this can be interrupted and resumed[/]")
        answerer = ModelAnswerer(model, selections, max_tokens, tiles)
        with track("answers", total) as advance:
            found = answer_all(
                questions, selections, answerer, log, lambda done, total, label: advance() if done else None
            )
    return compare(
        questions,
        selections,
        found,
        data=data.name,
        headline=metric.value if metric else None,
        seed=seed,
        settings=settings,
    )
