"""A pre-norm vision transformer as arrays: made at random, or read from transformers' ViTModel; random rows for one cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .rows import Floats


@dataclass(frozen=True, eq=False)
class Linear:
    weight: Floats  # [out, in]
    bias: Floats  # [out]

    def __call__(self, x: Floats) -> Floats:
        return np.asarray(x @ self.weight.T + self.bias)


@dataclass(frozen=True, eq=False)
class Norm:
    weight: Floats  # [C]
    bias: Floats  # [C]
    eps: float

    def __call__(self, x: Floats) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.eps)
        return np.asarray(centred / spread * self.weight + self.bias)


@dataclass(frozen=True, eq=False)
class Block:
    norm1: Norm
    q: Linear
    k: Linear
    v: Linear
    out: Linear
    norm2: Norm
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True, eq=False)
class Tower:
    blocks: Sequence[Block]
    norm: Norm | None  # the final one; None where features are taken before it
    heads: int
    class_token: bool = True
    activation: str = "gelu"  # or "quick_gelu" (CLIP)


def activated(x: Floats, kind: str) -> Floats:
    """Exact GELU, or CLIP's x * sigmoid(1.702 x)."""
    if kind == "quick_gelu":
        return np.asarray(x / (1 + np.exp(-1.702 * x)))
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2))))


def drawn(
    seed: int, *, blocks: int, width: int, heads: int, hidden: int, class_token: bool = True, scale: float = 0.5
) -> Tower:
    """Random weights, large enough that attention is not flat."""
    rng = np.random.default_rng(seed)

    def linear(out: int, into: int) -> Linear:
        return Linear(rng.normal(0, scale, (out, into)), rng.normal(0, 0.1, out))

    def norm() -> Norm:
        return Norm(1 + rng.normal(0, 0.1, width), rng.normal(0, 0.1, width), 1e-6)

    def block() -> Block:
        q, k, v, out = (linear(width, width) for _ in range(4))
        return Block(norm(), q, k, v, out, norm(), linear(hidden, width), linear(width, hidden))

    return Tower([block() for _ in range(blocks)], norm(), heads, class_token)


def reading(seed: int, n: int, *, channels: int = 6, width: int = 8) -> tuple[Floats, Floats, Floats, Floats]:
    """x [n, channels] and q, k, v [n, width] at random."""
    rng = np.random.default_rng(seed)
    x, q, k, v = (rng.normal(size=(n, c)) for c in (channels, width, width, width))
    return x, q, k, v


def of_transformers(state: Mapping[str, Any], heads: int, eps: float) -> Tower:
    """The blocks and the final norm of transformers' ViTModel (version 5) from its state dict of torch tensors."""
    found = {name: np.asarray(value.numpy(), dtype=np.float64) for name, value in state.items()}

    def linear(name: str) -> Linear:
        return Linear(found[f"{name}.weight"], found[f"{name}.bias"])

    def norm(name: str) -> Norm:
        return Norm(found[f"{name}.weight"], found[f"{name}.bias"], eps)

    def block(at: str) -> Block:
        q, k, v, out = (linear(f"{at}.attention.{part}_proj") for part in "qkvo")
        before, after = norm(f"{at}.layernorm_before"), norm(f"{at}.layernorm_after")
        return Block(before, q, k, v, out, after, linear(f"{at}.mlp.fc1"), linear(f"{at}.mlp.fc2"))

    count = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("layers."))
    return Tower([block(f"layers.{i}") for i in range(count)], norm("layernorm"), heads)
