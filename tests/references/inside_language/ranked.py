"""Prompts that a decoder runs with rankings of its own: each cut reads the layers before it, lists are then frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .decoder import Decoder, Reading, Stage, whole_pass
from .early_lists import representatives
from .last_row import fastv
from .rows import Array, going_on, kept

Choose = Callable[[list[Reading], list[int]], list[int]]
Merge = Callable[[list[Reading], list[int]], dict[int, dict[int, float]]]


@dataclass(frozen=True, eq=False)
class Cut:
    """Before layer `before`, `choose(readings, visual)` names the visual rows that stay as they are.

    `merge`, of the same arguments, names further rows that stay with a weighted sum in them: row -> row -> weight.

    `readings` are those of layers 0..before - 1 of the prompt alone; `visual` are rows of the canvas that arrive. A reading
    counts by places: `place_of` turns rows into places, and what a ranking says of places is turned back by `rows`.
    """

    before: int
    choose: Choose
    merge: Merge | None = None


def places_of(reading: Reading, rows: Sequence[int]) -> list[int]:
    """Places of canvas rows in what a layer saw."""
    return [reading.rows.index(row) for row in rows]


def stages_by_cuts(
    model: Decoder,
    embeds: Array,
    positions: Sequence[int],
    visual: Sequence[int],
    cuts: Sequence[Cut],
    renumber: bool = False,
) -> list[Stage]:
    """The row lists of a prompt [S, D], one stage per cut. The prompt is run anew for every cut: slow and obvious."""
    stages: list[Stage] = []
    rows, there = list(range(len(embeds))), list(visual)
    for cut in sorted(cuts, key=lambda cut: cut.before):
        _, readings = whole_pass(model, embeds, positions, len(embeds), stages, renumber)
        merged = {} if cut.merge is None else cut.merge(readings[: cut.before], there)
        stay = sorted([*cut.choose(readings[: cut.before], there), *merged])
        rows = going_on(rows, there, stay)
        there = stay
        stages.append(Stage(cut.before, tuple(rows), merged))
    return stages


def lvlm_csp(
    model: Decoder,
    embeds: Array,
    positions: Sequence[int],
    visual: Sequence[int],
    representative: int,
    scatter: int,
    prune: int,
    count: int,
) -> list[Stage]:
    """LVLM_CSP (abstract and reviews; no code): few rows, then all, then few again, on one canvas.

    Layers 0..scatter - 1 see `representative` visual rows (uniform stride), layers scatter..prune - 1 all of them, the
    rest the `count` that the prompt's last row attends to most in layer prune - 1 (FastV's ranking). A row that comes back
    has its embedding still: nothing has touched it, so its hidden row before layer `scatter` equals the projector's.
    Left open: both layers, both counts; whether rows come back with their embeddings (read so) or with something copied
    from a representative; the asking row, [SEG], is generated in the original: here the prompt's last row stands for it.
    """
    everything = list(range(len(embeds)))
    first = going_on(everything, visual, representatives(visual, representative))
    stages = [Stage(0, tuple(first)), Stage(scatter, tuple(everything))]
    _, readings = whole_pass(model, embeds, positions, len(embeds), stages)
    last = readings[prune - 1]
    order = fastv(last.queries[-1], last.keys, len(last.rows), places_of(last, visual))
    stay = [last.rows[place] for place in kept(order, count)]
    return [*stages, Stage(prune, tuple(going_on(everything, visual, stay)))]
