"""What methods read of transformers' own vision tower, and what is left when tokens leave inside it.

The tower runs as the library wrote it. Forward hooks note what its modules put out; where tokens leave, a hook on a block hands
fewer rows to the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgeprune.models.spec import ModelSpec
from edgeprune.models.weights.names import canonical_name
from edgeprune.tokens.readings import Reads
from edgeprune.tokens.sites import BlockRows, Inside, Step
from edgeprune.tokens.units import merged, pooled
from edgeprune_export.gate.noted_attention import noting
from edgeprune_export.gate.patch_rows import grid_thw, raster_numbers, rows_of_tile
from edgeprune_runtime.registry import Registry

Projections = dict[tuple[int, str], Tensor]


class BlockOutputs(NamedTuple):
    """What one block of the library's tower put out: attention [H, R, R], queries and keys [R, H * d]; `first`: rows of a class token."""

    attention: Tensor
    q: Tensor
    k: Tensor
    first: int
    merge: int
    grid: tuple[int, int] | None = None  # rows and columns of patches; None: a square

    def per_token(self, values: Tensor, dim: int = -1) -> Tensor:
        """Without the class token's column and averaged over the patches of each visual token."""
        patches = values.narrow(dim, self.first, values.shape[dim] - self.first)
        return pooled(patches, self.merge, dim, self.grid)


def _class_rows(block: BlockOutputs) -> Tensor:
    return block.per_token(block.attention[:, 0])


def _wide(block: BlockOutputs) -> Tensor:
    return block.per_token(torch.softmax(block.q[0] @ block.k.T / block.k.shape[1] ** 0.5, dim=0))


def _map(block: BlockOutputs) -> Tensor:
    columns = block.per_token(block.attention.mean(dim=0))
    return torch.cat([columns[: block.first], block.per_token(columns, 0)])


def _received(block: BlockOutputs) -> Tensor:
    return block.per_token(block.attention[:, block.first :].mean(dim=(0, 1)))


def _keys(block: BlockOutputs) -> Tensor:
    keys = block.per_token(block.k, 0)
    return keys.view(keys.shape[0], block.attention.shape[0], -1)


#: One row per reading that is made in a block, by its name in `edgeprune.tokens.readings.READINGS`.
EAGER_READINGS: Registry[Callable[[BlockOutputs], Tensor]] = Registry("reading of transformers' tower")
for _name, _read in (
    ("attention", _class_rows),
    ("wide", _wide),
    ("map", _map),
    ("received", _received),
    ("keys", _keys),
):
    EAGER_READINGS.add(_name, _read)


def read_tile(
    tower: nn.Module, model: ModelSpec, tile: Tensor, reads: Reads, norm: str | None = None
) -> dict[str, Tensor]:
    """Features and readings of one tile [3, P, P], by name; all but "projected". norm: the tower's module behind its last block."""
    made: Projections = {}
    states: dict[int, Tensor] = {}

    def note(block: int, rows: Tensor) -> Tensor:
        states[block] = rows[0]
        return rows

    with projections(tower, set(reads.layers), made), after_blocks(tower, note):
        out = tower(tile[None], output_attentions=True)
    state, merge = states[model.feature_layer], model.connector.merge
    if norm is not None:
        state = tower.get_submodule(norm)(state)
    first = model.vision.class_tokens
    named = {"features": merged(state[first:], merge)}
    for read in reads.of("block"):
        assert read.layer is not None
        q, k = made[read.layer, "q"], made[read.layer, "k"]
        block = BlockOutputs(out.attentions[read.layer][0], q, k, first, merge)
        named[read.name] = EAGER_READINGS[read.kind](block)
    if "class_feature" in reads:
        named["class_feature"] = state[0].repeat(merge**2)
    return named


