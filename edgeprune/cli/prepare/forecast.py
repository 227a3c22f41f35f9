"""edgeprune forecast: what a recipe will come to, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, remark, say, track
from edgeprune.cli.extras import need_export
from edgeprune.cli.options import recipe_option
from edgeprune.cli.tables import Column, show_table


def forecast(
    model: Annotated[
        str, typer.Argument(help="Folder or hub id of a vision-language checkpoint, or a ViT classifier.")
    ],
    recipe: Annotated[Path, recipe_option()],
    time: Annotated[
        bool, typer.Option(help="Predict seconds from blocks timed on this machine (some seconds).")
    ] = True,
    json: Json = False,
) -> None:
    """Print parameters, MACs, weights, cache and predicted time per stage, as MODEL is and as the recipe leaves it."""
    with errors_as_one_line():
        need_export("torch", "onnx", "onnx_ir")
        from edgeprune.models import open_checkpoint, open_classifier
        from edgeprune.models.source import is_classifier
        from edgeprune.recipe import read_recipe
        from edgeprune.tokens.inside.bars import layers_in_words
        from edgeprune.tokens.inside.tower.plan.words import rows_in_words
        from edgeprune_export.commands.predict import forecast_of_checkpoint, forecast_of_classifier
        from edgeprune_export.commands.recipes import export_options, requests_of
        from edgeprune_profiles.report.busy import disturbed
        from edgeprune_runtime.meters import look, machine_use, use_while_resting

        read = read_recipe(recipe)
        requests = requests_of(read.structure) if read.structure else {}
        before = use_while_resting() if time else None
        first = look()
        if is_classifier(model):
            precision = read.export.weights
            found = forecast_of_classifier(
                open_classifier(model), precision, requests, read.tokens.inside, timed=time, track=track
            )
        else:
            found = forecast_of_checkpoint(
                open_checkpoint(model, tiles=read.export.tiles, sizes=read.export.grids, tokens=read.export.tokens),
                export_options(read),
                requests,
                timed=time,
                track=track,
                tell=remark,
            )
        during = machine_use([first, look()]) if time else None
        if json:
            emit({"forecast": found, "recipe": read, "use_before": before, "use_during": during})
            return
        sizes = {one.part: one for one in found}
        show_table(
            f"{model}: now -> as planned",
            [
                Column("part", left=True),
                Column("parameters (M)"),
                Column("weights (MiB)"),
                Column("KV cache (MiB)"),
            ],
            [
                (part, _arrow(one.params, 1e6), _arrow(one.weight_bytes, 2**20), _arrow(one.cache_bytes, 2**20))
                for part, one in sizes.items()
            ],
        )
        show_table(
            "per picture of the largest grid",
            [
                Column("budget", left=True),
                Column("K", rank=2),
                Column("positions", rank=1),
                Column("part", left=True),
                Column("GMACs"),
                Column("seconds (predicted)"),
            ],
            [
                (
                    one.budget or "-",
                    "-" if one.keep is None else str(one.keep),
                    str(one.positions),
                    one.part,
                    _arrow(one.macs, 1e9),
                    "-" if one.seconds is None else _arrow(one.seconds, 1),
                )
                for one in found
            ],
        )
        cut = next((one.rows for one in found if one.rows), ())
        for line in rows_in_words(cut) if cut else []:
            say(line)
        for one in found:
            if one.visual:
                title, *lines = layers_in_words(one.visual)
                say(f"{title}, budget {one.budget}: {_kept(one.visual, one.keep)}")
                for line in lines:
                    say(line)
        if any(one.part == "language" for one in found):
            say("language model: prompt and 32 tokens of answer")
        if sentence := disturbed(before, during, "the timing"):
            say(f"{sentence} Do not rely on the seconds; forecast again when it is quiet.", style="yellow")
        say("widths are spread evenly over layers here, where calibration will decide")


def _kept(visual: Sequence[int], keep: int | None) -> str:
    """Of what the budget lets in, the mean over layers."""
    mean = sum(visual) / len(visual)
    return f"{mean:.4g} on average of {keep}" if keep else f"{mean:.4g} on average"


def _arrow(pair: tuple[float, float], unit: float) -> str:
    now, planned = (value / unit for value in pair)
    return f"{now:.3g}" if now == planned else f"{now:.3g} -> {planned:.3g} ({planned / now:.2f})"
