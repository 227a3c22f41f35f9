"""FastV: rows leave by the attention that the prompt's last row paid them in the layer before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, asked_for, attention

if TYPE_CHECKING:
    from torch import Tensor


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    return asked_for(rows, attention(rows, rows["query"], rows["key"]))


FASTV = LanguageCut(
    name="fastv",
    summary="rows that the prompt's last one attends to least in the layer before",
    source="FastV, arXiv 2403.06764",
    evidence="code read",
    differs="any number of cuts; a share is of the rows that enter the language model and is what stays",
    rank=_rank,
    reads=frozenset({"attention"}),
)
