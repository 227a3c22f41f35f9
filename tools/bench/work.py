"""Multiply-accumulates for one prompt, as graphs are counted and by the rows that are there."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune_runtime.spec import GraphWork, Manifest


def language_macs(manifest: Manifest, rows: int, visual: int, inside: Sequence[int]) -> int:
    """Of the first token.

    rows     of the prompt, `visual` of them visual
    inside   visual rows that stay at each cut
    returns  layers by the rows that are in them, unfilled parts of a chunk not counted, attention by the pairs that see each other;
             rank graphs over their whole room; one row of the head
    """
    spec, work = manifest.language, manifest.work
    here, total, left = rows, _all(work[spec.head]), dict(zip(spec.cuts, inside, strict=True))
    for number, stage in enumerate(spec.stages):
        if number in left:
            assert stage.rank is not None
            here = rows - visual + left[number]
            total += _all(work[stage.rank])
        graph = work[stage.prefill]
        per_row = (_all(graph)) / spec.chunk_of(stage)
        total += round(here * per_row + here * (here + 1) / 2 * graph.pair_macs)
    return total


def tower_macs(manifest: Manifest, budget: str | None, method: str | None) -> int:
    """Of all tiles of a picture that fills them, in the tower that a selection looks through."""
    chosen = next(one for one in manifest.selections if (one.budget, one.method) == (budget, method))
    return manifest.picture.tiles_max * _all(manifest.work[chosen.tower])


def _all(graph: GraphWork) -> int:
    return sum(graph.macs.values())
