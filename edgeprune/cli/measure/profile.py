"""edgeprune profile: what each budget of a bundle costs, side by side."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from edgeprune.cli.choices import Tiles
from edgeprune.cli.console import Json, emit, err, errors_as_one_line
from edgeprune.cli.measure.profiling import ProfileOptions, measured
from edgeprune.cli.open_bundle import BackendOption, Build


def profile(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder written by `edgeprune export`.")],
    budget: Annotated[
        list[str] | None, typer.Option("--budget", "-b", help="Repeat for several. [default: all of the bundle]")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="Repeat for several. [default: a generated picture]")
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The question asked.")] = "What is in this picture?",
    tiles: Tiles = None,
    runs: Annotated[int, typer.Option(min=1, help="Rounds that count; each asks every budget once, shuffled.")] = 10,
    warmup: Annotated[int, typer.Option(min=0, help="Rounds before them that are thrown away.")] = 2,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that every answer has; end tokens are ignored, so that work is equal.")
    ] = 16,
    power: Annotated[
        bool,
        typer.Option(
            "--power",
            help="Joules of a request and of its pieces, each in a power window of its own: more than a minute for each budget. "
            "Without a power sensor they stay unknown.",
        ),
    ] = False,
    sustain: Annotated[
        str | None,
        typer.Option(
            help="Thermal soak: ask the first budget without a pause for so long (10m, 1h; at least 2m) and hold the first minute "
            "against the last."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, max=256, help="Threads per graph; 0 lets the backend choose.")] = 0,
    backend: BackendOption = "auto",
    build: Build = True,
    seed: Annotated[int, typer.Option(help="Seed of the order and of the bootstrap.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Keep every raw number here, for `edgeprune report` and `edgeprune compare`.")
    ] = None,
    accuracy: Annotated[
        Path | None, typer.Option("--eval", help="Result of `edgeprune eval --out`, to be shown beside the times.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure time, memory and energy of BUNDLE under each budget, interleaved, against budget 1.0."""
    with errors_as_one_line():
        from edgeprune_profiles import load_accuracy
        from edgeprune_profiles.record.sustain import soak_seconds

        wish = ProfileOptions(
            bundle=bundle,
            chosen=budget or [],
            images=image or [],
            question=prompt,
            runs=runs,
            warmup=warmup,
            tiles=tiles,
            max_tokens=max_tokens,
            threads=threads,
            backend=backend,
            build=build,
            seed=seed,
            power=power,
            soak_s=None if sustain is None else soak_seconds(sustain),
            accuracy=None if accuracy is None else load_accuracy(accuracy),
            out=out,
        )
        with TemporaryDirectory(prefix="edgeprune-") as scratch:
            report = measured(wish, Path(scratch))
        if json:
            from edgeprune_profiles.report.digest import digest

            emit({**digest(report), "report": None if out is None else str(out)})
        else:
            from edgeprune.cli.measure.profile_table import show

            show(report)
        if out is None:
            err.print("[dim]--out report.json keeps the raw numbers, for `edgeprune report`[/]", highlight=False)
        else:
            err.print(f"[dim]{out} written; `edgeprune report {out}` makes a page of it[/]", highlight=False)
