"""A loop of dependent steps with a constant number of rounds: plain Python when run, one ONNX Scan when exported.

Unrolled, a greedy choice of 576 tokens would be thousands of nodes; as a Scan it is about ten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from edgeprune.later import torch

if TYPE_CHECKING:
    from torch import Tensor

Carry: TypeAlias = "tuple[Tensor, ...]"


def repeat(step: Callable[[Tensor, Carry], Carry], carry: Carry, rounds: int) -> Carry:
    """carry = step(i, carry) for i = 0 .. rounds - 1. Shapes and dtypes of `carry` never change; i is a [] int64 tensor."""
    if rounds == 0 or not torch.compiler.is_exporting():
        for i in range(rounds):
            carry = step(torch.tensor(i), carry)
        return carry
    from torch._higher_order_ops.scan import scan

    def round_(state: list[Tensor], i: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        # A result that is one of the inputs may not be returned as it is, and a Scan must have an output per round.
        return [value.clone() for value in step(i, tuple(state))], [i.clone()]

    final, _ = scan(round_, list(carry), torch.arange(rounds))
    return tuple(final)
