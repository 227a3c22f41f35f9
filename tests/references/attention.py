"""References of the methods that rank tokens by the class token's attention."""

from __future__ import annotations

import math
from fractions import Fraction

from .picture import (
    Picture,
    Row,
    best_first,
    flat_values,
    floor_share,
    kept_whole_when_it_fits,
    over_heads,
    ranked_by,
    share_out,
    written,
)


@kept_whole_when_it_fits
def fastervlm(picture: Picture, keep: int, *, feature_layer: int, last_layer: int) -> list[Row]:
    """FasterVLM, repository Theia-4869/FasterVLM: the highest head mean of class attention in the feature layer.

    The source gives every tile the same count, padding included; here only candidates take part.
    """
    score = [total / picture.heads for total in over_heads(picture.attention[feature_layer])]
    return picture.unchanged(share_out(ranked_by(picture, score), keep))


@kept_whole_when_it_fits
def vtc_cls(picture: Picture, keep: int, *, feature_layer: int, last_layer: int, window: int = 3) -> list[Row]:
    """VTC-CLS, repository THU-MIG/VTC-CLS: class attention, head mean, summed over the last `window` layers.

    Window 3 is the paper's, the repository's default is 7. A window that reaches below layer 0 ends there.
    """
    layers = range(max(feature_layer - window + 1, 0), feature_layer + 1)
    readings = [over_heads(picture.attention[layer]) for layer in layers]
    score = [math.fsum(total / picture.heads for total in totals) for totals in zip(*readings, strict=True)]
    return picture.unchanged(share_out(ranked_by(picture, score), keep))


@kept_whole_when_it_fits
def damro(picture: Picture, keep: int, *, feature_layer: int, last_layer: int, outliers: int = 10) -> list[Row]:
    """DAMRO, repository coder-gx/DAMRO, turned round: its outliers come last instead of being all that is used.

    Outliers of a tile are the candidates with the highest one-head class attention of the tower's last layer.
    """
    ranked = ranked_by(picture, flat_values(picture.wide[last_layer]))
    return picture.unchanged(share_out([tile[outliers:] + tile[:outliers] for tile in ranked], keep))


def hired_repository(
    picture: Picture, keep: int, *, early_layer: int, feature_layer: int, alpha: float | Fraction = 0.5
) -> list[int]:
    """HiRED as in its repository, hasanar1f/HiRED (commit 502d6dd), which is not what its paper says.

    Content of a crop is a count: how many of the floor(N * (1 - alpha)) highest early scores of the thumbnail lie in
    the crop's part of the raster, where the parts are contiguous runs of the raster and not rectangles. Shares are
    floors and nothing is given out again. Tokens are chosen with padding in the running, and padding is cut away
    afterwards: the result may have fewer than `keep` flat indices. Ascending by slot.

    The source's even split of the raster needs N to be a multiple of the number of crops; the runs used here are the
    same when it is, and as even as can be when it is not. Equal scores fall to the lower index (open in the source).
    """
    n = picture.tokens
    score = over_heads(picture.attention[feature_layer])
    crops = [t for t in range(1, picture.tiles) if picture.region[t].any()]
    if not crops:  # the path of a single picture: no content score, the whole budget for the one tile
        counts = {0: min(keep, n)}
    else:
        full = min(floor_share(keep, alpha), n)
        rest = min(keep - full, len(crops) * n)
        early = over_heads(picture.attention[early_layer][:1])
        tops = best_first(range(n), early)[: math.floor(n * (1 - written(alpha)))]
        content = [sum(1 for p in tops if p * len(crops) // n == c) for c in range(len(crops))]
        counts = {0: full}
        for t, count in zip(crops, content, strict=True):
            counts[t] = min(math.floor(Fraction(count, len(tops)) * rest), n) if tops else 0
    chosen = [i for t, count in counts.items() for i in best_first(range(t * n, (t + 1) * n), score)[:count]]
    return [i for i, _ in picture.unchanged(i for i in chosen if picture.slot.flat[i] >= 0)]
