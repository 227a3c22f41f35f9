"""LVLM_CSP: few rows first, then all of them again, then those that the prompt's last row attends to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, asked_for, attention

if TYPE_CHECKING:
    from torch import Tensor


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    return asked_for(rows, attention(rows, rows["query"], rows["key"]))


LVLM_CSP = LanguageCut(
    name="lvlm-csp",
    summary="all but rows at even distances before layer 0; all are back at the second layer, and at the third those leave that the prompt's "
    "last one attends to least in the layer before",
    source="LVLM_CSP (abstract and reviews)",
    evidence="reconstruction",
    differs="layers and counts are given, as in lvlm-csp@0,4,16:0.25,1,0.1; rows come back as they were before layer 0; the prompt's last row "
    "asks, for which the source has a segmentation token that the model writes; not where features enter behind layers",
    rank=_rank,
    reads=frozenset({"attention"}),
    returns=True,
)
