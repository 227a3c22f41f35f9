"""What the parity gate tolerates, and the list of what it has compared; the first comparison that fails ends the export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgeprune.errors import ParityError
from edgeprune_runtime.spec import ParityCheck


def largest(difference: np.ndarray) -> float:
    return float(np.abs(difference).max())


def typical(difference: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))


@dataclass(frozen=True)
class ParityLimits:
    """Differences allowed, as shares of the reference's own root mean square; `norm` says how a difference is summed up."""

    pixels: float
    attention: float
    features: float
    kept: float
    visual: float
    logits: float
    greedy: float
    norm: Callable[[np.ndarray], float] = largest


# fp32 sums in another order, so the largest difference counts. int8 changes every number, and single ones by much: its limits are on
# the typical difference and only catch what is broken; its quality is for `edgeprune eval`.
LIMITS = {
    "fp32": ParityLimits(pixels=0.0, attention=1e-3, features=1e-3, kept=0.99, visual=1e-3, logits=5e-3, greedy=5e-3),
    **dict.fromkeys(
        ("int8", "int4"),
        ParityLimits(
            pixels=0.0, attention=0.7, features=0.5, kept=0.5, visual=0.5, logits=0.7, greedy=3.0, norm=typical
        ),
    ),
}


#: Typical difference of what follows from tokens of which near ties decide where they go, as a share of the reference.
NEAR_TIES = 0.05


@dataclass
class Checks:
    """Comparisons made so far under `limits`."""

    limits: ParityLimits
    made: list[ParityCheck] = field(default_factory=list)

    def at_most(self, name: str, budget: str, value: float, limit: float) -> None:
        """Raises ParityError for a value above the limit."""
        self._add(ParityCheck(name, budget, value, limit, "at most", value <= limit))

    def at_least(self, name: str, budget: str, value: float, limit: float) -> None:
        """Raises ParityError for a value below the limit."""
        self._add(ParityCheck(name, budget, value, limit, "at least", value >= limit))

    def _add(self, check: ParityCheck) -> None:
        self.made.append(check)
        if not check.passed:
            at = f" at budget {check.budget}" if check.budget else ""
            raise ParityError(
                f"graph and eager reference differ in {check.name}{at}: {check.value:.3g}, allowed {check.rule} {check.limit:g}; nothing "
                "was sealed. Report this with the checkpoint's config.json, or export with --no-parity at your own risk"
            )


def relative(ours: np.ndarray, eager: np.ndarray, norm: Callable[[np.ndarray], float]) -> float:
    """The difference, summed up by `norm`, as a share of the reference's root mean square."""
    return norm(ours - eager) / (typical(eager) or 1.0) if eager.size else 0.0
