"""All graphs of the language model's layers: prefill and decode of every stage, and the ranking before each that rows leave before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from edgeprune.models.spec import DecoderSpec
from edgeprune.tokens.inside.place import CutPlace
from edgeprune.tokens.inside.plan import PlannedInside
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune_export.graphs.decoder import block_graph
from edgeprune_export.graphs.rank import rank_graph, ranking_inputs
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import LanguageSpec
from edgeprune_runtime.stages.counts import choices
from edgeprune_runtime.stages.recycled import states_before


def cut_places(language: LanguageSpec, decoder: DecoderSpec, inside: PlannedInside | None) -> tuple[CutPlace, ...]:
    """Where rows leave or come back, and by which method; stage 0 among them where not all rows enter it."""
    if inside is None:
        return ()
    assert isinstance(inside.method, LanguageCut)
    numbers = sorted({*choices(language), *language.cuts})
    return tuple(CutPlace(language, number, inside.method, inside.spec.settings, decoder) for number in numbers)


def noted(place: CutPlace) -> dict[str, Any]:
    """What the stage before gives for the ranking, as `block_graph` takes it."""
    names = ranking_inputs(place)
    return {
        "asked": "query" in names,
        "active": "active" in names,
        "changed_from": place.changed[0] if "changed" in names else None,
    }


def language_graphs(
    language: LanguageSpec,
    decoder: DecoderSpec,
    inside: PlannedInside | None,
    writer: WeightsWriter,
    weights_file: str,
) -> dict[str, Callable[[], Graph]]:
    """By name, in the order in which they run."""
    build: dict[str, Callable[[], Graph]] = {}
    places = {place.number: place for place in cut_places(language, decoder, inside) if place.name}
    for number, stage in enumerate(language.stages):
        more: dict[str, Any] = {}
        if number in places:
            build[str(stage.rank)] = partial(rank_graph, places[number], writer, weights_file)
        if number in language.cuts:
            more["gathered_of"] = states_before(language, number)
        if number + 1 in places:
            more |= noted(places[number + 1])
        for name, rows in ((stage.prefill, language.chunk_of(stage)), (stage.decode, 1)):
            build[name] = partial(
                block_graph,
                name,
                decoder,
                writer,
                weights_file,
                rows=rows,
                capacity=stage.capacity,
                layers=(stage.first, stage.behind),
                deepstack=language.deepstack,
                **more,
            )
    return build
