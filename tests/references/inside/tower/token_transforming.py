"""Token Transforming (repository AuroraZengfh/TokenTransforming, commit dedcac5: a README and no code), site `between`.

Only the idea is published: X' = W X with a dense W, so that a token may go into several outputs. The rest is a
reconstruction, with free numbers, and must not be quoted as the paper's:

    anchors = the M patches with the highest class attention (attention received without a class token)
    S = cos(x_anchor, x_j) [M, n],   G = softmax over anchors of S / tau: every token hands out mass 1
    W = diag(1 / (G m)) G diag(m),   x' = W x,   m' = G m,   m = sizes, starting at 1

The class token passes through, takes nothing and gives nothing. Later blocks add log(m) to the logits of their keys.
An anchor hands its own mass out like any other token, so rows of anchors mix too. For dense outputs G^T undoes the
cut (`undone`); G is handed back in `saved`.

tau -> 0 is a hard join to the most similar anchor. It is `absorb` exactly where similarity is measured on the same
vectors: `metric="keys"` takes the keys of all heads, as absorb does; the reconstruction says the rows x.
`owner` is the anchor that gets most of a token (equal: the lower one), for pictures only. tau is open (0.1 here).
A cut that need not remove anything (or only padding) mixes nothing here, although G would not be the identity.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .rows import Floats, Rows, Step, cosine, dropped, highest, importance, padding_first


def shares(rows: Rows, anchors: list[int], tau: float, metric: str) -> Floats:
    """[M, p] G: the share of every patch that goes to every anchor; columns sum to 1."""
    vectors = {"rows": rows.x, "keys": rows.k}[metric]
    columns = []
    for j in rows.patches:
        logits = np.array([cosine(vectors[a], vectors[j]) for a in anchors]) / tau
        parts = np.exp(logits - logits.max())
        columns.append(parts / parts.sum())
    return np.stack(columns, axis=1)


def act(rows: Rows, count: int, *, tau: float = 0.1, metric: str = "rows") -> Step:
    anchors = sorted(highest(rows.patches, importance(rows))[:count])
    g = shares(rows, anchors, tau, metric)
    mass = rows.weight[rows.first :]
    new_mass = g @ mass
    mixed = (g * mass[None, :]) @ rows.x[rows.first :] / new_mass[:, None]
    owner = np.arange(rows.n)
    for number, j in enumerate(rows.patches):
        owner[j] = rows.first + highest(range(count), g[:, number])[0]
    return replace(
        dropped(rows, anchors),
        x=np.vstack([rows.x[: rows.first], mixed]),
        size=np.concatenate([rows.weight[: rows.first], new_mass]),
        owner=owner,
        saved={"shares": g},
    )


def undone(x: Floats, saved: dict[str, Floats], class_token: bool = True) -> Floats:
    """[M rows, C] -> [n rows, C]: every patch is the mean of the anchors by the shares that it gave them."""
    first = int(class_token)
    return np.vstack([x[:first], saved["shares"].T @ x[first:]])


step = padding_first(act)
