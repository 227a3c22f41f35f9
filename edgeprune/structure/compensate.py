"""Least squares after removal: the columns that stay take over what the removed ones gave."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Of the mean diagonal: calibration has few independent tokens, and columns move no further than they support.
RIDGE = 0.3
LEAST = 1e-100  # of a mean diagonal: where nothing was measured the columns stay as they are, and no NaN comes of it


@dataclass
class Moments:
    """Sums over tokens of what goes into an out layer once it is pruned, x [n, K], and what it gave whole, y [n, D] (without bias)."""

    tokens: int
    xx: Tensor  # [K, K]
    yx: Tensor  # [D, K]
    x: Tensor  # [K]
    y: Tensor  # [D]

    @staticmethod
    def empty(kept: int, outputs: int) -> Moments:
        shapes = ((kept, kept), (outputs, kept), (kept,), (outputs,))
        return Moments(0, *(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, x: Tensor, y: Tensor) -> None:
        """More tokens: x [n, K], y [n, D]."""
        self.tokens += len(x)
        self.xx += (x.T @ x).double()
        self.yx += (y.T @ x).double()
        self.x += x.sum(dim=0, dtype=torch.float64)
        self.y += y.sum(dim=0, dtype=torch.float64)


def refit(weight: Tensor, bias: Tensor | None, moments: Moments, ridge: float = RIDGE) -> tuple[Tensor, Tensor | None]:
    """V = W_K + (C - W_K A)(A + ridge mean(diag A) I)^-1, and b + mean(y) - V mean(x) where there is a bias.

    weight [D, K] the columns that stay, as they were; bias [D]. A and C are second moments, centred where there is a bias.
    """
    n = moments.tokens
    a, c = moments.xx / n, moments.yx / n
    if bias is not None:
        a = a - torch.outer(moments.x / n, moments.x / n)
        c = c - torch.outer(moments.y / n, moments.x / n)
    start = weight.detach().double()
    level = ridge * a.diagonal().mean().clamp_min(LEAST)
    moved = start + torch.linalg.solve(a + level * torch.eye(len(a), dtype=a.dtype), (c - start @ a).T).T
    shifted = None if bias is None else bias.detach().double() + moments.y / n - moved @ (moments.x / n)
    return moved.to(weight.dtype), None if shifted is None else shifted.to(weight.dtype)
