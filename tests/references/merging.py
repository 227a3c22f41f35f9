"""References of the methods that merge what they drop into what they keep."""

from __future__ import annotations

import math
from fractions import Fraction

from .picture import (
    Picture,
    Row,
    apportion,
    attended,
    best_first,
    cosine,
    cosines,
    evenly_spaced,
    flat_values,
    flat_vectors,
    floor_share,
    kept_whole_when_it_fits,
    mean,
    ranked_by,
    share_out,
)


def head_mean(vector: list[float], heads: int) -> list[float]:
    """C channels with the heads side by side -> C / heads channels."""
    width = len(vector) // heads
    return [mean(vector[h * width + c] for h in range(heads)) for c in range(width)]


def join_nearest(anchors: list[int], others: list[int], vectors: list[list[float]]) -> dict[int, list[int]]:
    """Every other token goes to the anchor with the highest cosine; equal cosines go to the earlier anchor."""
    joined: dict[int, list[int]] = {anchor: [] for anchor in anchors}
    likeness = cosines([vectors[i] for i in others], [vectors[a] for a in anchors])
    for i, row in zip(others, likeness, strict=True):
        joined[anchors[row.index(max(row))]].append(i)
    return joined


def stride_targets(count: int, of: int) -> list[int]:
    """VisionZip's targets among `of` tokens left: numbers 0, s, 2 s, ... with s = max(1, floor(of / count))."""
    step = max(1, of // count)
    return [k * step for k in range(count)]


@kept_whole_when_it_fits
def visionzip(
    picture: Picture,
    keep: int,
    *,
    feature_layer: int,
    last_layer: int,
    contextual: float | Fraction = Fraction(10, 64),
) -> list[Row]:
    """VisionZip, repository dvlab-research/VisionZip: dominant tokens, and contextual ones merged by key likeness.

    The mean of the members is added to the target, as in the source. The source also keeps the class token. Without
    one, attention received from the patches ranks tokens.
    """
    contextual_count = floor_share(keep, contextual)
    ranked = ranked_by(picture, attended(picture, feature_layer))
    dominant = set(share_out(ranked, keep - contextual_count))
    rows: list[Row] = [(i, {i: 1.0}) for i in dominant]

    metric = [head_mean(key, picture.heads) for key in flat_vectors(picture.keys[feature_layer])]
    left = [[i for i in picture.in_tile(t) if i not in dominant] for t in range(picture.tiles)]
    for tile, count in zip(left, apportion([len(tile) for tile in left], contextual_count), strict=True):
        if count == 0:
            continue
        targets = [tile[number] for number in stride_targets(count, len(tile))]
        others = [i for i in tile if i not in targets]
        for target, members in join_nearest(targets, others, metric).items():
            rows.append((target, {target: 1.0, **{i: 1.0 / len(members) for i in members}}))
    return picture.ascending(rows)


def _merged_by_attention(
    picture: Picture, keep: int, last_layer: int, spread: Fraction | float, near: int
) -> list[Row]:
    weight = flat_values(picture.wide[last_layer])
    keys = flat_vectors(picture.keys[last_layer])
    tiles = [picture.in_tile(t) for t in range(picture.tiles)]
    rows: list[Row] = []
    for tile, share in zip(tiles, apportion([len(tile) for tile in tiles], keep), strict=True):
        if share == len(tile):
            rows += [(i, {i: 1.0}) for i in tile]
            continue
        if share == 0:
            continue
        spaced = [tile[number] for number in evenly_spaced(floor_share(share - 1, spread), len(tile))]
        best = best_first([i for i in tile if i not in spaced], weight)
        kept = spaced + best[: share - 1 - len(spaced)]
        likeness = cosines([keys[i] for i in kept], [keys[j] for j in tile])
        for i, row in zip(kept, likeness, strict=True):
            others = {j: c for j, c in zip(tile, row, strict=True) if j != i}
            rows.append((i, {i: 1.0, **{j: weight[j] for j in best_first(others, others)[:near]}}))
        pruned = [i for i in tile if i not in kept]
        rows.append((best_first(pruned, weight)[0], {j: weight[j] for j in pruned}))
    return picture.ascending(rows)


@kept_whole_when_it_fits
def prumerge(picture: Picture, keep: int, *, feature_layer: int, last_layer: int, neighbours: int = 32) -> list[Row]:
    """LLaVA-PruMerge, repository 42Shawn/LLaVA-PruMerge: class attention is both the rank and the merging weight.

    The source draws the count from the quartiles of attention, keeps tokens in descending attention and appends the
    token made of everything pruned; here the count is given and the order is that of the unpruned sequence.
    """
    return _merged_by_attention(picture, keep, last_layer, Fraction(0), neighbours)


@kept_whole_when_it_fits
def prumerge_plus(
    picture: Picture,
    keep: int,
    *,
    feature_layer: int,
    last_layer: int,
    neighbours: int = 32,
    spread: float | Fraction = 0.75,
) -> list[Row]:
    """LLaVA-PruMerge+, same repository: a part of the kept tokens is evenly spaced, taken before the ranked ones."""
    return _merged_by_attention(picture, keep, last_layer, spread, neighbours)


@kept_whole_when_it_fits
def recoverable(
    picture: Picture,
    keep: int,
    *,
    feature_layer: int,
    last_layer: int,
    visual_share: float | Fraction = 0.5,
    text_share: float | Fraction = 0.3,
) -> list[Row]:
    """Recoverable Compression (paper's abstract and the README of its repository; no code): a reconstruction.

    Likeness to the class token, then likeness to the question among the rest, then the mean of what joins each of a
    few evenly spaced tokens.
    """
    visual, text = floor_share(keep, visual_share), floor_share(keep, text_share)
    merged = keep - visual - text
    if merged < 0:
        raise ValueError("the two shares may not exceed 1 together")
    features = flat_vectors(picture.features)
    projected = flat_vectors(picture.projected)
    owner: list[list[float]] = picture.class_feature.tolist()
    n = picture.tokens

    by_class = {i: cosine(owner[i // n], features[i]) for i in picture.by_index()}
    ranked = [best_first(picture.in_tile(t), by_class) for t in range(picture.tiles)]
    whole = set(share_out(ranked, visual))

    questions = picture.question.tolist()
    weights = picture.question_weight.tolist()
    others = [i for i in picture.by_index() if i not in whole]
    likeness = cosines([projected[i] for i in others], questions)
    by_question = {
        i: math.fsum(w * c for w, c in zip(weights, row, strict=True)) for i, row in zip(others, likeness, strict=True)
    }
    ranked = [best_first([i for i in picture.in_tile(t) if i not in whole], by_question) for t in range(picture.tiles)]
    whole |= set(share_out(ranked, text))

    rows: list[Row] = [(i, {i: 1.0}) for i in whole]
    left = [i for i in picture.by_slot() if i not in whole]
    if merged > 0:
        anchors = [left[number] for number in evenly_spaced(merged, len(left))]
        for anchor, members in join_nearest(anchors, [i for i in left if i not in anchors], features).items():
            rows.append((anchor, {i: 1.0 / (1 + len(members)) for i in [anchor, *members]}))
    return picture.ascending(rows)
