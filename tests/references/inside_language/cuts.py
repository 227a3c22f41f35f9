"""Cuts of the reference decoder: each reads the layers before it; the lists that come out are then frozen.

Every ranking of this folder is here once as a cut, so that where its inputs are read stands in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from . import corematching as core
from . import last_row, mustdrop, sparsevlm, transprune
from .attention import angles_of
from .decoder import Decoder, Reading, Stage, query_key_value, rms_norm, whole_pass
from .early_lists import representatives
from .rows import Array, Order, by_encoder, going_on, kept

Choose = Callable[[list[Reading], list[int]], list[int]]
Merge = Callable[[list[Reading], list[int]], dict[int, dict[int, float]]]
Rank = Callable[[Reading, list[int]], Order]  # the layer before the cut, places of visual rows -> places, best first


@dataclass(frozen=True, eq=False)
class Cut:
    """Before layer `before`, `choose(readings, visual)` names the visual rows that stay as they are.

    `merge`, of the same arguments, names further rows that stay with a weighted sum in them: row -> row -> weight.

    `readings` are those of layers 0..before - 1 of the prompt alone; `visual` are rows of the canvas that arrive. A reading
    counts by places: `places_of` turns rows into places, and what a ranking says of places is turned back by `rows`.
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


def cut_by(before: int, count: int, rank: Rank) -> Cut:
    """A cut that keeps the first `count` of an order over places in what layer `before` - 1 saw."""

    def choose(readings: list[Reading], visual: list[int]) -> list[int]:
        last = readings[before - 1]
        return kept([last.rows[place] for place in rank(last, places_of(last, visual))], count)

    return Cut(before, choose)


def question_places(last: Reading, visual: Sequence[int]) -> list[int]:
    """Places behind the last visual row: the question with the template's end. Left open: a prompt that ends in a picture."""
    return list(range(max(visual) + 1, len(last.rows))) if visual else []


def even(asking: Sequence[int]) -> list[float]:
    return [1 / len(asking)] * len(asking)


def fastv_cut(before: int, count: int) -> Cut:
    return cut_by(before, count, lambda r, v: last_row.fastv(r.queries[-1], r.keys, len(r.rows), v))


def flowcut_cut(before: int, count: int) -> Cut:
    return cut_by(before, count, lambda r, v: last_row.flowcut(r.queries[-1], r.keys, r.values[:, -1], r.values, v))


def pdrop_cut(model: Decoder, before: int, count: int) -> Cut:
    """Positions are those that the rows have when they arrive, before this cut renumbers them."""

    def rank(last: Reading, visual: list[int]) -> Order:
        angles = angles_of(last.positions, model.frequencies)
        asking = len(last.rows) - 1
        return last_row.pdrop(last.after, model.layers[before], model.eps, angles, asking, visual, model.width)

    return cut_by(before, count, rank)


def feather_cut(
    model: Decoder, before: int, count: int, places: Mapping[int, tuple[int, int]] | None = None, stride: int = 3
) -> Cut:
    """`places` are canvas row -> (row, column) of its patch, where the grid is forced (first cut); none at later cuts."""

    def rank(last: Reading, visual: list[int]) -> Order:
        angles = angles_of(last.positions, model.frequencies)
        score = last_row.feather_scores(last.queries[-1], angles[-1], last.keys, angles, visual)
        grid = {} if places is None else {place: places[last.rows[place]] for place in visual}
        return last_row.feather(score, last_row.grid_places(visual, grid, stride) if grid else [])

    return cut_by(before, count, rank)


def sparsevlm_cut(before: int, count: int, raters: Sequence[int]) -> Cut:
    """`raters` are rows of the canvas, all of them fixed rows behind the picture."""

    def rank(last: Reading, visual: list[int]) -> Order:
        asking = places_of(last, raters)
        return sparsevlm.sparsevlm(last.queries[asking], last.keys, asking, even(asking), visual)

    return cut_by(before, count, rank)


def recycling_cut(before: int, count: int, raters: Sequence[int]) -> Cut:
    """SparseVLM with recycling: every extra row takes its centre's row on the canvas, and so its place and its position.

    Differs from the release, which puts the extra rows behind the kept visual ones and renumbers.
    """

    def merge(readings: list[Reading], visual: list[int]) -> dict[int, dict[int, float]]:
        last = readings[before - 1]
        asking = places_of(last, raters)
        order = sparsevlm.sparsevlm(last.queries[asking], last.keys, asking, even(asking), places_of(last, visual))
        made = sparsevlm.recycle(order, count, last.after)
        return {
            last.rows[centre]: {last.rows[place]: float(made.matrix[i, place]) for place in cluster}
            for i, (centre, cluster) in enumerate(zip(made.centres, made.clusters, strict=True))
        }

    return Cut(before, sparsevlm_cut(before, count, raters).choose, merge)


def mustdrop_cut(before: int, count: int, g: float, i: float, key_rows: Sequence[int] = ()) -> Cut:
    """`key_rows` are rows of the canvas; those that have left already are no longer forced."""

    def rank(last: Reading, visual: list[int]) -> Order:
        asking = question_places(last, visual)
        forced = [place for place in visual if last.rows[place] in set(key_rows)]
        m = mustdrop.asked_of(last.queries[asking], last.keys, asking, visual)
        return mustdrop.mustdrop(m, g, i, forced)

    return cut_by(before, count, rank)


def transprune_cut(model: Decoder, before: int, count: int, first: int, entering: Sequence[int]) -> Cut:
    """Transitions of layers `first`..`before` - 1; `entering` are all rows of the canvas that were visual at layer 0.

    The sum over "tokens" is left open by the source (`transprune.transition`); here it runs over the visual rows that were
    still there in that layer, also those that have left since.
    """

    def choose(readings: list[Reading], visual: list[int]) -> list[int]:
        last = readings[before - 1]
        places = places_of(last, visual)
        moved = []
        for reading in readings[first:before]:
            among = places_of(reading, [row for row in entering if row in reading.rows])
            one = transprune.layer_transition(reading.normed, reading.attended, reading.mlp_normed, reading.mlp, among)
            moved.append({last.rows.index(row): one[reading.rows.index(row)] for row in visual})
        angles = angles_of(last.positions, model.frequencies)
        layer = model.layers[before]
        queries, keys, _ = query_key_value(
            layer, rms_norm(last.after, layer.norm, model.eps), angles, model.width, model.eps
        )
        asking = question_places(last, places)
        order = transprune.transprune(moved, queries[asking], keys, asking, even(asking), places)
        return kept([last.rows[place] for place in order], count)

    return Cut(before, choose)


def corematching_cut(before: int, count: int) -> Cut:
    return cut_by(before, count, lambda r, v: core.corematching(core.overlaps(r.activation, v, len(r.rows))))


def encoder_cut(before: int, count: int, score: Mapping[int, float]) -> Cut:
    """Control, and VFlowOpt's stages."""
    return Cut(before, lambda readings, visual: kept(by_encoder({row: score[row] for row in visual}), count))


def drop_all_cut(before: int) -> Cut:
    """YOPO's cut, and ToDRE's second stage where its gate is open."""
    return Cut(before, lambda readings, visual: [])


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
    order = last_row.fastv(last.queries[-1], last.keys, len(last.rows), places_of(last, visual))
    stay = [last.rows[place] for place in kept(order, count)]
    return [*stages, Stage(prune, tuple(going_on(everything, visual, stay)))]
