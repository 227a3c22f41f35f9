"""What a method inside the tower is: where in a block it cuts, and its step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgeprune.tokens.inside.method import InsideMethod, InsidePart
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut

TowerSite = Literal["before", "between", "after"]
Step = Callable[[Rows, BlockRows, TowerCut], Rows]


@dataclass(frozen=True, kw_only=True)
class TowerMethod(InsideMethod):
    """A method by which tokens leave inside the tower.

    step    (rows, what the block's attention makes of them, cut) -> rows: torch code whose shapes follow from the counts alone
    site    where in a block: before it, between its attention and its MLP, or after it
    start, watch, finish  likewise, in front of block 0, after every block that is not the last, and where the features of all places are
            wanted behind the last; what the first one is told of a block is that there are no queries yet
    sizes   rows grow, and the attention of later blocks counts each as often as there are tokens in it (log of the size, on the keys)
    groups  whole groups of patches that the connector merges can leave
    class_token  whether it asks the class token
    extra   rows that a cut leaves besides those that it keeps
    least   (tokens that arrive) -> fewest that one cut can leave
    once    only the first cut knows where the tokens lie
    reachable  (tokens, grid) -> the most that it can leave of no more than these; None: any number
    one_prefix  it knows a class token and no further row in front of the patches
    looks   False: a cut needs no queries and keys
    steady  False: it compares sums of many products, where rounding may decide near ties
    """

    part: ClassVar[InsidePart] = "tower"

    step: Step
    site: TowerSite = "between"
    start: Step | None = None
    watch: Step | None = None
    finish: Step | None = None
    sizes: bool = False
    groups: bool = False
    class_token: bool = False
    extra: int = 0
    least: Callable[[int], int] = lambda tokens: 1
    once: bool = False
    reachable: Callable[[int, tuple[int, int]], int] | None = None
    one_prefix: bool = False
    looks: bool = True
    steady: bool = True
