"""References of the methods that choose tokens unlike those already chosen."""

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
    flat_vectors,
    floor_share,
    kept_whole_when_it_fits,
    over_heads,
    share_out,
    softmax,
)

PATCH_TEMPERATURE = 0.2
QUESTION_TEMPERATURE = 0.02
PATCH_TERM = 0.5
SMALLEST_GAIN = 1e-5


@kept_whole_when_it_fits
def divprune(picture: Picture, keep: int, *, feature_layer: int, last_layer: int) -> list[Row]:
    """DivPrune, repository vbdi/divprune: max-min diversity of the projected tokens, all tiles together.

    The source counts on a chosen token's distance of about 0 to itself; here no token can be chosen twice.
    """
    found = picture.by_index()
    projected = flat_vectors(picture.projected)
    vectors = [projected[i] for i in found]
    distance = [[1 - c for c in row] for row in cosines(vectors, vectors)]
    everyone = range(len(found))
    nearest = [min(distance[a][b] for b in everyone if b != a) for a in everyone]
    chosen = [best_first(everyone, nearest)[0]]
    nearest = [distance[chosen[0]][a] for a in everyone]
    while len(chosen) < keep:
        after = best_first([a for a in everyone if a not in chosen], nearest)[0]
        chosen.append(after)
        nearest = [min(nearest[a], distance[after][a]) for a in everyone]
    return picture.unchanged(found[a] for a in chosen)


def dart_shares(pivots: int, rest: int) -> list[int]:
    """How many of `rest` tokens each pivot takes: as even as whole numbers allow, all of them together."""
    borders = [math.floor(Fraction(p * rest, pivots)) for p in range(pivots + 1)]
    return [after - before for before, after in zip(borders, borders[1:], strict=False)]


@kept_whole_when_it_fits
def dart(picture: Picture, keep: int, *, feature_layer: int, last_layer: int, pivots: int = 8) -> list[Row]:
    """DART (arXiv 2502.11494) at the encoder's output: pivots are the tokens with the largest L1 norm of all tiles, and
    each in turn takes its share of the rest, of those still left the ones with the lowest cosine to it.

    The paper works inside the language model and takes pivots of the question too.
    """
    projected = flat_vectors(picture.projected)
    found = picture.by_index()
    size = {i: math.fsum(abs(x) for x in projected[i]) for i in found}
    first = best_first(found, size)[: min(pivots, keep)]
    chosen = list(first)
    for pivot, share in zip(first, dart_shares(len(first), keep - len(first)), strict=True):
        left = [i for i in found if i not in chosen]
        unlike = {i: -cosine(projected[pivot], projected[i]) for i in left}
        chosen += best_first(left, unlike)[:share]
    return picture.unchanged(chosen)


def _least_like(picture: Picture, keep: int, feature_layer: int, highest: bool) -> list[Row]:
    """From the pivot on, the token with the lowest sum (or highest value) of cosines to all chosen ones."""
    found = picture.by_index()
    attention = over_heads(picture.attention[feature_layer])
    # a picture whose thumbnail has no candidate takes its pivot anywhere
    pivot = best_first(picture.in_tile(0) or found, attention)[0]
    projected = flat_vectors(picture.projected)
    vectors = [projected[i] for i in found]
    likeness = cosines(vectors, vectors)
    everyone = range(len(found))
    chosen = [found.index(pivot)]
    while len(chosen) < keep:
        best: int | None = None
        lowest = math.inf
        for a in everyone:
            if a in chosen:
                continue
            to_chosen = [likeness[a][b] for b in chosen]
            state = max(to_chosen) if highest else math.fsum(to_chosen)
            if best is None or state < lowest:
                best, lowest = a, state
        assert best is not None
        chosen.append(best)
    return picture.unchanged(found[a] for a in chosen)


@kept_whole_when_it_fits
def todre(picture: Picture, keep: int, *, feature_layer: int, last_layer: int) -> list[Row]:
    """ToDRE, second version of the paper (no code): max-sum diversity from the thumbnail's class attention peak."""
    return _least_like(picture, keep, feature_layer, highest=False)


@kept_whole_when_it_fits
def todre_kcenter(picture: Picture, keep: int, *, feature_layer: int, last_layer: int) -> list[Row]:
    """ToDRE, first version of the paper (no code): greedy k-center from the same pivot."""
    return _least_like(picture, keep, feature_layer, highest=True)


def coverage_order(coverage: list[list[float]], steps: int) -> list[int]:
    """Columns in the order of a greedy maximum coverage: largest sum over rows of what a column adds to the best."""
    order: list[int] = []
    best = [0.0] * len(coverage)
    for _ in range(steps):
        gain = {
            j: math.fsum(row[j] - b for row, b in zip(coverage, best, strict=True) if row[j] > b)
            for j in range(len(coverage[0]))
            if j not in order
        }
        chosen = best_first(gain, gain)[0]
        order.append(chosen)
        best = [max(b, row[chosen]) for row, b in zip(coverage, best, strict=True)]
    return order


