"""absorb (a rule of this project, no paper), site `between` attention and MLP, sizes carried.

The K patches with the highest class attention (head mean) stay, in arriving order. Every other patch joins the kept
patch with the most similar keys: cosine of the keys of all heads side by side, equal cosines to the lower row.

    x_a = sum size x / sum size,   size_a = sum size   over the kept patch and those that joined it

Later blocks add log(size) to the logits of their keys. The row keeps the kept patch's place.

Open in the facts, chosen here: whether the class token may take rows in (it does not; `class_absorbs` lets it, with
its own keys, as the first of the anchors, since one form of the trial's graphs had "the class token as anchor 0");
ranking without a class token (attention received from the patches); `value_norm`, a variant that was tried: attention
times the Euclidean norm of the whole value row of all heads.
"""

from __future__ import annotations

import math

from .rows import Rows, Step, cosine, highest, importance, merged, padding_first


def nearest(rows: Rows, others: list[int], anchors: list[int]) -> dict[int, int]:
    """Every other row -> the anchor with the most similar keys of all heads; equal ones: the lower anchor."""
    found = {}
    for j in others:
        likeness = {a: cosine(rows.k[j], rows.k[a]) for a in anchors}
        found[j] = highest(anchors, likeness)[0]
    return found


def act(rows: Rows, count: int, *, class_absorbs: bool = False, value_norm: bool = False) -> Step:
    score = importance(rows)
    if value_norm:
        score = [s * math.sqrt(float(value @ value)) for s, value in zip(score, rows.v, strict=True)]
    kept = sorted(highest(rows.patches, score)[:count])
    others = [j for j in rows.patches if j not in kept]
    anchors = [0, *kept] if class_absorbs and rows.class_token else kept

    members = {i: [i] for i in (*range(rows.first), *kept)}
    for j, anchor in nearest(rows, others, anchors).items():
        members[anchor].append(j)
    return merged(rows, list(members.items()), rows.weight)


step = padding_first(act)
