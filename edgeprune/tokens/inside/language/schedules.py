"""G-Search and P-Sigmoid: one order of the visual rows at the first cut, and a prefix of it at every later one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, asked_for, attention

if TYPE_CHECKING:
    from torch import Tensor


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    return asked_for(rows, attention(rows, rows["query"], rows["key"]))


GSEARCH = LanguageCut(
    name="gsearch",
    summary="rows that question rows attend to least before the first cut; later cuts follow the same order",
    source="G-Search, CVPR 2025 (abstract)",
    evidence="reconstruction",
    differs="counts are given: the least that lose nothing, found from shallow to deep",
    rank=_rank,
    reads=frozenset({"attention"}),
    asking="question",
    once=True,
)
PSIGMOID = replace(
    GSEARCH,
    name="psigmoid",
    summary="the same order, with counts on a sigmoid over the layers",
    source="P-Sigmoid, CVPR 2025 (abstract)",
    differs="counts are given, such as `edgeprune.tokens.inside.sigmoid` makes them for a slope and a mean share",
)
