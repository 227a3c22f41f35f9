"""What is left of transformers' own vision tower, at the places of the whole one, when tokens leave inside it; see `eager_cuts`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from edgeprune.models.spec import ModelSpec, TowerSpec
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.plan.layout import first_rows, raster_of_rows, tokens_of_raster
from edgeprune.tokens.inside.tower.rows import Rows
from edgeprune.tokens.readings import Reads
from edgeprune.tokens.units import merged, pooled
from edgeprune_export.gate.eager_cuts import CutPass, cutting
from edgeprune_export.gate.eager_tower import EAGER_READINGS, BlockOutputs, as_tile
from edgeprune_export.gate.patch_rows import grid_thw, raster_numbers, rows_of_tile


def cut_tile(
    tower: nn.Module,
    model: ModelSpec,
    tile: Tensor,
    valid: Tensor,
    cuts: TowerCuts,
    reads: Reads,
    norm: str | None = None,
) -> dict[str, Tensor]:
    """As `read_tile`, of a tower that is cut, with alive [N] and owner [N] int64. valid [N] 0/1 (0: padding).

    The tower must run with the attention function of `noted_attention`.
    """
    spec, merge = model.vision, model.connector.merge
    raster = torch.from_numpy(raster_of_rows(spec, merge))
    token = torch.from_numpy(tokens_of_raster(spec, merge))

    def begin(x: Tensor) -> Rows:
        alive = torch.cat([torch.ones(1), valid])[token[raster] + 1]
        return Rows(x[raster], raster, alive, owner=torch.argsort(raster))

    with cutting(tower, cuts, begin, model.feature_layer) as state:
        tower(tile[None])
    return _left(tower, model, spec, state, cuts, reads, norm)


def cut_rows(
    tower: nn.Module, model: ModelSpec, tile: Tensor, valid: Tensor, cuts: TowerCuts, reads: Reads
) -> dict[str, Tensor]:
    """As `read_rows`, of a tower that is cut, with alive [N] and owner [N] int64 as in `cut_tile`."""
    spec, merge = replace(model.vision, view=(tile.shape[1], tile.shape[2])), model.connector.merge
    units = torch.from_numpy(model.picture.tile.units_of(spec.view))
    raster = raster_numbers(spec, merge)
    token = torch.from_numpy(tokens_of_raster(spec, merge))

    def begin(x: Tensor) -> Rows:
        return Rows(x, raster, valid[units[token[raster]]], owner=torch.argsort(raster))

    with cutting(tower, cuts, begin, model.feature_layer) as state:
        tower(rows_of_tile(tile, spec, merge), grid_thw=grid_thw(spec))
    named = _left(tower, model, spec, state, cuts, reads, None)
    for number, one in enumerate(model.deepstack):
        there = state.after[one.block]
        assert there.place is not None
        named[f"deepstack_{number}"] = merged(_Spread(there.place, spec)(there.x), merge, spec.grid)
    tokens = model.picture.tile.units
    owner = torch.full((tokens,), -1).index_copy(0, units, torch.cat([units, torch.tensor([-1])])[named.pop("owner")])
    return {name: as_tile(value, name, reads, units, tokens) for name, value in named.items()} | {"owner": owner}


def _left(
    tower: nn.Module,
    model: ModelSpec,
    spec: TowerSpec,
    state: CutPass,
    cuts: TowerCuts,
    reads: Reads,
    norm: str | None,
) -> dict[str, Tensor]:
    """What is left of a view behind the cuts, at the places of all its tokens."""
    merge, first = model.connector.merge, spec.class_tokens
    token = torch.from_numpy(tokens_of_raster(spec, merge))
    rows = state.after[model.feature_layer]
    x = rows.x if norm is None else tower.get_submodule(norm)(rows.x)
    assert rows.place is not None and rows.alive is not None and rows.owner is not None
    where = _Spread(rows.place, spec)
    grid = None if merge == 1 else spec.grid
    alive = pooled(where(rows.alive)[first:], merge, 0, grid)
    token_of_row = torch.cat([token[rows.place], torch.tensor([-1])])
    token_of_row[:-1][rows.place < 0] = -1
    named = {
        "features": merged(where(x)[first:], merge, grid),
        "alive": alive,
        "owner": token_of_row[rows.owner[torch.from_numpy(first_rows(spec, merge))]],
    }
    for read in reads.of("block"):
        assert read.layer is not None
        there, made = state.seen[read.layer]
        assert there.place is not None
        block = BlockOutputs(
            made.attention(), made.q, made.k, first, merge, grid, _Spread(there.place, spec), made.bias
        )
        named[read.name] = EAGER_READINGS[read.kind](block)
    if "class_feature" in reads:
        named["class_feature"] = x[0].repeat(merge**2)
    if "carried" in reads:
        assert rows.score is not None
        named["carried"] = where(rows.score)[first:]
    return named


class _Spread:
    """Values of rows at their places in the uncut tower, zero where none is."""

    def __init__(self, place: Tensor, spec: TowerSpec) -> None:
        self._place, self._spec = place, spec

    def __call__(self, values: Tensor, dim: int = 0) -> Tensor:
        """[..., n, ...] -> [..., R, ...]"""
        shape = list(values.shape)
        shape[dim] = self._spec.positions
        there = torch.nonzero(self._place >= 0)[:, 0]
        return torch.zeros(shape).index_copy(dim, self._place[there], values.index_select(dim, there))
