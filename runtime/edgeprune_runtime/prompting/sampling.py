"""Choose the next token: greedy, or sampled with temperature and top-p from a seeded generator."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

from edgeprune_runtime.errors import RequestError


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy; top_p keeps the smallest set of tokens whose probability reaches it."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            if not isinstance(value := getattr(self, name), Real) or isinstance(value, bool):
                raise RequestError(f"{name} is {value!r}; expected a number")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise RequestError(f"seed is {self.seed!r}; expected a whole number of at least 0")
        if not 0 <= self.temperature <= 100 or not 0 < self.top_p <= 1:
            raise RequestError(
                f"temperature {self.temperature} and top_p {self.top_p} cannot be used; expected 0 <= temperature <= 100 and 0 < top_p <= 1"
            )
        if self.seed < 0:
            raise RequestError(f"seed {self.seed} cannot be used; expected 0 or more")


class Sampler:
    """One request's stream of choices; equal seeds and logits give equal tokens."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: np.ndarray) -> int:
        """logits [V] -> token id; ties fall to the lower id."""
        if self._sampling.temperature == 0:
            return int(np.argmax(logits))
        wide = logits.astype(np.float64)
        with np.errstate(over="ignore"):  # a temperature near 0 takes every logit but the largest to minus infinity
            weights = np.exp((wide - wide.max()) / self._sampling.temperature)
        order = np.argsort(-weights, kind="stable")
        cumulative = np.cumsum(weights[order] / weights.sum())
        nucleus = order[: int(np.searchsorted(cumulative, self._sampling.top_p)) + 1]
        share = weights[nucleus] / weights[nucleus].sum()
        return int(self._random.choice(nucleus, p=share))
