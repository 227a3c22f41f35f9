"""Multiply-accumulates for one prompt, as graphs are counted and by the rows that are there."""

from __future__ import annotations

from edgeprune_runtime.spec import GraphWork, Manifest
from edgeprune_runtime.stages.counts import InsideChoice, visual_by_stage


def language_macs(manifest: Manifest, rows: int, visual: int, inside: InsideChoice) -> tuple[int, int]:
    """Of the first token: layers and head, and rankings.

    rows     of the prompt, `visual` of them visual
    inside   what stays at the cuts
    returns  layers by the rows that are in them, unfilled parts of a chunk not counted, attention by the pairs that see each other, and one
             row of the head; rank graphs over their whole room, where the number of rows changes
    """
    spec, work = manifest.language, manifest.work
    layers, ranks, before = _all(work[spec.head]), 0, visual
    for stage, there in zip(spec.stages, visual_by_stage(spec, visual, inside), strict=True):
        if stage.rank is not None and there != before:
            ranks += _all(work[stage.rank])
        here, graph, before = rows - visual + there, work[stage.prefill], there
        layers += round(here * _all(graph) / spec.chunk_of(stage) + here * (here + 1) / 2 * graph.pair_macs)
    return layers, ranks


def tower_macs(manifest: Manifest, budget: str | None, method: str | None) -> int:
    """Of all tiles of a picture that fills them, in the tower that a selection looks through."""
    chosen = next(one for one in manifest.selections if (one.budget, one.method) == (budget, method))
    return manifest.picture.tiles_max * _all(manifest.work[chosen.tower])


def _all(graph: GraphWork) -> int:
    return sum(graph.macs.values())
