"""Expedit, Hourglass ViT (repository Expedit-LargeScale-Vision-Transformer, the SAM variant, commit 75a1c30).

Site `before` block alpha; `undone` behind the last block, before the final norm. Patches on a grid of height x width
become h x w centres:

    S_0 = adaptive average pooling; a patch may only belong to centres at most window // 2 cells (Chebyshev) from its own
    5 times: D = squared distance of centres and patches, Q = softmax over centres of -tau D, S = Q x / max(sum Q, 1e-16)

and at the end, with x and S of the cut and Z the centres' rows behind the last block,

    R = exp(-tau max(D, 0)), of every patch what is below its 20th largest becomes 0, divided by its L2 norm (the
    released code) or its sum (the paper's equation, as recalled), patch = R Z

so all patches are back. The "temperature" multiplies. SAM: tau 5e-3; the dense-prediction variant: 1.0. Sizes are no
part of the method. A centre stands for no arriving row: `index` -1; `owner` is the centre with the highest last Q.

Open in the facts, chosen here: the class token passes through both steps unchanged; a patch's own cell is
floor(row h / height), floor(column w / width), also where pooling windows overlap; h and w for a count (`cells`: the
grid's sides times sqrt(count / patches), rounded down; or `shape`); the grid without padding, which is refused.
Windows and relative positions of SAM are not here: rows carry absolute positions.
"""

from __future__ import annotations

import math

import numpy as np

from .rows import Floats, Rows, Step, highest, padding_first


def cells(grid: tuple[int, int], count: int) -> tuple[int, int]:
    """Sides of a reduced grid with at most `count` cells and about the same proportions."""
    height, width = grid
    h, w = (max(math.isqrt(side * side * count // (height * width)), 1) for side in grid)
    return h, min(w, max(count // h, 1))


def pooled(x: Floats, grid: tuple[int, int], shape: tuple[int, int]) -> Floats:
    """[height * width, C] -> [h * w, C] adaptive average pooling: cell r is rows floor(r H / h) .. ceil((r + 1) H / h)."""
    (height, width), (h, w) = grid, shape
    found = []
    for r in range(h):
        for c in range(w):
            ys = range(r * height // h, -(-(r + 1) * height // h))
            xs = range(c * width // w, -(-(c + 1) * width // w))
            found.append(np.mean([x[y * width + z] for y in ys for z in xs], axis=0))
    return np.stack(found)


def reachable(grid: tuple[int, int], shape: tuple[int, int], window: int) -> list[list[int]]:
    """For every patch the centres that it may belong to."""
    (height, width), (h, w) = grid, shape
    found = []
    for y in range(height):
        for z in range(width):
            own_row, own_column = y * h // height, z * w // width
            near = [
                r * w + c
                for r in range(h)
                for c in range(w)
                if max(abs(r - own_row), abs(c - own_column)) <= window // 2
            ]
            found.append(near)
    return found


def distance(a: Floats, b: Floats) -> float:
    """Squared."""
    return float(((a - b) ** 2).sum())


def memberships(x: Floats, centres: Floats, near: list[list[int]], tau: float) -> Floats:
    """[centres, patches] Q: the softmax over the centres near to a patch."""
    q = np.zeros((len(centres), len(x)))
    for j, allowed in enumerate(near):
        logits = np.array([-tau * distance(centres[s], x[j]) for s in allowed])
        parts = np.exp(logits - logits.max())
        q[allowed, j] = parts / parts.sum()
    return q


def act(
    rows: Rows,
    count: int,
    *,
    grid: tuple[int, int],
    shape: tuple[int, int] | None = None,
    rounds: int = 5,
    tau: float = 5e-3,
    window: int = 5,
) -> Step:
    if len(rows.patches) != grid[0] * grid[1]:
        raise ValueError(f"{len(rows.patches)} patches are no whole grid of {grid[0]} x {grid[1]}")
    shape = shape or cells(grid, count)
    x = rows.x[rows.first :]
    centres = pooled(x, grid, shape)
    near = reachable(grid, shape, window)
    for _ in range(rounds):
        q = memberships(x, centres, near, tau)
        centres = (q @ x) / np.maximum(q.sum(axis=1, keepdims=True), 1e-16)
    owner = np.arange(rows.n)
    for j in range(len(x)):
        owner[rows.first + j] = rows.first + highest(range(len(centres)), q[:, j])[0]
    index = np.array([*range(rows.first), *[-1] * len(centres)])
    together = np.vstack([rows.x[: rows.first], centres])
    return Step(together, index, owner, saved={"before": x, "centres": centres})


def undone(
    refined: Floats,
    saved: dict[str, Floats],
    class_token: bool = True,
    *,
    tau: float = 5e-3,
    top: int = 20,
    norm: str = "l2",
) -> Floats:
    """[1 + h w, C] rows behind the last block -> [1 + N, C]. Entries equal to the 20th largest all count."""
    first = int(class_token)
    before, centres = saved["before"], saved["centres"]
    patches = []
    for x in before:
        r = np.array([math.exp(-tau * max(distance(s, x), 0.0)) for s in centres])
        threshold = sorted(r, reverse=True)[min(top, len(r)) - 1]
        r[r < threshold] = 0.0
        scale = math.sqrt(float((r**2).sum())) if norm == "l2" else float(r.sum())
        patches.append((r / max(scale, 1e-12)) @ refined[first:])
    return np.vstack([refined[:first], *patches])


step = padding_first(act)
