"""Which budgets and methods a bundle holds, and the selection that a request means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from edgeprune_runtime.errors import BudgetError
from edgeprune_runtime.spec import Manifest, SelectionSpec


def budgets(manifest: Manifest) -> tuple[str, ...]:
    """Budgets of the bundle's own method, as the user wrote them at export."""
    return tuple(dict.fromkeys(s.budget for s in manifest.selections if s.own))


def methods(manifest: Manifest, budget: str) -> tuple[str, ...]:
    """Methods at this budget, the bundle's own first."""
    return tuple(dict.fromkeys(s.method for s in manifest.selections if s.budget == budget))


def budget_label(manifest: Manifest, budget: str | float | int) -> str:
    """The bundle's own spelling of a budget. Raises BudgetError for one it does not hold."""
    label, held = label_of(budget), budgets(manifest)
    if label not in held:
        raise BudgetError(f"this bundle has no budget {label!r}; it has {', '.join(held)}. Export again to add one")
    return label


def selection(manifest: Manifest, budget: str | float | int | None, method: str | None, tokens: int) -> SelectionSpec:
    """The selection for a picture of so many visual tokens, padding included; None means the first budget, the bundle's own method."""
    held = require_held(manifest, budget, method)
    if found := next((one for one in held if one.tokens in (None, tokens)), None):
        return found
    raise BudgetError(
        f"budget {held[0].budget} of this bundle is for pictures of {', '.join(str(one.tokens) for one in held)} visual tokens, "
        f"this one has {tokens}; export the bundle again"
    )


def require_held(manifest: Manifest, budget: str | float | int | None, method: str | None) -> tuple[SelectionSpec, ...]:
    """The selections of a budget (None: the first) and method (None: the bundle's own), one per number of visual tokens where that counts.

    Raises BudgetError where there are none.
    """
    label = budgets(manifest)[0] if budget is None else budget_label(manifest, budget)
    named = [one for one in manifest.selections if (one.method == method if method else one.own)]
    if found := tuple(one for one in named if one.budget == label):
        return found
    raise BudgetError(no_method(method or "", methods(manifest, label), f" at budget {label}"))


def no_method(name: str, held: Sequence[str], where: str = "") -> str:
    """A sentence about a method that the bundle does not hold: which it holds, and how it gets another."""
    if tuple(held) == ("full",):
        return f"this bundle has no method {name!r}{where}, which drops nothing; it has full: leave the method out"
    again = f"export again with --method {name} for another" if name != "full" else "full is that of budget 1.0"
    return f"this bundle has no method {name!r}{where}; it has {', '.join(held)}; {again}"


class OfPicture(TypedDict):
    """What `Model.see` takes of an `Asked`."""

    budget: str
    tiles: int | None
    method: str | None


class Asked(NamedTuple):
    """A budget; at most how many tiles beside the overview a picture is shown on, None: as many as the model takes; a method, None: the
    bundle's own; what stays at each cut inside the language model, "none": nobody leaves.
    """

    budget: str
    tiles: int | None
    method: str | None = None
    inside: str = "none"

    @property
    def of_picture(self) -> OfPicture:
        """Of these, what `Model.see` takes."""
        return {"budget": self.budget, "tiles": self.tiles, "method": self.method}


def on_tiles(budget: str, tiles: int | None) -> str:
    """One name for both, as tables have it: "0.2", "0.2 on 4 tiles", "0.2 on one view"."""
    if tiles is None:
        return budget
    return f"{budget} on one view" if tiles == 0 else f"{budget} on {tiles} tiles"


def by_method(budget: str, method: str) -> str:
    """One name for a budget and a method that is not the bundle's own: "divprune@0.2"."""
    return f"{method}@{budget}"


def staying(budget: str, inside: str) -> str:
    """One name for a budget and what stays at the cuts inside the language model: "0.2, inside 64,16"; where nobody leaves, the budget's."""
    return budget if inside == "none" else f"{budget}, inside {inside}"


def asked_for(name: str) -> Asked:
    """What such a name stands for: "0.2", "0.2 on 4 tiles", "divprune@0.2 on one view", "0.2, inside 64,16 on one view"."""
    match = re.fullmatch(r"(?:([^@]+)@)?(.+?)(?:, inside (\S+))?(?: on (?:(one view)|(\d+) tiles))?", name)
    if match is None:
        return Asked(name, None)
    tiles = 0 if match[4] else int(match[5]) if match[5] else None
    return Asked(match[2], tiles, match[1], match[3] or "none")


def label_of(budget: str | float | int) -> str:
    """The manifest's spelling of a budget: 0.2, "0.20" and .2 are "0.2"; 1 and 1.0 are "1.0"; 576 is "576"."""
    try:
        value = float(budget)
    except (ValueError, TypeError, OverflowError):
        return str(budget)
    return "1.0" if value == 1 else f"{value:.0f}" if value.is_integer() else f"{value:g}"
