"""edgeprune profile: what each budget of a bundle costs, side by side."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from edgeprune.cli.console import Json, activity, command_line, emit, errors_as_one_line, note, warn
from edgeprune.cli.open_bundle import BackendOption, Build, look_at, open_model
from edgeprune.cli.options import (
    AccuracyFile,
    BundleFolder,
    Force,
    MaxTokens,
    PictureSize,
    Seed,
    Threads,
    budget_option,
    image_option,
    inside_option,
    method_option,
    out_option,
    prompt_option,
    tiles_option,
)


def profile(
    bundle: BundleFolder,
    budget: Annotated[list[str] | None, budget_option("all of the bundle")] = None,
    method: Annotated[list[str] | None, method_option("the bundle's own", several=True)] = None,
    image: Annotated[list[Path] | None, image_option("a generated picture")] = None,
    size: PictureSize = None,
    prompt: Annotated[str, prompt_option()] = "What is in this picture?",
    second_prompt: Annotated[
        str, typer.Option(help="Another question, asked of the same picture after each request and timed apart.")
    ] = "What else is in it?",
    tiles: Annotated[
        list[int] | None, tiles_option("all that a picture has; others are measured beside", several=True)
    ] = None,
    inside: Annotated[list[str] | None, inside_option("none, and as exported", several="KEEP")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Rounds that count; each asks every budget once, shuffled.")] = 10,
    warmup: Annotated[int, typer.Option(min=0, help="Rounds before them that are thrown away.")] = 2,
    max_tokens: MaxTokens = 16,
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
    threads: Threads = 0,
    backend: BackendOption = "auto",
    build: Build = True,
    seed: Seed = 0,
    out: Annotated[Path | None, out_option()] = None,
    accuracy: AccuracyFile = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure time, memory and energy of BUNDLE under each budget, interleaved, against budget 1.0.

    Every answer has --max-tokens tokens: end tokens are ignored, so that work is equal. --out keeps every raw number, for `edgeprune report`
    and `edgeprune compare`.
    """
    with errors_as_one_line():
        from edgeprune_profiles import load_accuracy
        from edgeprune_profiles.measure.runner import budgets_of
        from edgeprune_profiles.measure.session import Observer, ProfileOptions, profile_model
        from edgeprune_profiles.record.quantities import size_px
        from edgeprune_profiles.record.sustain import soak_seconds
        from edgeprune_runtime.claims import claimed, require_new
        from edgeprune_runtime.installed import command
        from edgeprune_runtime.pictures.load import require_picture

        require_new(out, force=force)
        options = ProfileOptions(
            budgets=tuple(budget or ()),
            methods=tuple(method or ()),
            tiles=tuple(tiles or ()),
            inside=tuple(inside or ()),
            images=tuple(image or ()),
            size=None if size is None else size_px(size, "--size"),
            question=prompt,
            second=second_prompt,
            runs=runs,
            warmup=warmup,
            max_tokens=max_tokens,
            threads=threads,
            seed=seed,
            power=power,
            soak_s=None if sustain is None else soak_seconds(sustain),
            accuracy=None if accuracy is None else load_accuracy(accuracy),
            out=out,
            command=command_line(),
        )
        budgets_of(look_at(bundle, backend), options.budgets, options.tiles, options.methods, options.inside)
        for path in options.images:
            require_picture(path)
        with (
            activity("opening the bundle", per_second=1) as going,  # drawing it must not disturb what is timed
            claimed(out),
            TemporaryDirectory(prefix="edgeprune-") as scratch,
            open_model(bundle, backend, threads=threads, build=build) as model,
        ):

            def noted(text: str) -> None:
                note(text)
                going.phase(text)

            report = profile_model(model, options, Path(scratch), Observer(going.told, noted, warn))
        if json:
            from edgeprune_profiles.report.digest import digest

            emit({**digest(report), "report": None if out is None else str(out)})
        else:
            from edgeprune.cli.measure.profile_table import show

            show(report)
        if out is None:
            note("--out report.json keeps the raw numbers, for `edgeprune report`")
        else:
            note(f"{out} written; `{command('edgeprune', 'report', out)}` makes a page of it")
