"""The order in which the units of one site leave, in steps that keep the number left a multiple of the alignment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.structure.plan import ModelPart, SiteKind

if TYPE_CHECKING:
    from torch import Tensor

LANES = 8  # a head count is aligned so that all heads together have a multiple of this many lanes


@dataclass(frozen=True)
class RemovalOrder:
    """`order`: units as they leave; after step j, counts[j] of them are gone; counts[0] is 0."""

    part: ModelPart
    block: int
    kind: SiteKind
    order: tuple[int, ...]
    counts: tuple[int, ...]

    def kept(self, steps: int) -> tuple[int, ...]:
        """Units that stay after so many steps, ascending."""
        return tuple(sorted(self.order[self.counts[steps] :]))

    def sums(self, values: Tensor) -> Tensor:
        """Sum of a value per unit over each step's units: [..., units] -> [..., steps]."""
        total = values[..., list(self.order)].cumsum(dim=-1)
        ends = total[..., [count - 1 for count in self.counts[1:]]]
        return torch.diff(ends, dim=-1, prepend=torch.zeros_like(ends[..., :1])) if ends.shape[-1] else ends


def alignment(kind: SiteKind, align: int, width: int) -> int:
    """Units that leave together: `align` channels, or the fewest head groups of `width` lanes that make a multiple of 8 lanes."""
    return align if kind == "mlp" else LANES // math.gcd(LANES, width)


def removal_order(part: ModelPart, block: int, kind: SiteKind, scores: Tensor, step: int) -> RemovalOrder:
    """Least important first, ties the higher index first; at least `step` units stay, or all where there are fewer."""
    units = len(scores)
    backwards = torch.sort(scores.flip(0), stable=True).indices
    order = tuple((units - 1 - backwards).tolist())
    first = units % step or step
    counts = (0, *range(first, units - step + 1, step))
    return RemovalOrder(part, block, kind, order, counts)
