"""edgeprune export of a plain classifier: one graph in a folder, and what is said about it."""

from __future__ import annotations

from pathlib import Path

from edgeprune.cli.console import emit, out, track
from edgeprune_runtime.spec import InsideSpec, WeightPrecision


def classifier_recipe(path: Path) -> tuple[tuple[InsideSpec, ...], WeightPrecision]:
    """What a recipe says of a classifier. Raises PlanError where it prunes as well: that makes another checkpoint."""
    from edgeprune.errors import PlanError
    from edgeprune.recipe import read_recipe

    recipe = read_recipe(path)
    if recipe.structure is not None:
        raise PlanError(
            f"{path} prunes a classifier's structure, which export does not; run `edgeprune prune MODEL --recipe {path}` and export what it "
            "writes with a recipe without [structure]"
        )
    return recipe.tokens.inside, recipe.export.weights


def show_classifier(
    model: str,
    target: Path,
    plan: tuple[InsideSpec, ...],
    weights: WeightPrecision,
    parity: bool,
    force: bool,
    json: bool,
) -> None:
    from edgeprune.tokens.inside.tower.plan.words import rows_in_words
    from edgeprune_export.commands.export_classifier import export_classifier

    made = export_classifier(model, target, precision=weights, inside=plan, parity=parity, force=force, track=track)
    spec, checks = made.graph, made.parity
    if json:
        emit({"folder": str(target), "graph": spec, "parity": checks, "macs": made.macs, "tokens": made.tokens})
        return
    if plan:
        for line in rows_in_words(made.tokens):
            out.print(line, highlight=False)
        whole, cut = made.macs
        out.print(
            f"{whole / 1e9:.3g} -> {cut / 1e9:.3g} GMACs per picture: {whole / cut:.2f} times fewer", highlight=False
        )
    out.print(f"parity: {len(checks)} checks against transformers passed" if checks else "parity: switched off")
    out.print(
        f"wrote {target / spec.file}: pixels {spec.inputs[0].shape} -> logits {spec.outputs[0].shape}", highlight=False
    )
