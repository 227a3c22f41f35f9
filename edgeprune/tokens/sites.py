"""Where tokens leave: at the encoder's output, which is what `Method.reduce` is for, or earlier, inside the tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from edgeprune.plan import MethodPlan
from edgeprune.tokens.readings import Reduction

if TYPE_CHECKING:
    from torch import Tensor


class Site(NamedTuple):
    """A place in the model at which tokens can leave: after a block of the tower, or at the encoder's output (`after` is None)."""

    place: Literal["tower", "encoder"]
    after: int | None = None


ENCODER = Site("encoder")


class Step(NamedTuple):
    """Tokens leave at `site`, down to `keep`: per tile inside the tower, per picture at the encoder's output."""

    site: Site
    keep: int


class BlockRows(NamedTuple):
    """What a block of the tower makes of the n tokens that are still there, and of the class token in front of them (row 0).

    q, k, v [n + 1, H * d] with biases, valid [n] 0/1 (0: padding)
    """

    q: Tensor
    k: Tensor
    v: Tensor
    valid: Tensor
    heads: int


@dataclass(frozen=True)
class Inside:
    """How tokens leave inside the tower; what is left of a tile goes on through the following blocks.

    steps   (plan, keep, tiles, tokens per tile) -> steps after blocks, in order
    carry   (rows of a block, what was carried so far or None) -> [n]: a number per token, followed from block to block up to the
            feature layer
    reduce  (carried [n], keep) -> Reduction of the n tokens: `index` ascending; tokens that are merged average
    """

    steps: Callable[[MethodPlan, int, int, int], tuple[Step, ...]]
    carry: Callable[[BlockRows, Tensor | None], Tensor]
    reduce: Callable[[Tensor, int], Reduction]