@kept_whole_when_it_fits
def mmtok(picture: Picture, keep: int, *, feature_layer: int, last_layer: int) -> list[Row]:
    """MMTok, repository Ironieser/MMTok: tokens that cover the question and the other tokens of their tile."""
    features = flat_vectors(picture.features)
    projected = flat_vectors(picture.projected)
    question = picture.question.tolist()
    weights = picture.question_weight.tolist()
    ranked = []
    for t in range(picture.tiles):
        inside = picture.in_tile(t)
        if not inside:
            ranked.append(inside)
            continue
        coverage = []
        for row, weight in zip(cosines(question, [projected[j] for j in inside]), weights, strict=True):
            coverage.append([weight * p for p in softmax([c / QUESTION_TEMPERATURE for c in row])])
        for row in cosines([features[i] for i in inside], [features[j] for j in inside]):
            patch_row = softmax([c / PATCH_TEMPERATURE for c in row])
            coverage.append([PATCH_TERM * q / len(inside) for q in patch_row])
        ranked.append([inside[a] for a in coverage_order(coverage, min(keep, len(inside)))])
    return picture.unchanged(share_out(ranked, keep))


def relevance(picture: Picture, sign: float) -> dict[int, float]:
    """CDPruner's relevance of every candidate, stretched to about 0 .. 1 over the picture."""
    found = picture.by_index()
    weights = picture.question_weight.tolist()
    if not any(weights):
        return dict.fromkeys(found, 1.0)
    projected = flat_vectors(picture.projected)
    likeness = cosines([projected[i] for i in found], picture.question.tolist())
    raw = [sign * math.fsum(w * c for w, c in zip(weights, row, strict=True)) for row in likeness]
    low, high = min(raw), max(raw)
    if low == high:
        return dict.fromkeys(found, 1.0)
    return {i: (r - low + 1e-6) / (high - low) for i, r in zip(found, raw, strict=True)}


def greedy_map_order(kernel: list[list[float]], steps: int) -> list[int]:
    """Items in the order of the greedy MAP of a determinantal point process, by an incremental Cholesky factor."""
    order: list[int] = []
    factors: list[list[float]] = []
    gain = [row[i] for i, row in enumerate(kernel)]
    for _ in range(steps):
        j = best_first([i for i in range(len(kernel)) if i not in order], gain)[0]
        root = math.sqrt(max(gain[j], SMALLEST_GAIN))
        factor = [
            (entry - math.fsum(earlier[j] * earlier[i] for earlier in factors)) / root
            for i, entry in enumerate(kernel[j])
        ]
        gain = [max(g - e * e, SMALLEST_GAIN) for g, e in zip(gain, factor, strict=True)]
        factors.append(factor)
        order.append(j)
    return order


@kept_whole_when_it_fits
def cdpruner(picture: Picture, keep: int, *, feature_layer: int, last_layer: int, sign: float = 1.0) -> list[Row]:
    """CDPruner, repository Theia-4869/CDPruner: greedy MAP on likeness conditioned by relevance to the question.

    The source takes relevance from CLIP's text tower, negated; here it comes from the language model's embeddings.
    """
    relevant = relevance(picture, sign)
    projected = flat_vectors(picture.projected)
    ranked = []
    for t in range(picture.tiles):
        inside = picture.in_tile(t)
        vectors = [projected[i] for i in inside]
        kernel = [
            [relevant[i] * c * relevant[j] for j, c in zip(inside, row, strict=True)]
            for i, row in zip(inside, cosines(vectors, vectors), strict=True)
        ]
        for a, i in enumerate(inside):
            if any(vectors[a]):  # a token is exactly like itself: without a question the first choice is a true tie
                kernel[a][a] = relevant[i] * relevant[i]
        ranked.append([inside[a] for a in greedy_map_order(kernel, min(keep, len(inside)))])
    return picture.unchanged(share_out(ranked, keep))


def thin_out(listed: list[int], room: int, likeness: dict[tuple[int, int], float], step: int) -> tuple[list[int], int]:
    """VisPruner's rounds: (what remains of the list, number of rounds)."""
    rounds = 0
    while len(listed) > room:
        even, odd = listed[0::2], listed[1::2]
        match = {a: max((likeness[a, b] for b in odd), default=-math.inf) for a in even}
        even = sorted(even, key=lambda a: -match[a])  # stable
        listed = even[min(step, len(listed) - room, len(even)) :] + odd
        rounds += 1
    return listed, rounds


@kept_whole_when_it_fits
def vispruner(
    picture: Picture,
    keep: int,
    *,
    feature_layer: int,
    last_layer: int,
    important: float | Fraction = 0.5,
    step: int = 8,
) -> list[Row]:
    """VisPruner, repository Theia-4869/VisPruner: class attention for one part, rounds of bipartite pruning for the rest.

    The source's rounds need lists of even length; here they run on any. Without a class token, attention received from
    the patches takes its place.
    """
    score = attended(picture, feature_layer)
    features = flat_vectors(picture.features)
    shares = apportion([len(picture.in_tile(t)) for t in range(picture.tiles)], keep)
    chosen: list[int] = []
    for t, share in enumerate(shares):
        order = best_first(picture.in_tile(t), score)
        first = floor_share(share, important)
        listed = order[first:]
        vectors = [features[i] for i in listed]
        likeness = {
            (a, b): c
            for a, row in zip(listed, cosines(vectors, vectors), strict=True)
            for b, c in zip(listed, row, strict=True)
        }
        chosen += order[:first] + thin_out(listed, share - first, likeness, step)[0]
    return picture.unchanged(chosen)
