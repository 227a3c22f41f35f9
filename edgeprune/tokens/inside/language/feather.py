"""FEATHER: attention without rotary positions, which favour the bottom of a picture, and a coarse grid that stays at the first cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, asked_for, attention, on_top
from edgeprune.tokens.registry.method import Setting

if TYPE_CHECKING:
    from torch import Tensor


_STRIDE = Setting("stride", 3, "rows and columns of the grid that stays at the first cut; 0: none", whole=True)


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    score = asked_for(rows, attention(rows, rows["query"], rows["key"], among=rows.visual))
    stride = int(settings.get(_STRIDE.name, _STRIDE.default))
    if not rows.first or stride == 0:
        return score
    return on_top(score, rows.visual & ((rows["places"] % stride) == 0).all(dim=-1))


FEATHER = LanguageCut(
    name="feather",
    summary="rows that the prompt's last one attends to least in the layer before without rotary positions, but for a grid of every third",
    source="FEATHER, arXiv 2412.13180",
    evidence="code read",
    differs="the count is fixed, the grid is part of it, of every tile on its canvas; where fewer stay than the grid has, its own best",
    settings=(_STRIDE,),
    rank=_rank,
    reads=frozenset({"plain", "places"}),
)
