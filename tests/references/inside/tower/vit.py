"""A whole vision transformer in plain numpy with cuts in its blocks: pre-norm, with a class token or without.

    before: rows leave before the block's norm1; q, k, v of norm1(x) are what the step reads, and they are computed
            again from the rows that stay (or, where the step hands a map on, only the values are)
    between: after the attention's residual, before norm2; the step reads the block's own q, k, v
    after: behind the MLP's residual; the step reads the block's own q, k, v

Sizes, once a step has made them, go into attention as log(size) on the logits of the key. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rows import Floats, Ints, Step, attention_map
from .weights import Tower, activated

SITES = ("before", "between", "after")


@dataclass(frozen=True, eq=False)
class Cuts:
    """One method and where it cuts."""

    step: Callable[..., Step]
    site: str
    keep: Mapping[int, float]  # block -> keep
    settings: Mapping[str, Any] = field(default_factory=dict)  # of every cut
    of_block: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # of one cut, besides
    observe: Callable[..., Floats] | None = None  # FlowCut: the score after every block
    undone: Callable[..., Floats] | None = None  # Expedit, Token Transforming: back to all rows behind the last block
    proportional: bool = True  # log(size) in attention; False is an ablation


@dataclass(frozen=True, eq=False)
class State:
    """The m rows at some point of the tower."""

    x: Floats  # [m, C]
    place: Ints  # [m] number of the patch whose place the row has; -1: the class token, a fused row, a centre
    valid: NDArray[np.bool_]  # [m]
    owner: Ints  # [N] for every patch of the picture the row that it is part of; -1: it left
    size: Floats | None = None  # [m]
    score: Floats | None = None  # [m]
    graph: Floats | None = None
    attention: Floats | None = None  # map that the block is to use
    saved: tuple[Mapping[str, Floats], ...] = ()  # of every cut that can be undone, in order

    def scattered(self) -> tuple[Floats, NDArray[np.bool_]]:
        """([N, C] the rows at their places and 0 elsewhere, [N] where there is one): what a VLM tower hands on."""
        features = np.zeros((len(self.owner), self.x.shape[1]))
        alive = np.zeros(len(self.owner), dtype=bool)
        for row, place in enumerate(self.place):
            if place >= 0:
                features[place] = self.x[row]
                alive[place] = True
        return features, alive


@dataclass(frozen=True, eq=False)
class Run:
    state: State  # behind the last block (and `undone`), before the final norm
    normed: Floats  # [m, C] behind the final norm
    rows: list[int]  # rows that the attention of every block saw


def entering(x: Floats, class_token: bool, valid: NDArray[np.bool_] | None, graph: Floats | None) -> State:
    first = int(class_token)
    patches = np.arange(len(x) - first)
    place = np.concatenate([np.full(first, -1), patches])
    there = np.ones(len(x), dtype=bool) if valid is None else valid
    return State(np.asarray(x, dtype=np.float64), place, there, patches + first, graph=graph)


def cut(state: State, tower: Tower, cuts: Cuts | None, at: tuple[str, int], q: Floats, k: Floats, v: Floats) -> State:
    """The state after the cut at a site of a block, if there is one."""
    site, number = at
    if cuts is None or cuts.site != site or number not in cuts.keep:
        return state
    step = cuts.step(
        state.x,
        q,
        k,
        v,
        tower.heads,
        cuts.keep[number],
        class_token=tower.class_token,
        size=state.size,
        valid=state.valid,
        place=state.place,
        score=state.score,
        graph=state.graph,
        proportional=cuts.proportional,
        **{**cuts.settings, **cuts.of_block.get(number, {})},
    )
    assert step.place is not None and step.valid is not None
    return State(
        x=step.x,
        place=step.place,
        valid=step.valid,
        owner=np.array([-1 if row < 0 else step.owner[row] for row in state.owner]),
        size=step.size,
        score=step.score,
        graph=step.graph,
        attention=step.attention,
        saved=state.saved if step.saved is None else (*state.saved, step.saved),
    )


def attended(maps: Floats, v: Floats) -> Floats:
    """[H, n, m] times [m, H * d] -> [n, H * d]."""
    width = v.shape[1] // len(maps)
    return np.concatenate([head @ v[:, h * width : (h + 1) * width] for h, head in enumerate(maps)], axis=1)


def forward(
    x: Floats,
    tower: Tower,
    cuts: Cuts | None = None,
    *,
    valid: NDArray[np.bool_] | None = None,
    graph: Floats | None = None,
) -> Run:
    """x [n, C]: embedded rows, positions added, the class token first where there is one. valid [n]: False is padding,
    which attention does not mask. graph: GTP-ViT's."""
    if cuts is not None and cuts.site not in SITES:
        raise ValueError(f"a site is one of {', '.join(SITES)}, not {cuts.site}")
    state = entering(x, tower.class_token, valid, graph)
    rows = []
    for number, block in enumerate(tower.blocks):
        normed = block.norm1(state.x)
        state = cut(state, tower, cuts, ("before", number), block.q(normed), block.k(normed), block.v(normed))

        normed = block.norm1(state.x)
        q, k, v = block.q(normed), block.k(normed), block.v(normed)
        maps = state.attention
        if maps is None:
            proportional = cuts is not None and cuts.proportional
            maps = attention_map(q, k, tower.heads, state.size if proportional else None)
        rows.append(len(state.x))
        state = replace(state, x=state.x + block.out(attended(maps, v)), attention=None)
        if cuts is not None and cuts.observe is not None:
            token, there = tower.class_token, state.valid
            scored = cuts.observe(state.x, q, k, v, tower.heads, class_token=token, score=state.score, valid=there)
            state = replace(state, score=scored)

        state = cut(state, tower, cuts, ("between", number), q, k, v)
        hidden = activated(block.fc1(block.norm2(state.x)), tower.activation)
        state = replace(state, x=state.x + block.fc2(hidden))
        state = cut(state, tower, cuts, ("after", number), q, k, v)

    if cuts is not None and cuts.undone is not None and state.saved:
        x = state.x
        for saved in reversed(state.saved):
            x = cuts.undone(x, saved, tower.class_token)
        state = entering(x, tower.class_token, valid, None)
    return Run(state, state.x if tower.norm is None else tower.norm(state.x), rows)
