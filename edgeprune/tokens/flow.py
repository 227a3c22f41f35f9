"""FlowCut's score of a tower block, and which tokens leave after it. Shapes: n patches still there, H heads, C = H * d channels."""

from __future__ import annotations

import torch
from torch import Tensor


def block_score(q: Tensor, k: Tensor, v: Tensor, valid: Tensor, heads: int) -> Tensor:
    """How much information flows to and from each patch in one block: [n], -1 for padding.

    q, k, v [n + 1, C] of the block (row 0: class token), valid [n] 0/1. (a + b) * |mean over heads of v_j|_1, where a is the class token's
    attention and b the softmax of v_class . v_j (unscaled), both means over heads with sum 1 over the patches that are no padding.
    """
    rows = q.shape[0]
    queries, keys, values = (x.reshape(rows, heads, -1).transpose(0, 1) for x in (q, k, v))  # [H, n + 1, d]
    attention = (queries[:, :1] @ keys.transpose(1, 2)) * keys.shape[2] ** -0.5
    a = torch.softmax(attention, dim=-1)[:, 0, 1:].mean(dim=0)
    similar = (values[:, :1] @ values[:, 1:].transpose(1, 2))[:, 0]  # [H, n]
    b = torch.softmax(torch.where(valid > 0, similar, -1e9), dim=-1).mean(dim=0)
    size = values[:, 1:].mean(dim=0).abs().sum(dim=-1)
    return torch.where(valid > 0, (_shares(a * valid) + _shares(b * valid)) * size, -1.0)


def survivors(flow: Tensor, count: int) -> Tensor:
    """The `count` patches with the highest score, ascending; equal scores fall to the lower index. flow [n] -> [count]."""
    best = torch.sort(flow, descending=True, stable=True).indices[:count]
    return torch.sort(best, stable=True).values


def counts(ratios: dict[int, float], blocks: int, tokens: int, target: int) -> dict[int, int]:
    """Patches left after each cut: {block: count}, for features from block number `blocks` and entropy ratios e by block.

    n - round((n - target) / sqrt(r) * (1 - e^2)) after blocks with an even number r of blocks to go; the last one cuts to the target.
    """
    found, n = {}, tokens
    for block in range(blocks):
        left = blocks - 1 - block
        if left % 2 == 0 and n > target:
            n = target if left == 0 else n - round((n - target) / left**0.5 * (1 - ratios[block] ** 2))
            found[block] = max(n, target)
    return found


def entropy_ratio(attention: Tensor, valid: Tensor) -> Tensor:
    """H(a) / log n of class attention over the n patches that are no padding. attention [n], valid [n] 0/1 -> []."""
    a = _shares(attention * valid)
    entropy = -(a * torch.log(torch.clamp(a, min=1e-12))).sum()
    return entropy / torch.log(torch.clamp(valid.sum(), min=2.0))


def _shares(values: Tensor) -> Tensor:
    return values / torch.clamp(values.sum(), min=1e-12)
