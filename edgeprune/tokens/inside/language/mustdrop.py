"""MustDrop's stages in the language model: a sum and a peak of the question's attention, and a key set that always stays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, attention, on_top
from edgeprune.tokens.registry.method import Setting

if TYPE_CHECKING:
    from torch import Tensor


_SUM = Setting("sum", 0.001, "share of all attention that one row needs to stay", least=1e-9, most=1)
_PEAK = Setting("peak", 0.001, "attention of one question row that a row needs to stay", least=1e-9, most=1)
_KEYS = Setting("keys", 0.08, "share of the rows that always stays, by the encoder's attention", most=1)


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    assert rows.entered is not None
    used = (rows.weight > 0).to(torch.float32)[:, None]
    given = attention(rows, rows["query"], rows["key"]).mean(dim=0) * used * rows.visual
    total = torch.clamp(given.sum(), min=1e-30)
    least, peak = (settings.get(one.name, one.default) for one in (_SUM, _PEAK))
    ratio = torch.maximum(given.sum(dim=0) / (total * least), given.amax(dim=0) / peak)
    keys = torch.ceil(rows.entered.sum() * settings.get(_KEYS.name, _KEYS.default)).to(torch.int64)
    salience = torch.where(rows.visual, rows["salience"], float("-inf"))
    order = torch.sort(salience, descending=True, stable=True).indices
    place = torch.sort(order, stable=True).indices
    return on_top(ratio, rows.visual & (place < keys))


def _forced(visual: int, settings: Mapping[str, float]) -> int:
    return math.ceil(visual * settings.get(_KEYS.name, _KEYS.default))


MUSTDROP = LanguageCut(
    name="mustdrop",
    summary="rows that the question attends to least, in sum and at most, but for a key set of the encoder's",
    source="MustDrop, arXiv 2411.10803, second stage",
    evidence="code read",
    differs="counts are given: the order by the larger of sum / threshold and peak / threshold, in which the source keeps those of 1 and more; "
    "windows merged in the tower and trimmed caches are not part of it; the key set is of the rows that enter, by the feature layer",
    settings=(_SUM, _PEAK, _KEYS),
    rank=_rank,
    reads=frozenset({"attention", "salience"}),
    asking="question",
    forced=_forced,
)
