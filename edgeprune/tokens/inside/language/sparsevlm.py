"""SparseVLM: question rows that the picture is near rate its rows by their attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, attention
from edgeprune.tokens.registry.method import Setting

if TYPE_CHECKING:
    from torch import Tensor


_RECYCLE = Setting(
    "recycle", 1, "1: means of clusters of what leaves stay as well, 3 rows for each 100; 0: not", most=1, whole=True
)


def raters(rows: LanguageRows) -> Tensor:
    """Weights [R] of the asking rows: 1/n for the n that are nearer to the picture than their mean, 0 for the rest; where none stands out,
    all of them.

    Nearness is a softmax over the question of products of embeddings, mean over visual rows.
    """
    assert rows.origin is not None and rows.entered is not None
    embeds, used = rows["embeds"], rows.weight > 0
    products = embeds @ embeds[rows.origin[rows.asking]].T  # [P, R]
    near = torch.softmax(torch.where(used, products, float("-inf")), dim=-1)
    picture = rows.entered.to(near.dtype)
    relevance = (near * picture[:, None]).sum(dim=0) / torch.clamp(picture.sum(), min=1)
    mean = (relevance * used).sum() / torch.clamp(used.sum(), min=1)
    near_it = used & (relevance > mean)
    chosen = used & (near_it | ~near_it.any())
    return chosen.to(near.dtype) / torch.clamp(chosen.sum(), min=1)


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    weights = attention(rows, rows["query"], rows["key"]).mean(dim=0)
    return (weights * raters(rows)[:, None]).sum(dim=0)


SPARSEVLM = LanguageCut(
    name="sparsevlm",
    summary="rows that the question's rows nearest to the picture attend to least in the layer before",
    source="SparseVLM, arXiv 2410.04417, version 1.5",
    evidence="code read",
    differs="a cluster's mean stands at its centre's place and position, where the source puts them behind the rows that stay and "
    "counts positions anew; no noise parts equal densities; question rows are those behind the last picture, at most 64",
    settings=(_RECYCLE,),
    rank=_rank,
    reads=frozenset({"attention", "embeds"}),
    asking="question",
    recycles=lambda settings: settings.get(_RECYCLE.name, _RECYCLE.default) > 0,
)