def read_rows(tower: nn.Module, model: ModelSpec, tile: Tensor, reads: Reads) -> dict[str, Tensor]:
    """As `read_tile`, of a tower that takes one row of pixels per patch; features that enter behind decoder layers with it.

    tile [3, H, W]. Everything is of the whole tile of the model: zero where the grid of this picture does not reach.
    """
    spec, merge = replace(model.vision, view=(tile.shape[1], tile.shape[2])), model.connector.merge
    deep = {one.block: f"deepstack_{i}" for i, one in enumerate(model.deepstack)}
    states: dict[int, Tensor] = {}

    def note(block: int, rows: Tensor) -> Tensor:
        states[block] = rows
        return rows

    number = raster_numbers(spec, merge)
    in_raster = torch.argsort(number)
    with noting(tower, set(reads.layers)) as noted, after_blocks(tower, note):
        tower(rows_of_tile(tile, spec, merge), grid_thw=grid_thw(spec))
    named = {"features": merged(states[model.feature_layer][in_raster], merge, spec.grid)}
    named |= {name: merged(states[block][in_raster], merge, spec.grid) for block, name in deep.items()}
    for read in reads.of("block"):
        assert read.layer is not None
        q, k = (part[in_raster] for part in noted[read.layer])
        heads = [part.reshape(len(part), -1, spec.head_dim).transpose(0, 1) for part in (q, k)]
        attention = torch.softmax(heads[0] @ heads[1].transpose(1, 2) * spec.head_dim**-0.5, dim=-1)
        block = BlockOutputs(attention, q, k, 0, merge, spec.grid)
        named[read.name] = EAGER_READINGS[read.kind](block)
    where = torch.from_numpy(model.picture.tile.units_of(spec.view))
    return {name: _as_tile(value, name, reads, where, model.picture.tile.units) for name, value in named.items()}


def _as_tile(value: Tensor, name: str, reads: Reads, where: Tensor, units: int) -> Tensor:
    """Visual tokens of a view at their numbers in the whole tile; of a map that is both its axes."""
    kinds = {read.name: read.kind for read in reads}
    axes = {"map": (0, 1), "attention": (1,)}.get(kinds.get(name, ""), (0,))
    for axis in axes:
        shape = list(value.shape)
        shape[axis] = units
        value = torch.zeros(shape).index_copy(axis, where, value)
    return value


def stepped_tile(
    tower: nn.Module, model: ModelSpec, tile: Tensor, valid: Tensor, inside: Inside, steps: tuple[Step, ...]
) -> dict[str, Tensor]:
    """Features [N, C] and what was carried [N] of one tile whose tokens leave in `steps`; 0 and -1 where they left."""
    made: Projections = {}
    state = _Stepping(made, model, valid, inside, {step.site.after: step.keep for step in steps})
    with projections(tower, set(range(model.feature_layer)), made), after_blocks(tower, state.after):
        tower(tile[None])
    features = torch.zeros(len(valid), model.vision.hidden)
    features[state.place] = state.features
    carried = torch.full((len(valid),), -1.0)
    carried[state.place] = state.carried
    return {"features": features, "carried": carried}


class _Stepping:
    """Follows one forward pass: which tokens are still there, and what is carried for each."""

    def __init__(
        self, made: Projections, model: ModelSpec, valid: Tensor, inside: Inside, stay: Mapping[int | None, int]
    ) -> None:
        self._made, self._model, self._valid, self._inside, self._stay = made, model, valid, inside, stay
        self.place = torch.arange(len(valid))
        self.carried = torch.empty(0)
        self.features = torch.empty(0)

    def after(self, block: int, rows: Tensor) -> Tensor:
        """Rows [1, n + 1, C] that go on to the next block."""
        if block == self._model.feature_layer:
            self.features = rows[0, 1:].clone()
        if block >= self._model.feature_layer:
            return rows
        q, k, v = (self._made[block, part] for part in "qkv")
        seen = BlockRows(q, k, v, self._valid[self.place], self._model.vision.at(block).heads)
        self.carried = self._inside.carry(seen, None if block == 0 else self.carried)
        if block not in self._stay:
            return rows
        stay = self._inside.reduce(self.carried, self._stay[block]).index
        self.place, self.carried = self.place[stay], self.carried[stay]
        return rows[:, torch.cat([torch.zeros(1, dtype=torch.int64), stay + 1])]


@contextmanager
def projections(tower: nn.Module, layers: set[int], made: Projections) -> Iterator[None]:
    """Note what query, key and value projections of these layers put out: made[layer, "q"] [rows, C]."""

    def listener(place: tuple[int, str]) -> Callable[..., None]:
        return lambda module, inputs, output: made.__setitem__(place, output[0])

    hooks = []
    for name, module in tower.named_modules():
        match = re.match(r"tower\.(\d+)\.([qkv])\.weight$", canonical_name(f"vision_tower.{name}.weight") or "")
        if match and int(match[1]) in layers:
            hooks.append(module.register_forward_hook(listener((int(match[1]), match[2]))))
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
        if match := re.search(r"(?:^|\.)(?:layers?|blocks)\.(\d+)$", name):
            hooks.append(module.register_forward_hook(hook(int(match[1]))))
    with _removed(hooks):
        yield


@contextmanager
def _removed(hooks: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for one in hooks:
            one.remove()
