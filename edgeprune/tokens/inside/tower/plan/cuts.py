"""A plan of cuts on one tower: how many tokens stay where, and why it cannot be, said before any work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from edgeprune.errors import PlanError
from edgeprune.models.spec import TowerSpec
from edgeprune.tokens.inside.tower.method import TowerMethod, TowerSite
from edgeprune.tokens.inside.tower.rows import TowerCut
from edgeprune_runtime.spec import InsideSpec


@dataclass(frozen=True)
class TowerCuts:
    """How tokens leave a tower.

    keep    by block, ascending: tokens that stay there; groups of them where the connector merges patches
    tokens  that a tile has at first, in the same units
    first, grid, merge  as in `TowerCut`
    """

    method: TowerMethod
    keep: Mapping[int, int]
    tokens: int
    first: int
    grid: tuple[int, int]
    merge: int = 1
    settings: Mapping[str, float] = field(default_factory=dict)
    blocks: int = 1

    def at(self, block: int) -> TowerCut | None:
        """What happens at this block, or None."""
        if block not in self.keep:
            return None
        number = list(self.keep).index(block)
        where = self.first, self.grid, self.merge, self.settings
        return TowerCut(self.keep[block], number, *where, block, self.blocks)

    @property
    def anywhere(self) -> TowerCut:
        """What steps beside the cuts are told."""
        return TowerCut(self.left, 0, self.first, self.grid, self.merge, self.settings)

    @property
    def left(self) -> int:
        """Tokens of a tile behind the last cut, in the units of `keep`."""
        return self.keep[max(self.keep)] if self.keep else self.tokens

    def rows(self, block: int) -> tuple[int, int]:
        """(rows that attend in this block, rows that its MLP sees), the prefix counted."""
        site = self.method.site
        return self._rows(block + (site == "before")), self._rows(block + (site != "after"))

    def _rows(self, end: int) -> int:
        """Rows behind the cuts at blocks before `end`."""
        done = [keep for block, keep in self.keep.items() if block < end]
        tokens = (done[-1] if done else self.tokens) * self.merge**2
        return self.first + tokens + (self.method.extra if done else 0)


def cuts_of(
    spec: InsideSpec, method: TowerMethod, tower: TowerSpec, deepest: Mapping[TowerSite, int], merge: int = 1
) -> TowerCuts:
    """The plan on this tower. deepest: by site, the last block at which a cut saves anything; merge: of the connector.

    Raises PlanError, in one sentence, for what this tower cannot do.
    """
    _require_fit(method, tower, merge)
    for block in spec.layers:
        if block >= tower.layers:
            raise PlanError(f"{method.name} cuts at block {block}, and the tower has blocks 0 to {tower.layers - 1}")
        if block > deepest[method.site]:
            raise PlanError(
                f"{method.name} cuts at block {block}, behind which nothing is left to save; "
                f"the last block that can be cut at is {deepest[method.site]}"
            )
    if len(set(spec.layers)) < len(spec.layers):
        raise PlanError(f"{method.name} has two cuts at one block; give each block once")
    if method.once and len(spec.layers) > 1:
        raise PlanError(f"{method.name} needs the grid of all patches, which is gone after a cut; give one block")
    tokens = tower.grid[0] * tower.grid[1] // merge**2
    arriving, counts = tokens, {}
    for block, keep in zip(spec.layers, spec.keep, strict=True):
        counts[block] = _count(method, block, keep, arriving, tower)
        arriving = counts[block] + method.extra
    return TowerCuts(method, counts, tokens, tower.prefix_tokens, tower.grid, merge, dict(spec.settings), tower.layers)


def _count(method: TowerMethod, block: int, keep: float, arriving: int, tower: TowerSpec) -> int:
    """Of `arriving` tokens: a share is rounded up, as EViT does it."""
    count = int(keep) if keep > 1 else math.ceil(arriving * Fraction(str(keep)))
    if method.reachable is not None:
        near = method.reachable(count, tower.grid)
        if keep > 1 and near != count:
            raise PlanError(
                f"{method.name} leaves a grid of centres, and {count} are none; {near} is the nearest below"
            )
        count = near
    least = max(1, method.least(arriving))
    if not least <= count < arriving:
        of = "" if tower.view is None else f" of a picture of {tower.view[0]}x{tower.view[1]} pixels"
        raise PlanError(
            f"{method.name} would leave {count} of the {arriving} tokens{of} that arrive at block {block}; "
            f"expected {least} to {arriving - 1}"
        )
    return count


def _require_fit(method: TowerMethod, tower: TowerSpec, merge: int) -> None:
    if method.class_token and not tower.class_tokens:
        raise PlanError(f"{method.name} asks the class token, and the {tower.kind} tower has none")
    if tower.prefix_tokens > 1 and method.one_prefix:
        raise PlanError(
            f"{method.name} knows one row before the patches, and the {tower.kind} tower has {tower.prefix_tokens}"
        )
    if merge > 1 and not method.groups:
        raise PlanError(
            f"{method.name} moves single patches, and this model's connector merges {merge} x {merge} of them into one token"
        )
    if tower.window is not None:
        raise PlanError(f"{method.name} cuts whole tiles, and blocks of the {tower.kind} tower attend inside windows")
