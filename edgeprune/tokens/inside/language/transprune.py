"""TransPrune: rows leave that layers change little and that the question does not look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, asked_for, attention
from edgeprune.tokens.registry.method import Setting

if TYPE_CHECKING:
    from torch import Tensor


_ASKED = Setting(
    "asked", 1, "weight of what the question attends to, beside what layers change; 0: that alone", most=1e3
)


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    asked = asked_for(rows, attention(rows, rows["query"], rows["key"]))
    weight = settings.get(_ASKED.name, _ASKED.default)
    return _to_one(rows["changed"], rows.visual) + weight * _to_one(asked, rows.visual)


def _to_one(score: Tensor, visual: Tensor) -> Tensor:
    """Divided by its sum over visual rows, 0 elsewhere."""
    of_picture = torch.where(visual, score, 0.0)
    return of_picture / torch.clamp(of_picture.sum(), min=1e-30)


TRANSPRUNE = LanguageCut(
    name="transprune",
    summary="rows that layers change least and that the question attends to least, by the queries and keys of the layer to come",
    source="TransPrune, repository liaolea/TransPrune",
    evidence="code read",
    differs="changes count from the layer before the first cut on, which in the source is the seventh; each layer's are divided by their sum "
    "over visual rows that are there; positions are kept (--positions renumber); question rows are those behind the last picture, at most 64",
    settings=(_ASKED,),
    rank=_rank,
    reads=frozenset({"next", "changed"}),
    asking="question",
)
