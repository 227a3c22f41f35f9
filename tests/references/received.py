"""References of the methods that rank tokens by the attention they receive from other patches."""

from __future__ import annotations

import math
from fractions import Fraction

from .picture import (
    Picture,
    Row,
    apportion,
    best_first,
    flat_values,
    kept_whole_when_it_fits,
    mean,
    ranked_by,
    share_out,
    softmax,
    written,
)

Map = dict[int, dict[int, float]]  # query -> key -> attention


@kept_whole_when_it_fits
def received(picture: Picture, keep: int, *, feature_layer: int, last_layer: int) -> list[Row]:
    """What the authors of VisPruner and VisionZip rank by where a tower has no class token: the attention that a token
    receives from its tile's patches in the feature layer."""
    return picture.unchanged(share_out(ranked_by(picture, flat_values(picture.received[feature_layer])), keep))


def patch_map(picture: Picture, layer: int, t: int) -> Map:
    """Attention between the candidates of one tile by flat index; the class token's row is left out."""
    rows = picture.maps[layer][t].tolist()
    inside = picture.in_tile(t)
    n = picture.tokens
    return {i: {j: rows[1 + i % n][j % n] for j in inside} for i in inside}


def variance(values: list[float]) -> float:
    middle = mean(values)
    return mean((v - middle) ** 2 for v in values)


def significance(picture: Picture, layer: int, side: int) -> dict[int, float]:
    """FoPru's score: per tile the one of attention received and attention cast that varies more (1, 2: fixed)."""
    found: dict[int, float] = {}
    for t in range(picture.tiles):
        weights = patch_map(picture, layer, t)
        if not weights:
            continue
        received = {j: mean(weights[i][j] for i in weights) for j in weights}
        cast = {i: mean(weights[i].values()) for i in weights}
        if side == 0:
            found.update(cast if variance(list(cast.values())) > variance(list(received.values())) else received)
        else:
            found.update({1: received, 2: cast}[side])
    return found


@kept_whole_when_it_fits
def fopru(picture: Picture, keep: int, *, feature_layer: int, last_layer: int, side: int = 0) -> list[Row]:
    """FoPru (paper's abstract and a review; no code), "rank": the most significant tokens of every tile."""
    score = significance(picture, feature_layer, side)
    ranked = [best_first(picture.in_tile(t), score) for t in range(picture.tiles)]
    return picture.unchanged(share_out(ranked, keep))


@kept_whole_when_it_fits
def fopru_row(picture: Picture, keep: int, *, feature_layer: int, last_layer: int, side: int = 0) -> list[Row]:
    """FoPru (paper's abstract and a review; no code), "row": whole patch rows, only the last one of a tile is cut."""
    score = significance(picture, feature_layer, side)
    ranked = []
    for t in range(picture.tiles):
        rows: dict[int, list[int]] = {}
        for i in picture.in_tile(t):
            rows.setdefault(picture.patch_row_column(i)[0], []).append(i)
        row_score = {row: mean(score[i] for i in members) for row, members in rows.items()}
        ranked.append([i for row in best_first(rows, row_score) for i in best_first(rows[row], score)])
    return picture.unchanged(share_out(ranked, keep))


def object_layer_of(feature_layer: int) -> int:
    """Layer 9 of the 23 in use, counted from 1, carried over to other depths (never half way between two layers)."""
    return max(round(Fraction((feature_layer + 1) * 9, 23)) - 1, 0)


def received_from_all(picture: Picture, layer: int) -> list[float]:
    """Mean over all N + 1 queries (class token and padding too) of the attention that every token receives."""
    return [mean(column) for tile in picture.maps[layer].tolist() for column in zip(*tile, strict=True)]


def anchor_count(share: int, alpha: float | Fraction) -> int:
    """Python's round: a half goes to the even neighbour."""
    return round(share * written(alpha) / 5)


