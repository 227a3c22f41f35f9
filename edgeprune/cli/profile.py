"""edgeprune profile: what each budget of a bundle costs, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.console import Json, emit, err, errors_as_one_line, track

if TYPE_CHECKING:
    from edgeprune_profiles import Budget, Report
    from edgeprune_runtime.meters import MemoryReading


def profile(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder written by `edgeprune export`.")],
    budget: Annotated[
        list[str] | None, typer.Option("--budget", "-b", help="Repeat for several. [default: all of the bundle]")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="Repeat for several. [default: a generated picture]")
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The question asked.")] = "What is in this picture?",
    runs: Annotated[int, typer.Option(min=1, help="Rounds that count; each asks every budget once, shuffled.")] = 10,
    warmup: Annotated[int, typer.Option(min=0, help="Rounds before them that are thrown away.")] = 2,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that every answer has; end tokens are ignored, so that work is equal.")
    ] = 16,
    threads: Annotated[int, typer.Option(min=0, max=256, help="Threads per graph; 0 lets the backend choose.")] = 0,
    backend: Annotated[str, typer.Option(help="auto or onnxruntime.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the order and of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Keep every raw number here, for `edgeprune report`.")] = None,
    accuracy: Annotated[
        Path | None, typer.Option("--eval", help="Result of `edgeprune eval --out`, to be shown beside the times.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure time, memory and energy of BUNDLE under each budget, interleaved, against budget 1.0."""
    with errors_as_one_line():
        from edgeprune_profiles import load_accuracy, save_report, with_accuracy

        evaluation = None if accuracy is None else load_accuracy(accuracy)
        with TemporaryDirectory(prefix="edgeprune-") as scratch:
            report = _measure(
                bundle,
                budget or [],
                image or [],
                prompt,
                runs,
                warmup,
                max_tokens,
                threads,
                backend,
                seed,
                Path(scratch),
            )
        if evaluation is not None:
            report = with_accuracy(report, evaluation)
        if out is not None:
            save_report(report, out)
        if json:
            from edgeprune_profiles.digest import digest

            emit({**digest(report), "report": None if out is None else str(out)})
        else:
            from edgeprune.cli.profile_table import show

            show(report)
        if out is None:
            err.print("[dim]--out report.json keeps the raw numbers, for `edgeprune report`[/]", highlight=False)
        else:
            err.print(f"[dim]{out} written; `edgeprune report {out}` makes a page of it[/]", highlight=False)


def _measure(
    bundle: Path,
    chosen: list[str],
    images: list[Path],
    question: str,
    runs: int,
    warmup: int,
    max_tokens: int,
    threads: int,
    backend: str,
    seed: int,
    scratch: Path,
) -> Report:
    from edgeprune_profiles.measure import Case
    from edgeprune_profiles.measure import profile as measure
    from edgeprune_profiles.memory_apart import Request, measure_apart
    from edgeprune_profiles.picture import write_picture
    from edgeprune_profiles.record import BundleRef
    from edgeprune_profiles.runner import ModelRunner, budgets_of, with_cache_bytes
    from edgeprune_runtime import EdgepruneError, Model
    from edgeprune_runtime.meters import environment

    with Model.open(bundle, backend=backend, threads=threads) as model:
        budgets = budgets_of(model, chosen)
        notes = [
            f"Every answer has {max_tokens} tokens for every budget: end tokens were ignored, so that work is equal.",
            *_without_baseline(budgets, model.budgets),
        ]
        if not images:
            path, note = write_picture(scratch, model.bundle.manifest.preprocess)
            images = [path]
            notes.append(note)

        def apart(budget: Budget) -> MemoryReading | None:
            try:
                return measure_apart(
                    Request(str(bundle), budget.name, str(images[0]), question, max_tokens, threads, model.backend)
                )
            except EdgepruneError as error:  # the times are worth keeping without it
                err.print(f"memory unknown: {error}", style="yellow", markup=False, highlight=False)
                return None

        runner = ModelRunner(model)
        total = len(budgets) * (warmup + runs * len(images) + 1)
        with track("profile", total) as advance:
            report = measure(
                runner,
                budgets,
                [Case(path, question) for path in images],
                bundle=BundleRef(bundle.resolve().name, model.bundle.sha256),
                environment=environment(),
                command=" ".join(["edgeprune", *sys.argv[1:]]),
                repetitions=runs,
                warmup_rounds=warmup,
                max_tokens=max_tokens,
                seed=seed,
                memory_apart=apart,
                threads=threads,
                notes=notes,
                progress=lambda done, total, label: advance() if done else None,
            )
        return with_cache_bytes(report, model, runner.positions)


def _without_baseline(budgets: tuple[Budget, ...], held: tuple[str, ...]) -> list[str]:
    if any(budget.full for budget in budgets):
        return []
    way = "add `--budget 1.0` to the profile" if "1.0" in held else "export the bundle with `--budget 1.0` as well"
    return [f"There is no baseline, so no ratio is given: {way}."]
