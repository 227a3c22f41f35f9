"""Expedit: patches are clustered before one block, later blocks see the centres, and behind the last one all patches come back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.later import torch
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut
from edgeprune.tokens.registry.method import Setting

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDS, _WINDOW, _TOP, _FAR = 5, 5, 20, 1e4
_TAU = Setting("tau", 1, "factor of squared distances; 1 in the source for dense prediction, 0.005 for SAM", least=1e-6)


def centres_of(grid: tuple[int, int], tokens: int) -> tuple[int, int]:
    """(rows, columns) of at most so many centres, of about the grid's proportions."""
    height, width = grid
    rows, columns = (max(math.isqrt(side * side * tokens // (height * width)), 1) for side in grid)
    return rows, min(columns, max(tokens // rows, 1))


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """links [p, K]: how every patch is made of centres again."""
    shape, first = centres_of(cut.grid, cut.keep), cut.first
    x, tau = rows.x[first:], cut.settings.get(_TAU.name, _TAU.default)
    centres = torch.from_numpy(_pooling(cut.grid, shape)) @ x
    far = torch.from_numpy(_unreachable(cut.grid, shape))
    shares = torch.zeros(1)
    for _ in range(_ROUNDS):
        shares = torch.softmax(-tau * _distances(centres, x) - _FAR * far, dim=0)
        centres = shares @ x / torch.clamp(shares.sum(dim=1, keepdim=True), min=1e-16)
    back = torch.exp(-tau * _distances(centres, x)).T  # [p, K]
    least = torch.sort(back, dim=1, descending=True, stable=True).values
    back = torch.where(back >= least[:, min(_TOP, back.shape[1]) - 1 :][:, :1], back, 0.0)
    back = back / torch.clamp(torch.linalg.vector_norm(back, dim=1, keepdim=True), min=1e-12)
    count = first + centres.shape[0]
    none = torch.full((centres.shape[0],), -1)
    return rows._replace(
        x=torch.cat([rows.x[:first], centres]),
        place=None if rows.place is None else torch.cat([rows.place[:first], none]),
        alive=None if rows.alive is None else torch.ones(count),
        owner=None if rows.owner is None else torch.cat([torch.arange(first), torch.argmax(shares, dim=0) + first]),
        links=back,
    )


def _finish(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """All patches, each a mixture of its nearest centres."""
    assert rows.links is not None
    x = torch.cat([rows.x[: cut.first], rows.links @ rows.x[cut.first :]])
    numbers = torch.arange(x.shape[0])
    return rows._replace(x=x, place=numbers, alive=torch.ones(x.shape[0]), owner=numbers.clone(), links=None)


def _distances(centres: Tensor, x: Tensor) -> Tensor:
    """Squared: [K, p]."""
    squares = (centres**2).sum(dim=1, keepdim=True) + (x**2).sum(dim=1) - 2 * centres @ x.T
    return torch.clamp(squares, min=0.0)


def _pooling(grid: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Adaptive average pooling as a matrix [K, p]."""
    axes = []
    for extent, parts in zip(grid, shape, strict=True):
        axis = np.zeros((parts, extent))
        for i in range(parts):
            start, end = i * extent // parts, -(-(i + 1) * extent // parts)
            axis[i, start:end] = 1 / (end - start)
        axes.append(axis)
    found: np.ndarray = np.einsum("ay,bx->abyx", *axes).reshape(shape[0] * shape[1], -1).astype(np.float32)
    return found


def _unreachable(grid: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """1 where a centre is too far from a patch's own cell [K, p]."""
    apart = [abs(np.arange(parts)[:, None] - np.arange(n) * parts // n) for n, parts in zip(grid, shape, strict=True)]
    rows, columns = (axis > _WINDOW // 2 for axis in apart)
    found: np.ndarray = (rows[:, None, :, None] | columns[None, :, None, :]).reshape(shape[0] * shape[1], -1)
    return found.astype(np.float32)


def _reachable(tokens: int, grid: tuple[int, int]) -> int:
    """The first number, going down, that is a grid of centres by itself."""
    while (fewer := math.prod(centres_of(grid, tokens))) < tokens:
        tokens = fewer
    return tokens


EXPEDIT = TowerMethod(
    "expedit",
    "patches are clustered on their grid before a block; behind the last block every patch is made of centres again",
    "Expedit (Hourglass ViT), arXiv 2210.01035, the SAM repository",
    evidence="code read",
    differs="for towers that attend to the whole tile, without windows",
    settings=(_TAU,),
    step=_step,
    finish=_finish,
    site="before",
    once=True,
    reachable=_reachable,
    looks=False,
    steady=False,
)
