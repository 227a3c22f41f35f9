"""What a head group and a channel of a part cost, in the measure of a target."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    classes          of a classifier; 0: none
    """

    precision: Precision
    request: Request
    embedding_bytes: int = 4
    classes: int = 0


def price_of(measure: Measure, spec: TowerSpec | DecoderSpec, terms: Terms, track: Track) -> Price:
    """Linear price of a part; `latency` is measured here and now, the others are counted."""
    if isinstance(spec, TowerSpec):
        macs = cost.macs_of_classifier(spec, terms.classes) if terms.classes else cost.macs_of_tower(spec)
        if measure == "macs":
            return macs
        if measure == "params":
            return cost.parameters(spec, classes=terms.classes)
        if measure == "memory":
            return cost.bytes_of_tower(spec, terms.precision, classes=terms.classes)
        seconds = seconds_of_tower(spec, terms.precision, track)
        # The last block of a classifier is not timed apart: its share is that of the MACs.
        last = (
            (seconds.group * macs.last[0] / macs.group, seconds.channel * macs.last[1] / macs.channel)
            if macs.last
            else None
        )
        return replace(seconds, last=last)
    if measure == "params":
        return cost.parameters(spec)
    if measure == "macs":
        return cost.macs_of_language(spec, terms.request.positions)
    if measure == "memory":
        return cost.bytes_of_language(spec, terms.precision, terms.request.capacity, terms.embedding_bytes)
    return seconds_of_language(spec, terms.precision, terms.request, track)
