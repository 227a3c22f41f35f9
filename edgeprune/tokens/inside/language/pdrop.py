"""PyramidDrop: rows leave by the attention that the prompt's last row would pay them in the layer to come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, asked_for, attention

if TYPE_CHECKING:
    from torch import Tensor


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    return asked_for(rows, attention(rows, rows["query"], rows["key"]))


PDROP = LanguageCut(
    name="pdrop",
    summary="rows that the prompt's last one attends to least by the queries and keys of the layer to come",
    source="PyramidDrop, arXiv 2410.17247",
    evidence="code read",
    differs="positions are kept, as all plans here do by default; the source counts anew after each cut (--positions renumber)",
    rank=_rank,
    reads=frozenset({"next"}),
)
