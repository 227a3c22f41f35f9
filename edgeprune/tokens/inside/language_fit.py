"""Whether rows can leave the language model as planned, said before any work is done."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.errors import PlanError
from edgeprune.models.spec import ModelSpec
from edgeprune.tokens.inside.plan import planned_inside
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune.tokens.methods import METHODS
from edgeprune_runtime.spec import InsideSpec, SelectionSpec, StageSpec, TokenPlan


def language_cut(plan: TokenPlan) -> LanguageCut | None:
    """The method that works inside the language model, if any does. Raises PlanError for one that says so and is none."""
    found = planned_inside(plan, "language")
    if found is None:
        return None
    if not isinstance(found.method, LanguageCut):
        raise PlanError(f"{found.spec.method} says that it works inside the language model, and is no LanguageCut")
    return found.method


def require_language_fit(plan: TokenPlan, model: ModelSpec, chosen: Sequence[SelectionSpec], pictures: int) -> None:
    """Raise PlanError for layers outside the model, counts that nobody reaches, or a method that needs what is not there.

    chosen: selections of the bundle; pictures: most of a prompt.
    """
    found, cut = planned_inside(plan, "language"), language_cut(plan)
    if found is None or cut is None:
        return
    spec, layers = found.spec, model.language.layers
    if cut.returns:
        _require_returning(spec, model)
    for layer in spec.layers:
        if not (0 if cut.returns else 1) <= layer < layers:
            before = "; before layer 0 a --budget chooses" if layer == 0 else ""
            raise PlanError(
                f"{spec.method} would let rows leave before layer {layer} of the language model, which has layers 0 to {layers - 1}; give "
                f"layers from 1 to {layers - 1}{before}"
            )
    largest = pictures * max(s.keep for s in chosen)
    counts = [StageSpec(0, 1, 1, keep=keep).stay(largest) for keep in spec.keep]
    arriving = (largest, *counts)
    for number, layer in enumerate(spec.layers):
        keep, count, there = spec.keep[number], counts[number], arriving[number]
        if keep > 1 and keep >= largest:
            raise PlanError(
                f"{spec.method} keeps {keep:g} rows before layer {layer}, and at most {largest} visual rows enter the language model; keep "
                "fewer, or a share"
            )
        if count > there and not cut.returns:
            raise PlanError(
                f"{spec.method} keeps {count} rows before layer {layer}, and only {there} arrive there; keep fewer at later layers"
            )
        if cut.nobody and count:
            raise PlanError(
                f"{spec.method} lets all visual rows leave; write {spec.method}@{layer}:0, or choose another method to keep some"
            )
        if cut.forced is not None and count < (least := cut.forced(largest, spec.settings)):
            raise PlanError(
                f"{spec.method} always keeps up to {least} of {largest} visual rows, more than the {count} before layer {layer}; keep more"
            )
    if "salience" in cut.reads and (own := [s.method for s in chosen if METHODS[s.method].own_cuts]):
        raise PlanError(
            f"{spec.method} reads the encoder's score of every token, which the tower of {own[0]} does not give; choose another --method"
        )


def _require_returning(spec: InsideSpec, model: ModelSpec) -> None:
    """Raise PlanError where rows cannot leave before layer 0 and come back as the plan says."""
    if len(spec.layers) != 3 or spec.layers[0] != 0 or spec.keep[1] != 1:
        raise PlanError(
            f"{spec.method} has three layers, of which the first is 0, and keeps 1 at the second, where all rows are back; write it as in "
            f"{spec.method}@0,4,16:0.25,1,0.1"
        )
    if model.deepstack:
        raise PlanError(
            f"{spec.method} brings rows back that have missed what enters behind the first layers of {model.family}; choose another --inside"
        )
