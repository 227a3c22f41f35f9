"""What a cut inside the tower reads and hands back, and the rules that all references of this folder share.

Written from the descriptions of the methods only: plain loops, float64, one picture (or tile) at a time. Nothing here
is meant to be fast.

A cut sees n rows. Row 0 is the class token where there is one; the others are patches. Symbols: C width, H heads,
d head width, `keep` above 0 up to 1 is a share of the *patches* that arrive (the class token is not counted) and a
whole number above 1 a count of patches; a share is rounded up, as in EViT's published code, for all methods (for the
others no source says how; a test can always hand over a count).

Choices of this project, the same for all methods, which no paper states:
- Equal values fall to the row that arrived lower, whether it is chosen to stay or chosen to leave.
- Padding (`valid` false) leaves first, of equals the higher row, is merged into nothing and is no term of a sum over
  rows. Where padding is enough to reach the count the method itself does not act. Otherwise no padding is left and
  the method acts on what is left as if it had arrived alone (ToMe's even and odd places too), with one difference: the
  attention map is the one that the block computed, padding among its keys, and its rows are not made to sum to 1.
- A cut that need not remove anything changes nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """What a method reads: n rows without padding (or with padding that the method need not know of)."""

    x: Floats  # [n, C] rows to reduce, as they are at the site of the cut
    q: Floats  # [n, H * d] of the block, heads side by side, not scaled
    k: Floats  # [n, H * d]
    v: Floats  # [n, H * d]
    heads: int
    attention: Floats  # [H, n, n] the block's own map: softmax over keys of q k / sqrt(d) (+ log size of the key)
    class_token: bool
    size: Floats | None = None  # [n] patches that a row stands for; None: nothing was ever merged
    place: Ints | None = None  # [n] number of the patch whose place the row has; -1: the class token, a fused row
    score: Floats | None = None  # [n] carried from block to block (FlowCut)
    graph: Floats | None = None  # [p, p] between patches (GTP-ViT)

    @property
    def n(self) -> int:
        return len(self.x)

    @property
    def first(self) -> int:
        """The first patch."""
        return int(self.class_token)

    @property
    def patches(self) -> list[int]:
        return list(range(self.first, self.n))

    @property
    def weight(self) -> Floats:
        """Sizes; ones where nothing was merged yet."""
        return np.ones(self.n) if self.size is None else self.size

    def take(self, stay: Sequence[int]) -> Rows:
        graph = self.graph
        if graph is not None:
            numbers = [i - self.first for i in stay if i >= self.first]
            graph = graph[np.ix_(numbers, numbers)]
        return replace(
            self,
            x=self.x[stay],
            q=self.q[stay],
            k=self.k[stay],
            v=self.v[stay],
            attention=self.attention[:, stay][:, :, stay],
            size=None if self.size is None else self.size[stay],
            place=None if self.place is None else self.place[stay],
            score=None if self.score is None else self.score[stay],
            graph=graph,
        )


@dataclass(frozen=True, eq=False)
class Step:
    """What a cut hands back: m rows, in the order in which they go on."""

    x: Floats  # [m, C]
    index: Ints  # [m] arriving row whose place the row takes: itself, or its anchor; -1: it has no place of its own
    owner: Ints  # [n] for every arriving row the row (0 .. m - 1) that it is now part of; -1: it left
    size: Floats | None = None  # [m]
    place: Ints | None = None  # [m]
    valid: NDArray[np.bool_] | None = None  # [m] None if none was given
    score: Floats | None = None  # [m]
    graph: Floats | None = None  # [p', p']
    attention: Floats | None = None  # [H, m, m] map that the block is to use instead of computing one (MCTF)
    saved: dict[str, Floats] | None = None  # what undoing the cut at the end needs


Act = Callable[..., Step]


def written(number: float | Fraction) -> Fraction:
    """The number as it is written: 0.7 means 7/10."""
    return number if isinstance(number, Fraction) else Fraction(str(number))


def patch_count(patches: int, keep: float | Fraction) -> int:
    """How many of the arriving patches a `keep` means; never more than there are."""
    if keep <= 0:
        raise ValueError(f"keep is {keep}; a tower keeps at least one patch")
    if keep <= 1:
        return math.ceil(written(keep) * patches)
    if keep != int(keep):
        raise ValueError(f"keep is {keep}; above 1 it is a whole number of patches")
    return min(int(keep), patches)


def attention_map(q: Floats, k: Floats, heads: int, size: Floats | None = None) -> Floats:
    """[H, n, n]: softmax over keys of q k / sqrt(d), with log(size) of the key added before the softmax if given."""
    width = q.shape[1] // heads
    maps = []
    for h in range(heads):
        columns = slice(h * width, (h + 1) * width)
        logits = q[:, columns] @ k[:, columns].T / math.sqrt(width)
        if size is not None:
            logits = logits + np.log(size)[None, :]
        parts = np.exp(logits - logits.max(axis=1, keepdims=True))
        maps.append(parts / parts.sum(axis=1, keepdims=True))
    return np.stack(maps)


def class_attention(rows: Rows) -> list[float]:
    """[n] head mean of the class token's row of the map, its own column included."""
    if not rows.class_token:
        raise ValueError("the method ranks by the class token's attention, and there is no class token")
    return [math.fsum(rows.attention[h, 0, j] for h in range(rows.heads)) / rows.heads for j in range(rows.n)]


