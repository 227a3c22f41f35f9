"""Multiply-accumulates for one prompt, as graphs are counted and by the rows that are there."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune_runtime.spec import GraphWork, Manifest


def language_macs(manifest: Manifest, rows: int, visual: int, inside: Sequence[int]) -> tuple[int, int]:
    """Of the first token: layers and head, and rankings.

    rows     of the prompt, `visual` of them visual
    inside   visual rows that stay at each cut
    returns  layers by the rows that are in them, unfilled parts of a chunk not counted, attention by the pairs that see each other, and one
             row of the head; rank graphs over their whole room, where the number of rows changes
    """
    spec, work = manifest.language, manifest.work
    there, left = visual, dict(zip(spec.cuts, inside, strict=True))
    layers, ranks = _all(work[spec.head]), 0
    for number, stage in enumerate(spec.stages):
        if left.get(number, there) != there:
            assert stage.rank is not None
            ranks += _all(work[stage.rank])
            there = left[number]
        here, graph = rows - visual + there, work[stage.prefill]
        layers += round(here * _all(graph) / spec.chunk_of(stage) + here * (here + 1) / 2 * graph.pair_macs)
    return layers, ranks


def tower_macs(manifest: Manifest, budget: str | None, method: str | None) -> int:
    """Of all tiles of a picture that fills them, in the tower that a selection looks through."""
    chosen = next(one for one in manifest.selections if (one.budget, one.method) == (budget, method))
    return manifest.picture.tiles_max * _all(manifest.work[chosen.tower])


def _all(graph: GraphWork) -> int:
    return sum(graph.macs.values())
