"""Rows of the language model on their way into a layer: what a ranking may look at, and the rule that takes the first of its order.

Axes: L rows that the layer before has room for, n of them there, in the order of the prompt; H query heads, G key/value heads, d width;
R asking rows; axes of a position. A ranking is a torch function, traced into a graph, and itself the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from edgeprune.later import torch
from edgeprune.tokens.inside.method import InsideMethod, InsidePart

if TYPE_CHECKING:
    from torch import Tensor

    from edgeprune.plan import MethodPlan
    from edgeprune.tokens.readings import Reads, TowerOutputs

#: What a ranking can look at besides which rows are visual. "attention": queries of the asking rows and keys of the last layer that has run,
#: as they are turned by their positions; "plain": the same turned back; "values": values of that layer; "next": queries and keys of the layer
#: to come; "salience": the encoder's score of each visual row; "places": row and column of each on the canvas; "embeds": rows of the prompt
#: on their way into the first layer; "changed": how much layers have changed each row, from the one before the first cut on; "active":
#: activations in the MLP of the last layer that has run.
RowReading = Literal["attention", "plain", "values", "next", "salience", "places", "embeds", "changed", "active"]
#: Rows that ask: the prompt's last one, or all that stand behind its last picture (as many as there is room for).
Asking = Literal["last", "question"]
QUESTION_ROWS = 64


@dataclass(frozen=True, eq=False)
class LanguageRows:
    """Rows that have been through the layers before a cut.

    visual    [L] bool, of the picture and there
    present   [L] bool, the first n
    count     [] int64, visual rows that will stay
    asking    [R] int64 numbers of rows; weight [R], 1/m for the m of them in use, 0 for the rest
    query     [R, H, d], key and value [L, G, d], where they are read
    salience  [L], places [L, 2] int64, changed [L], where they are read; what stands at rows that are not visual means nothing
    active    [L, F], where it is read
    embeds    [P, D] of all rows of the prompt, in its numbers; origin [L]: which of them each row is
    entered   [P] bool, its visual rows
    first     whether no row has left before
    """

    visual: Tensor
    present: Tensor
    count: Tensor
    asking: Tensor
    weight: Tensor
    readings: Mapping[str, Tensor] = field(default_factory=dict)
    origin: Tensor | None = None
    entered: Tensor | None = None
    first: bool = True

    def __getitem__(self, name: str) -> Tensor:
        return self.readings[name]

    @property
    def numbers(self) -> Tensor:
        """0 .. L - 1."""
        return torch.arange(self.present.shape[0])


def _never(settings: Mapping[str, float]) -> bool:
    return False


Rank = Callable[[LanguageRows, Mapping[str, float]], "Tensor"]


@dataclass(frozen=True, kw_only=True)
class LanguageCut(InsideMethod):
    """Visual rows leave before layers of the language model.

    rank     (rows, settings of the plan) -> [L], any finite numbers: visual rows with the highest stay, equal ones by their place
    reads    what it looks at
    asking   which rows ask, where it looks at attention
    forced   how many visual rows of so many it makes stay whatever the others are worth, at most; None: none
    encoder  "salience" of a picture's tokens [T, N], from what `of_tower` reads of the tower; None: `edgeprune.tokens.score.salience`
    once     ranks at the first cut only; later lists are prefixes of that order
    nobody   lets no visual row go on, so that the only count is 0
    recycles  whether means of clusters of those that leave stay as well, by the settings
    returns  has three layers: before the first, 0, all but rows at even distances leave; before the second they are back; the third ranks
    """

    part: ClassVar[InsidePart] = "language"

    rank: Rank
    reads: frozenset[RowReading] = frozenset()
    asking: Asking = "last"
    forced: Callable[[int, Mapping[str, float]], int] | None = None
    encoder: Callable[[TowerOutputs, MethodPlan], Tensor] | None = None
    of_tower: Callable[[MethodPlan], Reads] | None = None
    once: bool = False
    nobody: bool = False
    returns: bool = False
    recycles: Callable[[Mapping[str, float]], bool] = _never

    @property
    def asks(self) -> int:
        """R; 0 where nobody asks."""
        if not self.reads & {"attention", "plain", "values", "next", "embeds"}:
            return 0
        return 1 if self.asking == "last" else QUESTION_ROWS


class GoingOn(NamedTuple):
    """rows [S] int64: numbers of the rows that go on, ascending, the last one repeated up to the room of the next stage; n [] how many."""

    rows: Tensor
    n: Tensor


def going_on(score: Tensor, rows: LanguageRows, room: int, besides: Tensor | None = None) -> GoingOn:
    """All rows that are not visual, and the `count` visual ones with the highest score; equal scores fall to the lower row.

    score [L] finite; room: S, rows of the next stage; besides [L] bool: visual rows that stay besides, none of them among the `count`.
    """
    numbers, size = rows.numbers, rows.present.shape[0]
    stays = rows.present & ~rows.visual
    if besides is not None:
        stays = stays | besides
    n = stays.sum() + torch.minimum(rows.count, rows.visual.sum())
    urgent = torch.where(stays, float("inf"), torch.where(rows.visual, score, float("-inf")))
    order = torch.sort(urgent, descending=True, stable=True).indices
    ascending = torch.sort(torch.where(numbers < n, order, order + size), stable=True).values
    return GoingOn(ascending[torch.minimum(torch.arange(room), n - 1)], n)


def attention(rows: LanguageRows, query: Tensor, key: Tensor, among: Tensor | None = None) -> Tensor:
    """Softmax of scaled products of asking rows with the rows that each of them sees: [H, R, L].

    query [R, H, d], key [L, G, d]; among [L] bool: only these count (None: all that are there). A row sees itself and those before.
    """
    asks, heads, width = query.shape
    shared = heads // key.shape[1]
    q = query.reshape(asks, key.shape[1], shared, width).permute(1, 2, 0, 3).flatten(1, 2)  # [G, shared R, d]
    products = (q * width**-0.5) @ key.permute(1, 2, 0)  # [G, shared R, L]
    seen = rows.numbers <= rows.asking[:, None]
    seen = seen & (rows.present if among is None else among)
    by_head = products.reshape(heads, asks, -1)
    return torch.softmax(torch.where(seen, by_head, -1e9), dim=-1)


def asked_for(rows: LanguageRows, weights: Tensor) -> Tensor:
    """Mean over heads, and over the asking rows by their weight: [H, R, L] -> [L]."""
    return (weights.mean(dim=0) * rows.weight[:, None]).sum(dim=0)


def changes(before: Tensor, after: Tensor) -> Tensor:
    """How much attention or MLP changes rows: what it takes, normed, and what it gives before that is added, [n, D] -> [n, 2].

    exp(1 - cosine) times the ratio of their lengths, and exp(1 - cosine) by itself, by whose sum over rows the first is divided.
    """
    size, made = (torch.clamp(torch.linalg.vector_norm(one, dim=-1), min=1e-30) for one in (before, after))
    turn = torch.exp(1 - (before * after).sum(dim=-1) / (size * made))
    return torch.stack([made / size * turn, turn], dim=-1)


def summed_changes(pairs: Tensor, visual: Tensor) -> Tensor:
    """Of layers that ran over the same rows: `changes` side by side [L, 2 n] -> [L], 0 where a row is not visual."""
    among = torch.where(visual[:, None], pairs, 0.0).reshape(len(pairs), -1, 2)
    return (among[..., 0] / torch.clamp(among[..., 1].sum(dim=0), min=1e-30)).sum(dim=-1)


def on_top(score: Tensor, forced: Tensor) -> Tensor:
    """Scores of 0 and more, those of `forced` [L] bool above all others; among themselves both keep their order."""
    size = torch.clamp(score.max(), min=1e-30)
    return score / size + 2.0 * forced.to(score.dtype)


def turned_back(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads [n, heads, d] as they were before they were turned by angles whose cosines and sines [n, d / 2] may have been scaled."""
    first, second = rows.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    back = torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)
    return back / (cos**2 + sin**2).repeat(1, 1, 2)
