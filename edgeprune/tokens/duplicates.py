"""Remove near-duplicates from a list, a few per round (VisPruner)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.loop import Carry, repeat
from edgeprune.tokens.select import descending

if TYPE_CHECKING:
    from torch import Tensor


def distinct(cosine: Tensor, ranked: Tensor, *, skip: Tensor, length: Tensor, until: Tensor, step: int) -> Tensor:
    """What is left of each tile's list when only until[t] of length[t] tokens may stay: [T, N] bool.

    cosine [T, N, N]; the list is ranked [T, N] without its first skip[t] tokens. Each round parts it into entries 0, 2, 4, ... (A)
    and 1, 3, 5, ... (B), orders A by the likeness to the nearest of B, drops the first of A, at most `step`, and goes on with A, B.
    """
    place = torch.arange(ranked.shape[1])

    def round_(i: Tensor, carry: Carry) -> Carry:
        tokens, length = carry
        listed = place < length[:, None]
        in_a, in_b = listed & (place % 2 == 0), listed & (place % 2 == 1)
        near = torch.gather(_nearest(cosine, tokens, in_b), 1, tokens)
        order = descending(torch.where(in_a, near, torch.where(in_b, -8.0, -16.0)))
        drop = torch.minimum(torch.clamp(length - until, min=0, max=step), in_a.sum(dim=1))
        return _from(torch.gather(tokens, 1, order), drop), length - drop

    tokens, length = repeat(round_, (_from(ranked, skip), length), _rounds(ranked.shape[1], step))
    return _marked(tokens, place < length[:, None])


def _nearest(cosine: Tensor, tokens: Tensor, wanted: Tensor) -> Tensor:
    """Highest cosine of every token with those listed at wanted places: [T, N]; -4, less than any cosine, without one."""
    return torch.where(_marked(tokens, wanted)[:, None], cosine, -4.0).amax(dim=2)


def _marked(tokens: Tensor, places: Tensor) -> Tensor:
    """A mask over places of a list [T, N] as a mask over its tokens."""
    return torch.zeros_like(places).scatter(1, tokens, places)


def _from(tokens: Tensor, start: Tensor) -> Tensor:
    """Lists [T, N] turned so that place start[t] comes first."""
    size = tokens.shape[1]
    return torch.gather(tokens, 1, (torch.arange(size) + start[:, None]) % size)


def _rounds(length: int, step: int) -> int:
    """Rounds until the longest list is empty: no list needs more."""
    rounds = 0
    while length > 0:
        length -= min(step, (length + 1) // 2)
        rounds += 1
    return rounds
