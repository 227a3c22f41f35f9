"""transformers' own tower with rows that leave or merge between its blocks: the reference of graphs with cuts.

Its blocks run as the library wrote them. Where rows leave between attention and MLP, a block runs twice: over the rows that arrive with
its MLP silent, and over those that are left with its attention silent; the residual sums make one pass of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgeprune.tokens.inside.tower.method import Step
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut
from edgeprune_export.gate.noted_attention import Listener, joined_heads, listening

_ATTENTION = ("attention", "self_attn", "attn")


class CutPass:
    """Follows one forward pass: the rows that are there, and what attention made of them in every block that ran.

    seen   by block, the rows that attended, and their queries, keys and values
    after  by block, the rows behind it
    """

    def __init__(self, cuts: TowerCuts, begin: Callable[[Tensor], Rows], last: int) -> None:
        self._cuts, self._begin, self._last = cuts, begin, last
        self._running: Literal["whole", "attention", "mlp"] = "whole"
        self._turning: tuple[Tensor, ...] = ()  # tables of positions of all rows, where blocks turn by them
        self._row_of_place = torch.empty(0, dtype=torch.int64)
        self.rows = Rows(torch.empty(0))
        self.seen: dict[int, tuple[Rows, BlockRows]] = {}
        self.after: dict[int, Rows] = {}

    def entering(self, i: int, block: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Arguments of block i, over the rows that are there."""
        given, rest = (args[0], args[1:]) if args else (named.pop("hidden_states"), ())
        if i == 0:
            begun = self._begin(given[0] if given.dim() == 3 else given)
            self._turning = named.get("position_embeddings", ())
            if self._turning:
                assert begun.place is not None
                self._row_of_place = torch.argsort(begun.place)
            self.rows = self._step(self._cuts.method.start, begun, None, self._cuts.anywhere)
        cut, site = self._cuts.at(i), self._cuts.method.site
        self._running = "whole"
        if cut is not None and site == "before":
            if self._cuts.method.looks:
                block.forward(self._x, *rest, **self._of_rows(named))  # for its queries and keys
            seen = self.seen[i][1] if self._cuts.method.looks else None
            self.rows = self._step(self._cuts.method.step, self.rows, seen, cut)
        if cut is not None and site == "between":
            self._running = "attention"
        return (self._x, *rest), self._of_rows(named)

    def leaving(self, i: int, block: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        """The output of block i, over the rows that are left."""
        self._now(output)
        cut, site, method = self._cuts.at(i), self._cuts.method.site, self._cuts.method
        if cut is not None and site == "between":
            self.rows = self._step(method.step, self.rows, self.seen[i][1], cut)
            self._running = "mlp"
            self._now(block.forward(self._x, *args[1:], **self._of_rows(named)))
        if i < self._last:
            self.rows = self._step(method.watch, self.rows, self.seen[i][1], self._cuts.anywhere)
        if cut is not None and site == "after":
            self.rows = self._step(method.step, self.rows, self.seen[i][1], cut)
        if i == self._last:
            self.rows = self._step(method.finish, self.rows, None, self._cuts.anywhere)
        self.rows = self.rows._replace(attention=None)
        self.after[i] = self.rows
        return (self._x, *output[1:]) if isinstance(output, tuple) else self._x

    def listener(self, i: int) -> Listener:
        """Attention of block i as its rows want it, and a note of what it was given."""

        def listen(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            weights = self.rows.attention
            if weights is None:
                logits = query @ key.transpose(1, 2) * scale
                weights = torch.softmax(logits if self._bias is None else logits + self._bias, dim=-1)
            if self._running != "mlp":
                q, k, v = (joined_heads(part) for part in (query, key, value))
                self.seen[i] = self.rows, BlockRows(q, k, v, len(query), self._bias)
            return weights

        return listen

    def attention_done(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self._running != "mlp":
            return output
        return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)

    def mlp_done(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return torch.zeros_like(output) if self._running == "attention" else output

    @property
    def _bias(self) -> Tensor | None:
        return None if self.rows.size is None else torch.log(self.rows.size)

    @property
    def _x(self) -> Tensor:
        """As blocks take it: towers that turn by positions know no batch."""
        return self.rows.x if self._turning else self.rows.x[None]

    def _of_rows(self, named: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a block for the rows that are there: where they stand, and that they are one run."""
        if not self._turning:
            return named
        assert self.rows.place is not None
        at, count = self._row_of_place[self.rows.place], len(self.rows.x)
        runs = torch.tensor([0, count], dtype=named["cu_seqlens"].dtype)
        return named | {"position_embeddings": tuple(table[at] for table in self._turning), "cu_seqlens": runs}

    def _now(self, output: Any) -> None:
        x = output[0] if isinstance(output, tuple) else output
        self.rows = self.rows._replace(x=x if self._turning else x[0])

    @staticmethod
    def _step(step: Step | None, rows: Rows, block: BlockRows | None, cut: TowerCut) -> Rows:
        if step is None:
            return rows
        return step(rows, BlockRows(rows.x, rows.x, rows.x, 1) if block is None else block, cut)


@contextmanager
def cutting(tower: nn.Module, cuts: TowerCuts, begin: Callable[[Tensor], Rows], last: int) -> Iterator[CutPass]:
    """Cut the tower's next forward pass. begin: the input of block 0 [R, C] as rows; last: the block whose output is read.

    The tower must run with the attention function of `noted_attention`.
    """
    state = CutPass(cuts, begin, last)
    blocks = {
        int(found[1]): module
        for name, module in tower.named_modules()
        if (found := re.search(r"(?:^|\.)(?:layers?|blocks)\.(\d+)$", name))
    }
    listeners: dict[nn.Module, Listener] = {}
    with ExitStack() as stack:
        for i, block in blocks.items():
            attention = next(child for name, child in block.named_children() if name in _ATTENTION)
            listeners[attention] = state.listener(i)
            for hook in (
                block.register_forward_pre_hook(_bound(state.entering, i), with_kwargs=True),
                block.register_forward_hook(_bound(state.leaving, i), with_kwargs=True),
                attention.register_forward_hook(state.attention_done),
                block.get_submodule("mlp").register_forward_hook(state.mlp_done),
            ):
                stack.callback(hook.remove)
        stack.enter_context(listening(listeners))
        yield state


def _bound(method: Callable[..., Any], i: int) -> Callable[..., Any]:
    return lambda *given: method(i, *given)
