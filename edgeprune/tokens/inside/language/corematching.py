"""CoreMatching's token half: rows stay whose most active neurons are those of the whole prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows
from edgeprune.tokens.registry.method import Setting

if TYPE_CHECKING:
    from torch import Tensor


_OF_ROW = Setting("row", 0.2, "share of a row's positive activations that are its core", least=1e-6, most=1)
_OF_PROMPT = Setting("prompt", 0.4, "share of all neurons that are the prompt's core", least=1e-6, most=1)
_PARTS = 1_000_000  # a share of a whole number of neurons, cut off, without a rounding of its own


def core(active: Tensor, share: float) -> Tensor:
    """[L, F] bool: of each row, the neurons of that share of its positive activations that are largest."""
    most = max(1, int(share * active.shape[1]))
    count = torch.div((active > 0).sum(dim=1) * round(share * _PARTS), _PARTS, rounding_mode="floor")
    largest = torch.topk(active, most, dim=1).values
    least = torch.gather(largest, 1, torch.clamp(count - 1, min=0)[:, None])
    return (active >= least) & (active > 0) & (count > 0)[:, None]


def first_of(counts: Tensor, wanted: int, most: int) -> Tensor:
    """[F] bool: the `wanted` highest of whole numbers up to `most`, equal ones by their place.

    By halves and not by sorting: engines sort no more than 3,840 numbers.
    """
    least = torch.zeros((), dtype=torch.int64)
    for bit in reversed(range(most.bit_length())):
        higher = least + (1 << bit)
        least = torch.where((counts >= higher).sum() >= wanted, higher, least)
    equal = counts == least
    short = wanted - (counts > least).sum()
    return (counts > least) | (equal & (torch.cumsum(equal.to(torch.int64), dim=0) <= short))


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    of_row, of_prompt = (settings.get(one.name, one.default) for one in (_OF_ROW, _OF_PROMPT))
    cores = (core(rows["active"], of_row) & rows.present[:, None]).to(torch.float32)
    size, neurons = cores.shape
    voted = cores.sum(dim=0).to(torch.int64)
    shared: Tensor = cores @ first_of(voted, int(of_prompt * neurons), size).to(torch.float32)
    return shared


COREMATCHING = LanguageCut(
    name="corematching",
    summary="rows whose most active neurons in the layer before are least those of the whole prompt",
    source="CoreMatching, ICML 2025",
    evidence="paper",
    differs="rows only, no neurons; a given count instead of the knee of the curve; whole numbers tie often, and the lower row stays; "
    "activations of all rows are kept until the cut, 4 bytes for each neuron of the layer",
    settings=(_OF_ROW, _OF_PROMPT),
    rank=_rank,
    reads=frozenset({"active"}),
)
