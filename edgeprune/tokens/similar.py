"""Likeness of tokens: cosine of their rows."""

from __future__ import annotations

import torch
from torch import Tensor


def unit(rows: Tensor) -> Tensor:
    """Rows [..., C] at length one: x / max(|x|, 1e-12). Finite whatever finite rows hold: an overflowing length gives zeros."""
    return rows / torch.clamp(torch.linalg.vector_norm(rows, dim=-1, keepdim=True), min=1e-12)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every row of a [..., n, C] with every row of b [..., m, C]: [..., n, m]."""
    return unit(a) @ unit(b).transpose(-1, -2)


def among(rows: Tensor) -> Tensor:
    """Cosine of every two rows [..., n, C]: [..., n, n]."""
    long = unit(rows)
    return long @ long.transpose(-1, -2)
