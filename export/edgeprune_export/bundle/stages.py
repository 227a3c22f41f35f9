"""Stages of the language model: where rows leave it, how many positions each has room for, and how many run at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from edgeprune.models.spec import ModelSpec
from edgeprune.tokens.inside.plan import planned_inside
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_runtime.spec import SelectionSpec, StageSpec
from edgeprune_runtime.stages.recycled import recycled

#: Positions per run of a stage that few rows reach: its last, partly filled run is what a short stage costs.
_SHORT_CHUNK = 64


def stages(
    model: ModelSpec, options: ExportOptions, chosen: Sequence[SelectionSpec], room: int
) -> tuple[StageSpec, ...]:
    """All layers over one list of rows, or a stage from each layer on before which rows leave. room: positions of the first."""
    found = planned_inside(options.plan, "language")
    if found is None:
        return (StageSpec(0, model.language.layers, room),)
    spec = found.spec
    recycles = isinstance(found.method, LanguageCut) and found.method.recycles(spec.settings)
    returns = isinstance(found.method, LanguageCut) and found.method.returns
    layers, keeps = (spec.layers[1:], spec.keep) if returns else (spec.layers, (1.0, *spec.keep))
    edges = pairwise((0, *layers, model.language.layers))
    chunk = options.stage_chunk or min(options.chunk, _SHORT_CHUNK)
    largest = options.pictures * max(s.keep for s in chosen)
    made = []
    for number, (first, behind) in enumerate(edges):
        names = f"prefill-{number}", f"decode-{number}"
        keep = keeps[number]
        if number == 0 or (returns and number == 1):
            made.append(StageSpec(first, behind, room, *names, keep=float(keep), returns=number > 0))
            continue
        rank = f"rank-{number}-{spec.method}"
        stay = StageSpec(0, 1, 1, keep=keep).stay(largest)
        stay += recycled(largest - stay) if recycles else 0
        wanted = room - (largest - stay if options.stage_room == "kept" else 0)
        made.append(
            StageSpec(first, behind, -(-wanted // chunk) * chunk, *names, chunk, rank, float(keep), recycles=recycles)
        )
    return tuple(made)
