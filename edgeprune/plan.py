"""What to keep, as data: budgets, and what a method is told of a token plan (`edgeprune_runtime.spec.TokenPlan`).

A budget is a keep ratio (0.2) or a count (576). Either way it becomes one integer K, the number of visual tokens the language model
sees for every picture that has that many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeprune.errors import PlanError


@dataclass(frozen=True)
class Budget:
    """One budget as the user wrote it (`label`), as a ratio of the candidates or as a count."""

    label: str
    ratio: float | None
    count: int | None

    def keep(self, candidates: int) -> int:
        """K for a picture or model with this many candidate tokens; at least 1, never more than there are."""
        if self.count is not None:
            return min(self.count, candidates)
        assert self.ratio is not None
        return min(candidates, max(1, round(self.ratio * candidates)))

    def keep_ratio(self, candidates: int) -> float:
        """The share that it keeps of this many candidates, not rounded to whole tokens."""
        if self.ratio is not None:
            return self.ratio
        assert self.count is not None
        return self.count / candidates

    @property
    def is_full(self) -> bool:
        return self.ratio == 1.0


def budget_from_text(text: str) -> Budget:
    """Read `0.2` (keep ratio, above 0 up to 1) or `576` (token count); `1` means the whole, as `1.0` does."""
    try:
        value = float(text)
    except ValueError as error:
        raise PlanError(
            f"budget {text!r} is not a number; give a keep ratio such as 0.2 or a token count such as 576"
        ) from error
    if 0 < value <= 1:
        return Budget(f"{value:g}" if value < 1 else "1.0", value, None)
    if value > 1 and value.is_integer():
        return Budget(str(int(value)), None, int(value))
    raise PlanError(f"budget {text!r} is neither a keep ratio in (0, 1] nor a whole token count; try 0.2 or 576")


def settings_from_text(pairs: Sequence[str]) -> dict[str, float]:
    """Read `name=number` pairs. Raises PlanError for anything else."""
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise PlanError(f"setting {pair!r} is not NAME=NUMBER; write for example --set window=7") from error
    return found


@dataclass(frozen=True)
class MethodPlan:
    """What a method is told: its settings, and the vision layers of the model that it works on.

    feature_layer  the layer whose output is used and whose class-token attention ranks tokens
    last_layer     the last layer of the tower
    settings       numbers by name; what is absent has its default
    class_token    whether the tower has one
    """

    feature_layer: int = 0
    last_layer: int = 0
    settings: Mapping[str, float] = field(default_factory=dict)
    class_token: bool = True
