"""The work of one request by stage: how often each graph runs, and what a run computes and moves.

Counts are the exporter's, in the manifest, so nothing here needs onnx. A bundle's graphs can
be run in another precision than they are stored in: engines on a GPU compute float graphs in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeprune_runtime import budgets
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.prompting.pack import KeptPicture, pack
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.spec import GraphWork, LanguageSpec, tower_of
from edgeprune_runtime.stages.counts import StageRows, choice_from_text, stage_rows

FLOAT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}


@dataclass(frozen=True)
class Load:
    """What one run asks of a device: multiply-accumulates by precision, bytes through its memory, nodes to launch.

    streamed_bytes  weights and cache among the bytes: read once from end to end, so no cache smaller than they are helps
    """

    macs: Mapping[str, float]
    moved_bytes: float
    nodes: int
    streamed_bytes: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A stage of a request and its runs: (times, load)."""

    name: str
    runs: tuple[tuple[float, Load], ...]


@dataclass(frozen=True)
class StageShape:
    """Layers over `rows` rows of a prompt: names of their graphs, `rank` of the one that lets rows go on into them, positions per run."""

    rows: int
    chunk: int
    prefill: str = "prefill"
    decode: str = "decode"
    rank: str | None = None


@dataclass(frozen=True)
class RequestShape:
    """What a request looks like to the graphs. `positions` of the prompt, newlines and text included; stages: of the language model, none:
    all its layers over all positions."""

    budget: str
    method: str
    select: str
    tower: str
    keep_ratio: float
    tiles: int
    visual: int
    positions: int
    answer: int
    stages: tuple[StageShape, ...] = ()


def request_shape(
    bundle: Bundle,
    budget: str,
    question: str,
    answer: int,
    size: tuple[int, int] | None = None,
) -> RequestShape:
    """The request for one picture of `size` = (height, width), by default one that fills the largest tile grid.

    budget may say by which method, on how many tiles and what stays inside the language model, as in a report
    """
    manifest = bundle.manifest
    budget, tiles, method, inside = budgets.asked_for(budget)
    limited = manifest.picture.limited(tiles)
    picture = pack_picture(limited.place(*(size or limited.largest)), manifest.picture)
    chosen = budgets.selection(manifest, budget, method, manifest.picture.tokens_of(picture.place))
    kept = picture.unit[picture.unit >= 0]
    kept = kept if chosen.whole else kept[: chosen.keep]
    prompter = Prompter.of(bundle)
    tokens = prompter.tokens(prompter.render(question, images=1), (picture,))
    separators = manifest.plan.separators_for(chosen)
    packed = pack(
        tokens,
        (KeptPicture(picture, kept, separators),),
        manifest.plan.positions_for(chosen),
        manifest.picture.sequence,
    )
    return RequestShape(
        budget=chosen.budget,
        method=chosen.method,
        select=chosen.graph,
        tower=tower_of(chosen.tower, picture.place.view),
        keep_ratio=chosen.keep_ratio,
        tiles=picture.tiles,
        visual=len(kept),
        positions=len(packed.ids),
        answer=answer,
        stages=stage_shapes(
            manifest.language, stage_rows(manifest.language, len(packed.ids), len(kept), choice_from_text(inside))
        ),
    )


def stage_shapes(spec: LanguageSpec, rows: Sequence[StageRows]) -> tuple[StageShape, ...]:
    """The stages of a language model for a prompt that has so many rows in each; a ranking runs where rows leave."""
    found = []
    visual = max(here.visual for here in rows)
    for stage, here in zip(spec.stages, rows, strict=True):
        rank = stage.rank if here.visual < visual else None
        found.append(StageShape(here.rows, spec.chunk_of(stage), stage.prefill, stage.decode, rank))
    return tuple(found)


def request_stages(
    chunk: int, graphs: Mapping[str, GraphWork], shape: RequestShape, precision: str | None
) -> tuple[Stage, ...]:
    """tower, select, prefill and decode of a request; decode is one mean step of the answer.

    chunk      positions per run of the prefill graph
    precision  what a device computes float values in; None: as they are stored
    """
    stages = shape.stages or (StageShape(shape.positions, chunk),)
    head = (1.0, _load(graphs["head"], precision))
    prefill = [run for stage in stages for run in _prefill(stage, graphs, precision)]
    depths = [(stage, stage.rows + (shape.answer + 1) / 2) for stage in stages]
    decode = [(1.0, _load(graphs[stage.decode], precision, depth, depth)) for stage, depth in depths]
    return (
        Stage("tower", ((float(shape.tiles), _load(graphs[shape.tower], precision)),)),
        Stage("select", ((1.0, _load(graphs[shape.select], precision)),)),
        Stage("prefill", (*prefill, head)),
        Stage("decode", (*decode, head)),
    )


def _prefill(stage: StageShape, graphs: Mapping[str, GraphWork], precision: str | None) -> list[tuple[float, Load]]:
    """Runs of a stage's graphs for the rows of a prompt."""
    chunk, chunks = stage.chunk, -(-stage.rows // stage.chunk)
    pairs = (
        chunks * chunk * (chunks * chunk + 1) / 2
    )  # of a row and a position it sees; rows beyond the prompt are computed too
    seen = chunks * chunk * (chunks + 1) / 2  # positions of the cache that all chunks read
    runs = [(float(chunks), _load(graphs[stage.prefill], precision, pairs / chunks, seen / chunks))]
    return runs if stage.rank is None else [(1.0, _load(graphs[stage.rank], precision)), *runs]


def _load(graph: GraphWork, precision: str | None, pairs: float = 0, seen: float = 0) -> Load:
    """pairs and seen: rows x positions of attention over the cache, and positions of it that are read."""
    floats = precision or "fp32"
    macs = {floats: float(sum(n for kind, n in graph.macs.items() if kind != "linear_int8") + pairs * graph.pair_macs)}
    if whole := graph.macs.get("linear_int8"):
        macs["int8"] = macs.get("int8", 0.0) + whole
    weights = sum(count * _shrunk(stored, precision) for stored, count in graph.weight_bytes.items())
    width = _shrunk("fp32", precision)
    streamed = weights + seen * graph.cache_bytes * width
    moved = streamed + graph.activation_bytes * width
    return Load({name: n for name, n in macs.items() if n}, moved, graph.nodes, streamed)


def _shrunk(stored: str, precision: str | None) -> float:
    """Bytes of a value as computed, relative to as stored; only floats change."""
    width = FLOAT_BYTES.get(stored)
    if precision is None or width is None or stored == "int8":
        return 1.0
    return min(FLOAT_BYTES[precision] / width, 1.0)
