"""Choices that depend on the choices before: one loop with a constant number of rounds.

Padding stands at a finite worst value and a chosen token at a worse one, so padding is reached only when no candidate is left and
nothing is ever chosen twice. torch and ONNX both document that argmax takes the first of equals. TensorRT has it for two dimensions and
more only, and no loop in a loop; hence `[None]` and the blocks that are written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.loop import Carry, repeat

if TYPE_CHECKING:
    from torch import Tensor

_WORST = 1e30
_FLOOR = 1e-5  # CDPruner's lower bound of what is left of a token


def least_alike(
    cosine: Tensor, first: Tensor, candidate: Tensor, keep: int, join: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """`keep` tokens, each the least alike to those before it: [n] bool.

    cosine [n, n]; first [] int64, the token to start with; candidate [n] bool.
    join makes one number of a token's likeness to all chosen ones: torch.maximum (nearest one) or torch.add (all of them).
    """
    place = torch.arange(cosine.shape[0])

    def take(token: Tensor, likeness: Tensor) -> Tensor:
        row = cosine.index_select(0, token[None])[0]
        return torch.where(place == token, torch.inf, join(likeness, row))

    def step(i: Tensor, carry: Carry) -> Carry:
        (likeness,) = carry
        return (take(torch.argmin(likeness[None], dim=1)[0], likeness),)

    # Any start below every maximum and of no weight in a sum would do; no cosine is below -2.
    start = torch.where(candidate, -2.0 if join is torch.maximum else 0.0, _WORST)
    (likeness,) = repeat(step, (take(first, start),), keep - 1)
    return torch.isinf(likeness)


def covering(gain: Tensor, candidate: Tensor, rounds: int) -> Tensor:
    """Each tile's tokens that together cover the most (MMTok): [T, N] round in which a token was chosen, `rounds` or more if in none.

    gain [T, N, R]: how well token n covers row r. A set covers a row as well as its best member does.
    """
    tiles, tokens, size = gain.shape
    rows = gain.flatten(0, 1)  # a loop may not close over two views of one tensor
    offset, place = torch.arange(tiles) * tokens, torch.arange(tokens)

    def step(i: Tensor, carry: Carry) -> Carry:
        covered, turn = carry
        more = torch.relu(rows.view(tiles, tokens, size) - covered[:, None]).sum(dim=2)
        token = torch.argmax(torch.where(turn < rounds, -2.0, torch.where(candidate, more, -1.0)), dim=1)
        covered = torch.maximum(covered, rows.index_select(0, token + offset))
        return covered, torch.where(place == token[:, None], i, turn)

    start = (torch.zeros(tiles, size), torch.full((tiles, tokens), rounds))
    return repeat(step, start, rounds)[1]


def determinant(kernel: Tensor, itself: Tensor, candidate: Tensor, rounds: int) -> Tensor:
    """Greedy MAP of a determinantal point process in each tile (CDPruner): [T, N] round in which a token was chosen.

    kernel [T, N, N], itself [T, N] its diagonal. What earlier rounds explain is subtracted from the kernel once per block of rounds, so
    that a round looks back on its own block only.
    """
    tiles, tokens, _ = kernel.shape
    size = math.isqrt(rounds) + 1
    offset, place, when = torch.arange(tiles) * tokens, torch.arange(tokens), torch.arange(size)

    def block(i: Tensor, carry: Carry) -> Carry:
        rest, left, turn = carry
        rows = rest.flatten(0, 1)

        def step(j: Tensor, carry: Carry) -> Carry:
            left, turn, past = carry
            worth = torch.where(turn < rounds, -2.0, torch.where(candidate, left, -1.0))
            token = torch.argmax(worth, dim=1)
            most = torch.gather(left, 1, token[:, None])
            explained = torch.gather(past, 2, token[:, None, None].expand(tiles, size, 1)).transpose(1, 2) @ past
            new = rows.index_select(0, token + offset) - explained[:, 0]
            new = new / torch.sqrt(torch.clamp(most, min=_FLOOR))
            past = torch.where((when == j)[:, None], new[:, None], past)
            # The last block may have rounds to spare: they change nothing.
            turn = torch.minimum(turn, torch.where(place == token[:, None], i * size + j, rounds))
            return torch.clamp(left - new * new, min=_FLOOR), turn, past

        left, turn, past = repeat(step, (left, turn, torch.zeros(tiles, size, tokens)), size)
        return rest - past.transpose(1, 2) @ past, left, turn

    carry: Carry = (kernel, itself, torch.full((tiles, tokens), rounds))
    for i in range(-(-rounds // size)):
        carry = block(torch.tensor(i), carry)
    return carry[2]
