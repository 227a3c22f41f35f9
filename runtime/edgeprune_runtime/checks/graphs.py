"""Graphs against numbers: every input and output of every graph has the name, type and shape that the runtime will bind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edgeprune_runtime.spec import GraphSpec, LanguageSpec, Manifest, StageSpec, TensorSpec, tower_of
from edgeprune_runtime.stages.cut import NOTES
from edgeprune_runtime.stages.recycled import rows_beside, states_before

Sizes = tuple[str, tuple[int, ...]]  # element type and shape


def graph_faults(manifest: Manifest) -> Iterator[str]:
    """What the graphs of a manifest promise that its numbers do not."""
    graphs = {graph.name: graph for graph in manifest.graphs}
    if len(graphs) != len(manifest.graphs):
        yield "two graphs of one name"
    for graph in manifest.graphs:
        names = [spec.name for spec in graph.inputs]
        if len(set(names)) != len(names) or len({spec.name for spec in graph.outputs}) != len(graph.outputs):
            yield f"graph {graph.name} with two inputs or outputs of one name"
    yield from _language_faults(manifest.language, graphs)
    views = manifest.picture.views or (None,)
    for tower in dict.fromkeys(s.tower for s in manifest.selections):
        first = graphs[tower_of(tower, views[0])]
        for view in views:
            graph = graphs[tower_of(tower, view)]
            yield from _tower_faults(manifest, graph, view)
            yield from _differences(f"graph {graph.name}", "output", graph.outputs, _sizes(first.outputs))
    for s in manifest.selections:
        yield from _select_faults(manifest, graphs[s.graph], graphs[tower_of(s.tower, views[0])], s.keep)
    questions = {spec.shape for s in manifest.selections for spec in graphs[s.graph].inputs if spec.name == "question"}
    if len(questions) > 1:
        yield "methods that look at questions of different lengths"


def interface_faults(graph: GraphSpec, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> Iterator[str]:
    """Where a file has other inputs and outputs than its manifest says."""
    yield from _differences(f"the file of graph {graph.name}", "input", inputs, _sizes(graph.inputs))
    yield from _differences(f"the file of graph {graph.name}", "output", outputs, _sizes(graph.outputs))


def _language_faults(spec: LanguageSpec, graphs: Mapping[str, GraphSpec]) -> Iterator[str]:
    for number, stage in enumerate(spec.stages):
        last = stage is spec.stages[-1]
        asked = {} if last else _asked(graphs, spec.stages[number + 1])
        for name, rows in ((stage.prefill, spec.chunk_of(stage)), (stage.decode, 1)):
            graph, caches = graphs[name], _caches(spec, stage)
            width = spec.width_before(stage.first)
            taken: dict[str, Sizes] = {"embeds": ("float32", (rows, width))}
            if number in spec.cuts:
                taken = {"states": ("float32", (states_before(spec, number), width)), "rows": ("int64", (rows,))}
            inputs = {
                **taken,
                "position_ids": ("int64", (spec.axes, rows)),
                **({"row": ("int64", (1,))} if last else {}),
                "last_index": ("int32", (1,)),
                "total": ("int32", (1,)),
                **{f"past_{key}": size for key, size in caches.items()},
            }
            outputs = {
                **{f"present_{key}": size for key, size in caches.items()},
                **{name: (dtype, (rows, *shape[1:])) for name, (dtype, shape) in asked.items()},
                "hidden": ("float32", (1, spec.hidden) if last else (rows, spec.width_before(stage.behind))),
            }
            yield from _differences(f"graph {name}", "input", graph.inputs, inputs)
            yield from _differences(f"graph {name}", "output", graph.outputs, outputs)
        if stage.rank is not None:
            yield from _rank_faults(spec, number, graphs[stage.rank])
    head = graphs[spec.head]
    yield from _differences(f"graph {spec.head}", "input", head.inputs, {"hidden": ("float32", (1, spec.hidden))})
    yield from _differences(f"graph {spec.head}", "output", head.outputs, {"logits": ("float32", (1, spec.vocab))})


def _asked(graphs: Mapping[str, GraphSpec], stage: StageSpec) -> dict[str, Sizes]:
    """What the ranking before a stage reads that the stage before it gives of every row."""
    inputs = () if stage.rank is None else graphs[stage.rank].inputs
    return {name: size for name, size in _sizes(inputs).items() if name in NOTES}


def _rank_faults(spec: LanguageSpec, number: int, graph: GraphSpec) -> Iterator[str]:
    stage, before = spec.stages[number], spec.stages[number - 1]
    prompt, chunk, found = spec.stages[spec.cuts[0] - 1].capacity, spec.chunk_of(stage), _sizes(graph.inputs)
    asks = found["asking"][1] if "asking" in found else ()
    known: dict[str, Sizes] = {
        "visual": ("int64", (prompt,)),
        "position_ids": ("int64", (spec.axes, prompt)),
        "salience": ("float32", (prompt,)),
        "places": ("int64", (prompt, 2)),
        "embeds": ("float32", (prompt, spec.hidden)),
        "carried": ("float32", (prompt,)),
        "origin": ("int64", (before.capacity,)),
        "position_ids_before": (
            "int64",
            (before.capacity // spec.chunk_of(before), spec.axes, spec.chunk_of(before)),
        ),
        "total": ("int64", (1,)),
        "count": ("int64", (1,)),
        "asking": ("int64", asks[:1] or (1,)),
        "asking_weight": ("float32", asks[:1] or (1,)),
        **{name: ("float32", (before.capacity, *found[name][1][1:])) for name in NOTES if name in found},
        "states": ("float32", (states_before(spec, number), spec.width_before(stage.first))),
        **{f"past_{key}": size for key, size in _caches(spec, before).items()},
    }
    always = ("visual", "position_ids", "total", "count")
    wanted = {name: size for name, size in known.items() if name in found or name in always}
    yield from _differences(f"graph {graph.name}", "input", graph.inputs, wanted)
    outputs: dict[str, Sizes] = {
        "rows": ("int64", (stage.capacity // chunk, chunk)),
        "position_ids_of_rows": ("int64", (stage.capacity // chunk, spec.axes, chunk)),
        "origin_of_rows": ("int64", (stage.capacity,)),
    }
    if any(output.name == "carried_of_rows" for output in graph.outputs):  # where later cuts need something of this one
        outputs["carried_of_rows"] = ("float32", (prompt,))
    if stage.recycles:
        outputs["beside"] = ("float32", (rows_beside(spec, number), spec.width_before(stage.first)))
    yield from _differences(f"graph {graph.name}", "output", graph.outputs, outputs)


def _caches(spec: LanguageSpec, stage: StageSpec) -> dict[str, Sizes]:
    """Keys and values of a stage's layers by the end of their names."""
    return {
        f"{kind}_{layer}": ("float32", (1, spec.kv_heads[layer], stage.capacity, spec.head_dim))
        for layer in range(stage.first, stage.behind)
        for kind in ("key", "value")
    }


