"""What stages of the language model come to, before anything runs: rows by layer, MACs and caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from edgeprune.models.spec import ModelSpec, Width
from edgeprune.structure.cost import macs_of_cut_language
from edgeprune.tokens.inside.language_fit import require_language_fit
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.bundle.stages import stages
from edgeprune_runtime.spec import SelectionSpec
from edgeprune_runtime.stages.counts import visual_in


class StageCounts(NamedTuple):
    """visual: rows of the picture by layer; macs of a prompt, without what rankings compute; cache_bytes in float32."""

    visual: tuple[int, ...]
    macs: float
    cache_bytes: float


def counts_of_stages(
    model: ModelSpec,
    options: ExportOptions,
    chosen: Sequence[SelectionSpec],
    room: int,
    left: Sequence[Width],
    fixed: int,
    visual: int,
) -> StageCounts:
    """left: widths of the layers that pruning leaves; a prompt of `fixed` rows that stay and so many visual ones.

    Raises PlanError for layers that pruning takes away.
    """
    language = replace(model.language, layers=len(left), widths=tuple(left))
    pruned = replace(model, language=language)
    require_language_fit(options.plan, pruned, chosen, options.pictures)
    made = stages(pruned, options, chosen, room)
    by_stage = zip(made, visual_in(made, visual), strict=True)
    by_layer = [(here, stage.capacity) for stage, here in by_stage for _ in range(stage.first, stage.behind)]
    positions = [8 * capacity * language.head_dim for _, capacity in by_layer]
    return StageCounts(
        tuple(here for here, _ in by_layer),
        macs_of_cut_language(language, [fixed + here for here, _ in by_layer]),
        sum(width.groups * size for width, size in zip(left, positions, strict=True)),
    )
