"""What a plan for a vision-language model costs: its export's own counts for the largest picture, or this machine's seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from edgeprune.errors import PlanError
from edgeprune.models.spec import ModelSpec
from edgeprune.schedules.plan import SchedulePlan
from edgeprune.schedules.target import ScheduleMeasure
from edgeprune.structure import cost
from edgeprune.structure.plan import widths
from edgeprune.tokens.inside.language_fit import require_language_fit
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.plan.of_model import cuts_of_plan, require_cuts
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.registry.fit import method_plan
from edgeprune_export.bundle.options import ExportOptions, capacity, packed_max, selections
from edgeprune_export.bundle.stages import language_spec
from edgeprune_export.pruning.open import TEXT
from edgeprune_export.searching.problem import StepTimes, at_rows
from edgeprune_runtime.spec import LanguageSpec, SelectionSpec, TensorRef
from edgeprune_runtime.stages.counts import stage_rows

#: Stands where a bundle says where its weights lie: counts do not ask.
_NOWHERE = TensorRef("float32", (1,), 0)


@dataclass(frozen=True)
class PlannedExport:
    """What an export of a plan would hold. cuts: of the tower that its own selections read."""

    options: ExportOptions
    chosen: tuple[SelectionSpec, ...]
    language: LanguageSpec
    cuts: TowerCuts | None

    def for_tokens(self, tokens: int) -> SelectionSpec:
        """The selection of a picture of so many visual tokens."""
        return next(one for one in self.chosen if one.tokens in (None, tokens))


def planned_export(plan: SchedulePlan, model: ModelSpec, base: ExportOptions) -> PlannedExport:
    """base: everything that a search does not choose. Raises PlanError for what the model cannot do."""
    assert plan.budget is not None
    asked = msgspec.structs.replace(
        base.plan, inside=plan.inside, budget_of="picture" if plan.by_picture else "largest"
    )
    options = replace(base, budgets=(plan.budget,), plan=asked)
    chosen = selections(options, model.picture)
    require_language_fit(asked, model, chosen, options.pictures)
    require_cuts(chosen, method_plan(asked, model), asked.inside, model, METHODS)
    cuts = cuts_of_plan(asked.inside, model)
    if cuts is not None and plan.budget.is_full:
        raise PlanError("at budget 1.0 the whole tower runs; give a budget to let its cuts act")
    language = language_spec(model, options, chosen, capacity(options, chosen, model), _NOWHERE)
    return PlannedExport(options, chosen, language, cuts)


def layer_rows(planned: PlannedExport, model: ModelSpec) -> list[tuple[int, int, int]]:
    """(rows, layers, positions per run) of each stage, for the largest picture and a usual text."""
    keep = max(one.keep for one in planned.chosen)
    rows = packed_max(model.picture, keep) + TEXT
    found = []
    for here in stage_rows(planned.language, rows, min(keep, model.picture.candidates_max)):
        stage = planned.language.stages[here.number]
        found.append((here.rows, stage.behind - stage.first, planned.language.chunk_of(stage)))
    return found


def price_of_plan(planned: PlannedExport, model: ModelSpec, measure: ScheduleMeasure, times: StepTimes) -> float:
    """MACs of the largest picture and a prompt, bytes of the KV cache, or seconds to the first token."""
    if measure == "cache":
        return float(sum(8 * group * length * width for _, group, length, width in planned.language.cache_shapes))
    rows = layer_rows(planned, model)
    blocks = model.feature_layer + 1
    if measure == "macs":
        language = cost.macs_of_cut_language(
            model.language, [count for count, layers, _ in rows for _ in range(layers)]
        )
        return model.picture.tiles_max * _tower_macs(model, planned.cuts, blocks) + language
    by_block: Sequence[tuple[int, int]] = [
        (model.vision.positions,) * 2 if planned.cuts is None else planned.cuts.rows(block) for block in range(blocks)
    ]
    tower = sum(at_rows(times, "tower", count) / 2 for pair in by_block for count in pair)
    language = sum(layers * -(-count // chunk) * times[f"language:{chunk}"] for count, layers, chunk in rows)
    return model.picture.tiles_max * tower + language


def _tower_macs(model: ModelSpec, cuts: TowerCuts | None, blocks: int) -> float:
    spec = model.vision
    if cuts is None:
        return cost.macs_of_tower(spec).of(widths(spec, blocks))
    return cost.macs_of_cut_tower(spec, [cuts.rows(block) for block in range(blocks)])
