"""ToMe (repository facebookresearch/ToMe, commit af95e4b), site `between` attention and MLP, sizes carried.

Metric: head mean of the keys of the block, cosine. A = even places of the list as it arrives, B = odd places: the
class token is place 0, so it is in A, and patches 1, 3, 5 .. of the list (0-based patches 0, 2, 4 ..) are in B. Every
row of A has its most similar row of B; the r rows of A with the highest such value join theirs:

    x_b = sum size x / sum size,   size_b = sum size

The class token never joins (and nothing can join it, being in A). With a distillation token (`distilled`, row 1)
nothing joins that either. r = arriving patches - count, at most (n - protected) // 2: a single cut cannot remove more
than that, and the step then has more rows than asked for. Later blocks add log(size) to the logits of their keys.

Order: [rows of A that did not join, all rows of B]. With a class token the first part is by rising index, without one
it is by falling similarity, as in the source; the next cut's even and odd places are those of this order.
Variant (not the paper's): `all_heads` compares the keys of all heads side by side instead of their mean.
Open in the facts: how a share becomes r (here the count that stays is rounded up; this project's trial took r = 59, 41,
29 for 0.7, which is rounding to the nearest), and padding (see `rows`).
"""

from __future__ import annotations

from .rows import Rows, Step, cosine, head_mean, highest, merged, padding_first


def act(rows: Rows, count: int, *, all_heads: bool = False, distilled: bool = False) -> Step:
    protected = rows.first + int(distilled)
    r = min(len(rows.patches) - count, (rows.n - protected) // 2)
    metric = rows.k if all_heads else head_mean(rows.k, rows.heads)
    a_side = list(range(0, rows.n, 2))
    b_side = list(range(1, rows.n, 2))

    value = dict.fromkeys(a_side, float("-inf"))
    target = dict.fromkeys(a_side, b_side[0])
    for i in a_side:
        if i < rows.first:
            continue
        for j in b_side:
            if distilled and j == 1:
                continue
            likeness = cosine(metric[i], metric[j])
            if likeness > value[i]:  # equal: the lower row of B
                value[i], target[i] = likeness, j

    ranked = highest(a_side, value)
    joining, staying = ranked[:r], ranked[r:]
    if rows.class_token:
        staying = sorted(staying)
    members = {j: [j] for j in b_side}
    for i in sorted(joining):
        members[target[i]].append(i)
    groups = [(i, [i]) for i in staying] + [(j, members[j]) for j in b_side]
    return merged(rows, groups, rows.weight)


step = padding_first(act)
