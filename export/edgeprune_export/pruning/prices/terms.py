"""What a head group and a channel of a part cost, in the measure of a target."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeprune.models.spec import DecoderSpec, TowerSpec
from edgeprune.structure import cost
from edgeprune.structure.cost import Price
from edgeprune.structure.targets import Measure
from edgeprune_export.bundle.progress import Track
from edgeprune_runtime.spec import WeightPrecision


@dataclass(frozen=True)
class PricedRequest:
    """What the language model is measured on: a prompt of `positions` in chunks, then `tokens` decode steps, with a cache of `capacity`."""

    positions: int
    tokens: int
    chunk: int
    capacity: int


@dataclass(frozen=True)
class Terms:
    """What sizes depend on beside widths.

    embedding_bytes  per number of the embedding table as the exporter stores it
    classes          of a classifier; 0: none
    views            parts of a tile that the tower gets graphs for
    """

    precision: WeightPrecision
    request: PricedRequest
    embedding_bytes: int = 4
    classes: int = 0
    views: tuple[tuple[int, int], ...] = ()


def price_of(measure: Measure, spec: TowerSpec | DecoderSpec, terms: Terms, track: Track) -> Price:
    """Linear price of a part; `latency` and `energy` are measured here and now, the others are counted."""
    if isinstance(spec, TowerSpec):
        macs = cost.macs_of_classifier(spec, terms.classes) if terms.classes else cost.macs_of_tower(spec)
        if measure == "macs":
            return macs
        if measure == "params":
            return cost.parameters(spec, classes=terms.classes)
        if measure == "memory":
            return cost.bytes_of_tower(spec, terms.precision, classes=terms.classes, views=terms.views)
        price = _measured(measure, spec, terms, track)
        # The last block of a classifier is not measured apart: its share is that of the MACs.
        last = (
            (price.group * macs.last[0] / macs.group, price.channel * macs.last[1] / macs.channel)
            if macs.last
            else None
        )
        return replace(price, last=last)
    if measure == "params":
        return cost.parameters(spec)
    if measure == "macs":
        return cost.macs_of_language(spec, terms.request.positions)
    if measure == "memory":
        return cost.bytes_of_language(spec, terms.precision, terms.request.capacity, terms.embedding_bytes)
    return _measured(measure, spec, terms, track)


def _measured(measure: Measure, spec: TowerSpec | DecoderSpec, terms: Terms, track: Track) -> Price:
    """Blocks are made, run and measured: what that needs is imported here."""
    from edgeprune_export.pruning.prices.energy import joules
    from edgeprune_export.pruning.prices.latency import seconds
    from edgeprune_export.pruning.prices.timed_blocks import price_of_language, price_of_tower

    cost = {"latency": seconds, "energy": joules}[measure]
    if isinstance(spec, TowerSpec):
        return price_of_tower(spec, terms.precision, cost, track)
    return price_of_language(spec, terms.precision, terms.request, cost, track)