def neighbours_in_raster(patch: int, side: int) -> set[int]:
    """Left, right, above, below by flat raster number: wraps at row ends, clamped at the two ends of the raster."""
    return {min(max(p, 0), side * side - 1) for p in (patch - 1, patch + 1, patch - side, patch + side)}


@kept_whole_when_it_fits
def hiprune(
    picture: Picture,
    keep: int,
    *,
    feature_layer: int,
    last_layer: int,
    object_layer: int | None = None,
    alpha_anchor: float | Fraction = 0.1,
) -> list[Row]:
    """HiPrune, repository Danielement321/HiPrune: anchors and their buffers, then the deep layer's best ("registers").

    Anchors and buffers get 2 on top of the deep score, which gives the same sets as taking them first.
    """
    middle = object_layer_of(feature_layer) if object_layer is None else object_layer
    shallow = received_from_all(picture, middle)
    score = received_from_all(picture, feature_layer)
    shares = apportion([len(picture.in_tile(t)) for t in range(picture.tiles)], keep)
    for t, share in enumerate(shares):
        anchors = best_first(picture.in_tile(t), shallow)[: anchor_count(share, alpha_anchor)]
        first_patch = t * picture.tokens + picture.extra
        forced = set(anchors)
        for anchor in anchors:
            forced |= {first_patch + p for p in neighbours_in_raster(picture.patch(anchor), picture.side)}
        for i in forced:
            score[i] += 2  # padding too, which is no candidate below
    return picture.unchanged(share_out(ranked_by(picture, score), keep))


def sink_importance(picture: Picture, layer: int, sinks: int, entropy_weight: float) -> dict[int, float]:
    """VFlowOpt's score: attention cast by the tokens that receive most, and the entropy of the patch."""
    found: dict[int, float] = {}
    entropy = flat_values(picture.entropy)
    for t in range(picture.tiles):
        weights = patch_map(picture, layer, t)
        if not weights:
            continue
        received = {j: mean(weights[i][j] for i in weights) for j in weights}
        chosen = best_first(weights, received)[:sinks]
        found.update({j: mean(weights[i][j] for i in chosen) for j in weights})
        if entropy_weight != 0:
            for j, part in zip(weights, softmax([entropy[j] for j in weights]), strict=True):
                found[j] += entropy_weight * part
    return found


@kept_whole_when_it_fits
def vflowopt(
    picture: Picture,
    keep: int,
    *,
    feature_layer: int,
    last_layer: int,
    sinks: int = 4,
    entropy_weight: float = 0.0,
    cell: float = 12,
) -> list[Row]:
    """VFlowOpt, repository sihany077/VFlowOpt, first stage: the rest of each grid cell is recycled into one token.

    The source has a threshold for sinks and as many recycled tokens as there are cells with a rest; here both are
    counts, so that exactly `keep` tokens stay.
    """
    score = sink_importance(picture, feature_layer, sinks, entropy_weight)
    order = best_first(picture.by_index(), score)
    recycled = min(math.floor(len(order) / written(cell) ** 2), keep)
    whole, rest = order[: keep - recycled], order[keep - recycled :]

    cells: dict[tuple[int, int, int], list[int]] = {}
    for i in rest:  # best first: the first member of a cell is its head
        crop = picture.is_crop(i)
        row, column = picture.mosaic_row_column(i) if crop else picture.patch_row_column(i)
        cells.setdefault((int(crop), math.floor(row / written(cell)), math.floor(column / written(cell))), []).append(i)
    heads = {members[0] for members in cells.values()}
    second = [i for i in rest if i in heads] + [i for i in rest if i not in heads]
    taken = set(second[:recycled])

    rows: list[Row] = [(i, {i: 1.0}) for i in whole]
    rows += [(i, {i: 1.0}) for i in taken if i not in heads]
    for members in cells.values():
        head = members[0]
        if head in taken:
            merged = [i for i in members if i == head or i not in taken]
            total = math.fsum(score[i] for i in merged)
            rows.append((head, {i: score[i] / total for i in merged} if total != 0 else {head: 1.0}))
    return picture.ascending(rows)
