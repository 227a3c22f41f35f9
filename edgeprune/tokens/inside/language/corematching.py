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
    largest = torch.sort(active, dim=1, descending=True, stable=True).values[:, :most]
    least = torch.gather(largest, 1, torch.clamp(count - 1, min=0)[:, None])
    return (active >= least) & (active > 0) & (count > 0)[:, None]


def _rank(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    of_row, of_prompt = (settings.get(one.name, one.default) for one in (_OF_ROW, _OF_PROMPT))
    cores = (core(rows["active"], of_row) & rows.present[:, None]).to(torch.float32)
    neurons = cores.shape[1]
    order = torch.sort(cores.sum(dim=0), descending=True, stable=True).indices
    place = torch.sort(order, stable=True).indices
    shared: Tensor = cores @ (place < int(of_prompt * neurons)).to(torch.float32)
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