def _tower_faults(manifest: Manifest, graph: GraphSpec, view: tuple[int, int] | None) -> Iterator[str]:
    tile = manifest.picture.tile
    inputs: dict[str, Sizes] = {"pixels": ("float32", (1, 3, *(view or (tile.px, tile.px))))}
    if any(spec.name == "valid" for spec in graph.inputs):
        inputs["valid"] = ("float32", (1, tile.units))
    yield from _differences(f"graph {graph.name}", "input", graph.inputs, inputs)
    for spec in graph.outputs:
        if len(spec.shape) < 2 or spec.shape[0] != 1:
            yield f"graph {graph.name} gives {spec.name} {list(spec.shape)}, expected one tile [1, ...]"
    features = [spec for spec in graph.outputs if spec.name == "features"]
    if not features or features[0].dtype != "float32" or features[0].shape[:2] != (1, tile.units):
        found = f"{features[0].dtype} {list(features[0].shape)}" if features else "none"
        yield f"graph {graph.name} gives features {found}, expected float32 [1, {tile.units}, channels]"


def _select_faults(manifest: Manifest, graph: GraphSpec, tower: GraphSpec, keep: int) -> Iterator[str]:
    tiles, units, hidden = manifest.picture.tiles_max, manifest.picture.tile.units, manifest.language.hidden
    rows = max((spec.shape[0] for spec in graph.inputs if spec.name in ("question", "question_weight")), default=0)
    known: dict[str, Sizes] = {
        **{spec.name: (spec.dtype, (tiles, *spec.shape[1:])) for spec in tower.outputs},
        "slot": ("int64", (tiles, units)),
        "region": ("float32", (tiles, units)),
        "places": ("int64", (tiles, units, 2)),
        "entropy": ("float32", (tiles, units)),
        "question": ("float32", (rows, hidden)),
        "question_weight": ("float32", (rows,)),
    }
    read = {spec.name for spec in graph.inputs}
    if unknown := sorted(read - known.keys()):
        yield f"graph {graph.name} reads {unknown[0]}, which {tower.name} does not give"
    wanted = {name: known[name] for name in read if name in known}
    if "question" in read or "question_weight" in read:
        wanted |= {name: known[name] for name in ("question", "question_weight")}
    yield from _differences(f"graph {graph.name}", "input", graph.inputs, wanted)
    outputs = {"visual": ("float32", (keep, manifest.language.row_width)), "kept": ("int64", (keep,))}
    if any(spec.name == "salience" for spec in graph.outputs):  # read where the language model ranks by it
        outputs["salience"] = ("float32", (keep,))
    yield from _differences(f"graph {graph.name}", "output", graph.outputs, outputs)


def _sizes(specs: Iterable[TensorSpec]) -> dict[str, Sizes]:
    return {spec.name: (spec.dtype, spec.shape) for spec in specs}


def _differences(where: str, kind: str, found: Iterable[TensorSpec], wanted: Mapping[str, Sizes]) -> Iterator[str]:
    has = _sizes(found)
    for name, size in wanted.items():
        if name not in has:
            yield f"{where} has no {kind} {name}"
        elif has[name] != size:
            yield f"{where} has the {kind} {name} as {_shown(has[name])}, expected {_shown(size)}"
    if more := sorted(has.keys() - wanted.keys()):
        yield f"{where} has the {kind} {more[0]}, which nothing is known about"


def _shown(size: Sizes) -> str:
    return f"{size[0]} {list(size[1])}"
