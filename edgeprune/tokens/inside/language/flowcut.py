"""FlowCut's cut in the language model: attention and likeness of values, by the size of the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, asked_for, attention

if TYPE_CHECKING:
    from torch import Tensor


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    value = rows["value"]
    related = asked_for(rows, attention(rows, rows["query"], rows["key"], among=rows.visual))
    alike = asked_for(rows, attention(rows, value[rows.asking], value, among=rows.visual))
    return (related + alike) * value.mean(dim=1).abs().sum(dim=-1)


FLOWCUT_ROWS = LanguageCut(
    name="flowcut",
    summary="rows through which least information flows to the prompt's last one in the layer before",
    source="FlowCut, repository TungChintao/FlowCut",
    evidence="code read",
    differs="the cut before layer 2 is the source's; the tower's cuts are the output method of the same name",
    rank=_rank,
    reads=frozenset({"attention", "values"}),
)
