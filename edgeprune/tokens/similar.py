"""Likeness of tokens: cosine of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch

if TYPE_CHECKING:
    from torch import Tensor


_COARSE, _FINE = 2.0**11, 2.0**18  # one over the last places of the two parts of an exact product
_SCALES = 64


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


def order_among(rows: Tensor) -> Tensor:
    """cos * |cos| of every two rows [..., n, C], the same to the last bit on every machine that computes in float32: [..., n, n].

    For choices in which one swap of near equals changes all that follow. Off by about 1e-6; squared because roots are not rounded
    alike everywhere. Rows are scaled by a power of two to a length of 1/2 to 1 and parted into two fixed-point parts so short that no
    sum of their products needs more than float32's 24 bits in any order: for up to 4096 channels sums have 22 binary places below 1
    (high * high), 29 below 2^-6 (high * low) and 36 below 2^-12 (low * low).
    """
    powers = torch.tensor([2.0**-i for i in range(-_SCALES, _SCALES + 1)])
    exponent = torch.clamp(torch.log2(torch.linalg.vector_norm(rows, dim=-1)), -_SCALES, _SCALES)
    scaled = rows * powers[torch.ceil(exponent).to(torch.int64) + _SCALES][..., None]
    high = torch.round(scaled * _COARSE) / _COARSE
    low = torch.round((scaled - high) * _FINE) / _FINE
    across = high @ low.transpose(-1, -2)
    product = high @ high.transpose(-1, -2) + (across + across.transpose(-1, -2)) + low @ low.transpose(-1, -2)
    squared = (high * high).sum(dim=-1) + 2 * (high * low).sum(dim=-1) + (low * low).sum(dim=-1)
    squared = torch.clamp(squared, min=1e-12)
    return product * product.abs() / (squared[..., :, None] * squared[..., None, :])
