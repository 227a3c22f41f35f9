"""What methods read of transformers' own vision tower.

The tower runs as the library wrote it. Forward hooks note what its modules put out; where tokens leave, see `eager_cut_tower`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgeprune.models.spec import ModelSpec
from edgeprune.models.weights.names import canonical_name
from edgeprune.tokens.readings import Reads
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
    spread: Callable[[Tensor, int], Tensor] | None = None  # where rows have left: values of rows at their places
    bias: Tensor | None = None  # [R], added to the logits of each key

    def per_token(self, values: Tensor, dim: int = -1) -> Tensor:
        """Without the class token's column and averaged over the patches of each visual token."""
        if self.spread is not None:
            values = self.spread(values, dim % values.dim())
        patches = values.narrow(dim, self.first, values.shape[dim] - self.first)
        return pooled(patches, self.merge, dim, self.grid)


def _class_rows(block: BlockOutputs) -> Tensor:
    return block.per_token(block.attention[:, 0])


def _wide(block: BlockOutputs) -> Tensor:
    logits = block.q[0] @ block.k.T / block.k.shape[1] ** 0.5
    return block.per_token(torch.softmax(logits if block.bias is None else logits + block.bias, dim=0))


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
    return {name: as_tile(value, name, reads, where, model.picture.tile.units) for name, value in named.items()}


def as_tile(value: Tensor, name: str, reads: Reads, where: Tensor, units: int) -> Tensor:
    """Visual tokens of a view at their numbers in the whole tile; of a map that is both its axes."""
    kinds = {read.name: read.kind for read in reads}
    axes = {"map": (0, 1), "attention": (1,)}.get(kinds.get(name, ""), (0,))
    for axis in axes:
        shape = list(value.shape)
        shape[axis] = units
        value = torch.zeros(shape).index_copy(axis, where, value)
    return value


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