def attention_received(rows: Rows) -> list[float]:
    """[n] mean over heads and over the patches that ask (the class token does not) of a column of the map."""
    asked = len(rows.patches) * rows.heads
    return [
        math.fsum(rows.attention[h, i, j] for h in range(rows.heads) for i in rows.patches) / asked
        for j in range(rows.n)
    ]


def importance(rows: Rows) -> list[float]:
    """Class attention, or attention received in a tower without a class token."""
    return class_attention(rows) if rows.class_token else attention_received(rows)


def highest(candidates: Iterable[int], score: Sequence[float] | dict[int, float] | Floats) -> list[int]:
    """Candidates by falling score, equal scores by rising number."""
    return sorted(candidates, key=lambda i: (-float(score[i]), i))


def cosine(a: Floats, b: Floats) -> float:
    return float(a @ b) / max(math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)), 1e-12)


def head_mean(vectors: Floats, heads: int) -> Floats:
    """[n, H * d] -> [n, d]."""
    n, width = vectors.shape
    return np.asarray(vectors.reshape(n, heads, width // heads).mean(axis=1))


def dropped(rows: Rows, stay: Sequence[int]) -> Step:
    """Some patches stay as they are, in the order given, behind the class token; the others leave."""
    index = [*range(rows.first), *stay]
    owner = np.full(rows.n, -1)
    for row, i in enumerate(index):
        owner[i] = row
    return Step(rows.x[index], np.array(index), owner, None if rows.size is None else rows.size[index])


def merged(rows: Rows, groups: Sequence[tuple[int, Sequence[int]]], weight: Floats) -> Step:
    """One row per group (anchor, members): sum of weight x over sum of weight, size the sum of sizes."""
    owner = np.full(rows.n, -1)
    x, size = [], []
    for row, (_, members) in enumerate(groups):
        total = math.fsum(weight[i] for i in members)
        x.append(sum(weight[i] * rows.x[i] for i in members) / total)
        size.append(math.fsum(rows.weight[i] for i in members))
        for i in members:
            owner[i] = row
    return Step(np.stack(x), np.array([anchor for anchor, _ in groups]), owner, np.array(size))


def padding_first(act: Act) -> Act:
    """`act(rows, count, **settings)` as a step that knows of shares, padding, places and what is carried."""

    @functools.wraps(act)
    def step(
        x: Floats,
        q: Floats,
        k: Floats,
        v: Floats,
        heads: int,
        keep: float | Fraction,
        *,
        class_token: bool = True,
        size: Floats | None = None,
        valid: NDArray[np.bool_] | None = None,
        place: Ints | None = None,
        score: Floats | None = None,
        graph: Floats | None = None,
        proportional: bool = True,
        **settings: Any,
    ) -> Step:
        x, q, k, v = (np.asarray(a, dtype=np.float64) for a in (x, q, k, v))
        size = None if size is None else np.asarray(size, dtype=np.float64)
        n = len(x)
        maps = attention_map(q, k, heads, size if proportional else None)
        rows = Rows(x, q, k, v, heads, maps, class_token, size, place, score, graph)
        count = patch_count(len(rows.patches), keep)
        leaving = len(rows.patches) - count
        padding = [] if valid is None else [i for i in rows.patches if not valid[i]]
        gone = padding[max(len(padding) - leaving, 0) :]
        there = [i for i in range(n) if i not in gone]
        left = rows.take(there)
        inner = act(left, count, **settings) if leaving > len(gone) else dropped(left, left.patches)

        origin = np.array([*there, -1])  # row -1 of it answers for rows without a place
        index = origin[inner.index]
        owner = np.full(n, -1)
        owner[there] = inner.owner
        kept = [i for i in inner.index if i >= left.first]
        numbers = [i - left.first for i in kept]
        return replace(
            inner,
            index=index,
            owner=owner,
            place=None if place is None else np.where(index < 0, -1, place[index]),
            valid=None if valid is None else np.where(index < 0, True, valid[index]),
            score=None if score is None else np.where(index < 0, 0.0, score[index]),
            graph=None if left.graph is None else left.graph[np.ix_(numbers, numbers)],
        )

    return step
