"""What methods read of transformers' own vision tower, and what is left when tokens leave inside it.

The tower runs as the library wrote it. Forward hooks listen to what its modules put out; where tokens leave, a hook on a block hands
fewer rows to the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.models.spec import ModelSpec
from edgeprune.models.weights.names import canonical_name
from edgeprune.tokens import flow
from edgeprune.tokens.seen import Reads

Projections = dict[tuple[int, str], Tensor]


def read_tile(tower: nn.Module, model: ModelSpec, tile: Tensor, reads: Reads) -> dict[str, Tensor]:
    """Features and readings of one tile [3, P, P], by name; all but "projected"."""
    heard: Projections = {}
    with projections(tower, {*reads.wide, *reads.keys}, heard):
        out = tower(tile[None], output_hidden_states=True, output_attentions=True)
    state = out.hidden_states[model.feature_layer + 1][0]
    first = model.vision.class_tokens  # only the class token is dropped, as LLaVA does
    found = {"features": state[first:]}
    for i in reads.attention:
        found[f"attention_{i}"] = out.attentions[i][0, :, 0, first:]
    for i in reads.wide:
        q, k = heard[i, "q"], heard[i, "k"]
        found[f"wide_{i}"] = torch.softmax(q[0] @ k.T / k.shape[1] ** 0.5, dim=0)[first:]
    for i in reads.map:
        found[f"map_{i}"] = out.attentions[i][0].mean(dim=0)[:, first:]
    for i in reads.keys:
        found[f"keys_{i}"] = heard[i, "k"][first:]
    if reads.class_feature:
        found["class_feature"] = state[0]
    return found


def cut_tile(
    tower: nn.Module, model: ModelSpec, tile: Tensor, valid: Tensor, cuts: Mapping[int, int]
) -> dict[str, Tensor]:
    """Features [N, C] and flow [N] of one tile whose tokens leave after the blocks of `cuts`; 0 and -1 where they left."""
    heard: Projections = {}
    state = _Cutting(heard, model, valid, cuts)
    with projections(tower, set(range(model.feature_layer)), heard), after_blocks(tower, state.after):
        tower(tile[None])
    features = torch.zeros(len(valid), model.vision.hidden)
    features[state.place] = state.features
    scores = torch.full((len(valid),), -1.0)
    scores[state.place] = state.score
    return {"features": features, "flow": scores}


class _Cutting:
    """Follows one forward pass: which patches are still there, and their score."""

    def __init__(self, heard: Projections, model: ModelSpec, valid: Tensor, cuts: Mapping[int, int]) -> None:
        self._heard, self._model, self._valid, self._cuts = heard, model, valid, cuts
        self.place = torch.arange(len(valid))
        self.score = torch.empty(0)
        self.features = torch.empty(0)

    def after(self, block: int, rows: Tensor) -> Tensor:
        """Rows [1, n + 1, C] that go on to the next block."""
        if block == self._model.feature_layer:
            self.features = rows[0, 1:].clone()
        if block >= self._model.feature_layer:
            return rows
        q, k, v = (self._heard[block, part] for part in "qkv")
        new = flow.block_score(q, k, v, self._valid[self.place], self._model.vision.at(block).heads)
        self.score = new if block == 0 else 0.5 * self.score + 0.5 * new
        if block not in self._cuts:
            return rows
        stay = flow.survivors(self.score, self._cuts[block])
        self.place, self.score = self.place[stay], self.score[stay]
        return rows[:, torch.cat([torch.zeros(1, dtype=torch.int64), stay + 1])]


@contextmanager
def projections(tower: nn.Module, layers: set[int], heard: Projections) -> Iterator[None]:
    """Note what query, key and value projections of these layers put out: heard[layer, "q"] [rows, C]."""

    def listener(place: tuple[int, str]) -> Callable[..., None]:
        return lambda module, inputs, output: heard.__setitem__(place, output[0])

    hooks = []
    for name, module in tower.named_modules():
        found = re.match(r"tower\.(\d+)\.([qkv])\.weight$", canonical_name(f"vision_tower.{name}.weight") or "")
        if found and int(found[1]) in layers:
            hooks.append(module.register_forward_hook(listener((int(found[1]), found[2]))))
    with _removed(hooks):
        yield


@contextmanager
def after_blocks(tower: nn.Module, change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Let `change` replace the output of every block."""

    def hook(block: int) -> Callable[..., Any]:
        def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
            return (change(block, output[0]), *output[1:]) if isinstance(output, tuple) else change(block, output)

        return replace

    hooks = []
    for name, module in tower.named_modules():
        if found := re.search(r"(?:^|\.)layers?\.(\d+)$", name):
            hooks.append(module.register_forward_hook(hook(int(found[1]))))
    with _removed(hooks):
        yield


@contextmanager
def _removed(hooks: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for one in hooks:
            one.remove()
