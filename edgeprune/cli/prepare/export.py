"""edgeprune export: a checkpoint becomes a sealed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.choices import Precision, Tiles, alone
from edgeprune.cli.console import Json, command_line, emit, err, errors_as_one_line, out, track
from edgeprune_runtime.spec import BudgetBase, Positions, Separators, TokenPlan

if TYPE_CHECKING:
    from edgeprune_runtime.bundle import Bundle


def export(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder (Hugging Face layout) or hub id of a vision-language model; or a ViT classifier, without a budget."
        ),
    ],
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            "-b",
            help="Keep ratio (0.2) or token count (576); repeat for several, the first is the default.",
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            help="The largest budget that meets a target on a board, projected, as the first budget: device=orin-nano-8gb,ttft=1s "
            "(and tokens-per-s=10)."
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe", help="Token plan, structured pruning and precision from a TOML file; see `edgeprune plan`."
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", "-o", help="Bundle folder to write. [default: MODEL's name + .bundle]")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="Token-reduction method (see `edgeprune methods`) or file.py:NAME; repeat for several, the first is the default. "
            "[default: hired]",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the method, as NAME=NUMBER; `edgeprune methods NAME` lists them."),
    ] = None,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", help="Method and settings from `edgeprune calibrate`.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="int8: dynamic, for tower and language model; measure its quality.")
    ] = Precision.fp32,
    positions: Annotated[
        Positions, typer.Option(help="Positions of kept tokens: as in the whole picture, or contiguous.")
    ] = "keep",
    separators: Annotated[
        Separators,
        typer.Option(
            help="Separators (newlines of mosaic rows) below budget 1.0: all, of rows with a kept token, none."
        ),
    ] = "all",
    budget_of: Annotated[
        BudgetBase,
        typer.Option(
            help="A ratio counts from the largest tile grid (one K for all pictures) or from each picture's own."
        ),
    ] = "largest",
    chunk: Annotated[int, typer.Option(min=1, help="Positions per run of the prefill graph.")] = 128,
    capacity: Annotated[
        int | None, typer.Option(help="Positions of the KV cache. [default: the largest prompt + --text-tokens]")
    ] = None,
    text_tokens: Annotated[
        int, typer.Option(min=1, help="Room for question and answer when --capacity is not given.")
    ] = 512,
    tiles: Tiles = None,
    family: Annotated[
        str | None,
        typer.Option(help="How to read MODEL: a family's name, or file.py:NAME. [default: what its config.json says]"),
    ] = None,
    controls: Annotated[
        bool, typer.Option(help="Include random, uniform and downsample at the same K (a few hundred KB), for eval.")
    ] = True,
    parity: Annotated[
        bool, typer.Option(help="Hold the graphs against transformers before sealing; switching it off is recorded.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing bundle.")] = False,
    json: Json = False,
) -> None:
    """Export MODEL to a sealed bundle of static-shape ONNX graphs under one or more token budgets."""
    with errors_as_one_line():
        need("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "accelerate")
        from edgeprune.plan import budget_from_text, settings_from_text

        target = to or Path(f"{Path(model).name}.bundle")
        command = command_line()
        budgets = tuple(budget_from_text(text) for text in budget or [])
        from edgeprune_export.pruning.open import is_classifier

        if is_classifier(model):
            alone(context, "classifier", besides=("model", "to", "precision", "parity", "force", "json"))
            _classifier(model, to or Path(f"{Path(model).name}-onnx"), precision, parity, force, json)
            return
        if recipe is not None:
            alone(context, "recipe", besides=("model", "budget", "to", "parity", "force", "json"))
            from edgeprune.recipe import read_recipe
            from edgeprune_export.commands.recipes import export_options, export_recipe

            read = read_recipe(recipe)
            chosen = export_options(read, budgets=budgets, parity=parity, force=force, command=command)
            _show(export_recipe(model, target, read, recipe.parent, chosen, track=track), target, json)
            return
        from edgeprune.models.families import FAMILIES

        kind = None if family is None else FAMILIES.choose(family)
        if fit is not None:
            from edgeprune.cli.prepare.export_fit import fitted_budget

            budgets = tuple(dict.fromkeys((fitted_budget(model, fit, precision.value, chunk, tiles, kind), *budgets)))
        if not budgets:
            raise typer.BadParameter("give at least one --budget, a --fit, or a --recipe")
        from edgeprune.plan_file import read_plan
        from edgeprune.tokens.methods import METHODS
        from edgeprune_export.bundle.options import ExportOptions
        from edgeprune_export.commands.export import export as make

        stored = None if plan_file is None else read_plan(plan_file)
        names = [METHODS.choose(text).name for text in method or ([stored.method] if stored else ["hired"])]
        settings = {**(stored.settings if stored else {}), **settings_from_text(set_ or [])}
        plan = TokenPlan(names[0], settings, positions, separators, budget_of)
        options = ExportOptions(
            budgets=budgets,
            plan=plan,
            more_methods=tuple(names[1:]),
            precision=precision.value,
            chunk=chunk,
            capacity=capacity,
            text_tokens=text_tokens,
            tiles=tiles,
            family=kind,
            controls=controls,
            parity=parity,
            force=force,
            command=command,
        )
        _show(make(model, target, options, track=track), target, json)


def _classifier(model: str, target: Path, precision: Precision, parity: bool, force: bool, json: bool) -> None:
    from edgeprune_export.commands.export_classifier import export_classifier

    spec, checks = export_classifier(model, target, precision=precision.value, parity=parity, force=force, track=track)
    if json:
        emit({"folder": str(target), "graph": spec, "parity": checks})
        return
    out.print(f"parity: {len(checks)} checks against transformers passed" if checks else "parity: switched off")
    out.print(
        f"wrote {target / spec.file}: pixels {spec.inputs[0].shape} -> logits {spec.outputs[0].shape}", highlight=False
    )


def _show(bundle: Bundle, target: Path, json: bool) -> None:
    manifest = bundle.manifest
    total = sum(entry.bytes for entry in manifest.files.values())
    if json:
        emit(
            {
                "bundle": str(target),
                "sha256": bundle.sha256,
                "bytes": total,
                "selections": manifest.selections,
                "parity": manifest.parity,
            }
        )
        return
    for text in dict.fromkeys(s.budget for s in manifest.selections):
        counts = sorted({s.keep for s in manifest.selections if s.budget == text})
        out.print(f"budget {text}: {' or '.join(str(k) for k in counts)} visual tokens")
    if manifest.parity.skipped:
        err.print(f"[yellow]warning:[/] the parity gate did not run: {manifest.parity.skipped}")
    else:
        out.print(f"parity: {len(manifest.parity.checks)} checks against {manifest.parity.reference} passed")
    out.print(f"sealed {target}  ({total / 1e6:.1f} MB, {len(manifest.graphs)} graphs)")
    out.print(f'try: edgeprune run {target} --image photo.jpg --prompt "What is this?"', highlight=False)


def need(*packages: str) -> None:
    """Raise MissingExtra for packages of the `export` extra that are not installed."""
    from importlib.util import find_spec

    from edgeprune_runtime.errors import MissingExtra

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"export needs {', '.join(missing)}, not installed here; install with `pip install edgeprune[export]`"
        )
