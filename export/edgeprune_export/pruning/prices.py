"""What a head group and a channel of a part cost, in the measure of a target."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.models.spec import DecoderSpec, TowerSpec
from edgeprune.structure import cost
from edgeprune.structure.cost import Price
from edgeprune.structure.targets import Measure
from edgeprune_export.linear import Precision
from edgeprune_export.options import Track
from edgeprune_export.pruning.latency import Request, seconds_of_language, seconds_of_tower


@dataclass(frozen=True)
class Terms:
    """What sizes depend on beside widths.

    embedding_bytes  per number of the embedding table as the exporter stores it
    extra_params     a classifier's final norm and head; extra_macs: its head
    """

    precision: Precision
    request: Request
    embedding_bytes: int = 4
    extra_params: int = 0
    extra_macs: int = 0


def price_of(measure: Measure, spec: TowerSpec | DecoderSpec, terms: Terms, track: Track) -> Price:
    """Linear price of a part; `latency` is measured here and now, the others are counted."""
    if isinstance(spec, TowerSpec):
        if measure == "params":
            return cost.parameters(spec, extra=terms.extra_params)
        if measure == "macs":
            return cost.macs_of_tower(spec, extra=terms.extra_macs)
        if measure == "memory":
            price = cost.bytes_of_tower(spec, terms.precision)
            return Price(price.fixed + 4 * terms.extra_params, price.block, price.group, price.channel)
        return seconds_of_tower(spec, terms.precision, track)
    if measure == "params":
        return cost.parameters(spec)
    if measure == "macs":
        return cost.macs_of_language(spec, terms.request.positions)
    if measure == "memory":
        return cost.bytes_of_language(spec, terms.precision, terms.request.capacity, terms.embedding_bytes)
    return seconds_of_language(spec, terms.precision, terms.request, track)
