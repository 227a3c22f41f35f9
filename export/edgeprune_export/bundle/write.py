"""The content of a bundle: weights, graphs, texts, and the manifest, once the graphs are held against transformers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import msgspec
import onnx

from edgeprune.models import Checkpoint, ModelSpec, inverse_frequencies
from edgeprune.plan import MethodPlan
from edgeprune.tokens.inside.encoder import encoder_reads
from edgeprune.tokens.inside.language_fit import language_cut
from edgeprune.tokens.inside.plan import planned_inside
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune.tokens.inside.tower.plan.of_model import WHOLE, cuts_for
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.readings import Reads, union
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.bundle.progress import Track
from edgeprune_export.bundle.roofline_counts import count_model
from edgeprune_export.bundle.seal import hashes, write_manifest
from edgeprune_export.bundle.stages import language_spec, positions_reached
from edgeprune_export.gate.parity import cases, check_parity
from edgeprune_export.graphs.connector import store_connector
from edgeprune_export.graphs.cut_tower import cut_tower_graph
from edgeprune_export.graphs.decoder import head_graph, rotary_tables, store_decoder
from edgeprune_export.graphs.select import select_graph
from edgeprune_export.graphs.stages import language_graphs
from edgeprune_export.graphs.tower import store_tower, tower_blocks, tower_graph, towers_by_view
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.installed import version_of
from edgeprune_runtime.spec import (
    SCHEMA,
    GraphSpec,
    LanguageSpec,
    Manifest,
    ParityReport,
    Provenance,
    SelectionSpec,
    TensorRef,
    in_vision,
    tower_of,
)

WEIGHTS = "weights.bin"
_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "structure.json",  # of a pruned checkpoint: what was removed and why
)
_PACKAGES = (
    "edgeprune",
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "numpy",
    "tokenizers",
    "safetensors",
)


def write_bundle(
    folder: Path,
    name: str,
    checkpoint: Checkpoint,
    plan: MethodPlan,
    chosen: tuple[SelectionSpec, ...],
    room: int,
    options: ExportOptions,
    track: Track,
) -> None:
    """Fill `folder`, which is not published yet. Raises ExportError or ParityError.

    name  of the source; room: positions of the KV cache; chosen: what is kept under each budget and method
    """
    model = checkpoint.spec
    reads = {
        tower: union(METHODS[s.method].reads(plan) for s in chosen if s.tower == tower)
        | encoder_reads(_encoder(options), plan)
        for tower in _towers(chosen)
    }
    with WeightsWriter(folder / WEIGHTS) as writer:
        _write_weights(writer, checkpoint, union(reads.values()), options, room, track)
        language = _language(model, writer, chosen, room, options)
    graphs = _write_graphs(folder, writer, model, plan, chosen, reads, language, options, track)
    _copy_text(checkpoint, folder)
    own = [path.name for path in folder.iterdir()]
    sources = [path.name for path in checkpoint.path.iterdir() if path.suffix in (".json", ".safetensors", ".jinja")]
    with track("checksums", len(own) + len(sources)) as advance:
        files = hashes(folder, own, advance)
        made_from = {name: entry.sha256 for name, entry in hashes(checkpoint.path, sources, advance).items()}
    manifest = Manifest(
        schema=SCHEMA,
        name=name,
        family=model.family,
        precision=options.precision,
        picture=model.picture,
        language=language,
        plan=options.plan,
        selections=chosen,
        graphs=graphs,
        weights_file=WEIGHTS,
        files=files,
        parity=ParityReport("switched off by --no-parity", "", 0),
        provenance=_provenance(checkpoint, options, made_from),
        special_tokens=dict(checkpoint.special_tokens),
    )
    Bundle(folder, manifest).require_sound()
    if options.parity:
        with track("parity gate", cases(model.picture, chosen)) as advance:
            report = check_parity(Bundle(folder, manifest), checkpoint, plan, advance)
        manifest = msgspec.structs.replace(manifest, parity=report)
    write_manifest(folder, manifest)


def _write_weights(
    writer: WeightsWriter, checkpoint: Checkpoint, reads: Reads, options: ExportOptions, room: int, track: Track
) -> None:
    model, read = checkpoint.spec, checkpoint.weights.blocks
    _, blocks = tower_blocks(model, reads)
    language = model.language
    half = checkpoint.weights.dtype("embed.weight") == "float16"
    vision = in_vision(options.precision)
    with track("weights", blocks + language.layers + 4) as advance:
        for _ in store_tower(writer, read, model, reads, vision):
            advance()
        store_connector(writer, read, model.connector, vision)
        for i, deep in enumerate(model.deepstack):
            store_connector(writer, read, deep.connector, vision, f"deepstack.{i}")
        advance()
        for _ in store_decoder(writer, read, language, options.precision, "float16" if half else "float32"):
            advance()
    if model.learned is not None:
        writer.add(model.learned, read(model.learned))
    reach = positions_reached(options, model, room)
    cos, sin = rotary_tables(*inverse_frequencies(language.rope, language.head_dim), reach)
    writer.add("rotary.cos", [cos])
    writer.add("rotary.sin", [sin])


def _write_graphs(
    folder: Path,
    writer: WeightsWriter,
    model: ModelSpec,
    plan: MethodPlan,
    chosen: tuple[SelectionSpec, ...],
    reads: Mapping[str, Reads],
    language: LanguageSpec,
    options: ExportOptions,
    track: Track,
) -> tuple[GraphSpec, ...]:
    views = towers_by_view(model)
    with track("tracing the tower", 0):
        towers = {tower_of(WHOLE, spec.view): tower_graph(model, spec, reads[WHOLE], writer, WEIGHTS) for spec in views}
        for s in chosen:
            for spec in views:
                cuts, name = (
                    cuts_for(s, plan, options.plan.inside, model, METHODS, spec.view),
                    tower_of(s.tower, spec.view),
                )
                if cuts is not None and name not in towers:
                    towers[name] = cut_tower_graph(s.tower, model, spec, cuts, reads[s.tower], writer, WEIGHTS)
    of_selection = {s.tower: towers[tower_of(s.tower, views[0].view)].spec("") for s in chosen}
    build: dict[str, Callable[[], Graph]] = {
        **{name: partial(towers.__getitem__, name) for name in towers},
        **language_graphs(language, model.language, planned_inside(options.plan, "language"), writer, WEIGHTS),
        "head": lambda: head_graph(model.language, writer, WEIGHTS),
    }
    for s in chosen:
        build[s.graph] = partial(
            select_graph,
            s.graph,
            METHODS[s.method],
            s.keep,
            plan,
            model,
            of_selection[s.tower],
            writer,
            WEIGHTS,
            encoder=_encoder(options),
        )
    specs = []
    with track("graphs", len(build)) as advance:
        for name, make in build.items():
            graph = make()
            written = graph.model()
            onnx.save(written, folder / f"{name}.onnx")
            specs.append(msgspec.structs.replace(graph.spec(f"{name}.onnx"), work=count_model(written)))
            advance()
    return tuple(specs)


def _towers(chosen: Sequence[SelectionSpec]) -> tuple[str, ...]:
    """Names of the towers that are read, the whole one with them, which stays to be compared with."""
    return tuple(dict.fromkeys((WHOLE, *(s.tower for s in chosen))))


def _encoder(options: ExportOptions) -> LanguageCut | None:
    """What ranks inside the language model by the encoder's score, which select graphs give then."""
    cut = language_cut(options.plan)
    return cut if cut is not None and "salience" in cut.reads else None


def _language(
    model: ModelSpec, writer: WeightsWriter, chosen: tuple[SelectionSpec, ...], room: int, options: ExportOptions
) -> LanguageSpec:
    learned = _reference(writer, model.learned) if model.learned is not None else None
    return language_spec(model, options, chosen, room, _reference(writer, "embed.weight"), learned)


def _reference(writer: WeightsWriter, name: str) -> TensorRef:
    stored = writer[name]
    return msgspec.convert({"dtype": stored.dtype, "shape": stored.shape, "offset": stored.offset}, TensorRef)


def _copy_text(checkpoint: Checkpoint, folder: Path) -> None:
    for name in _COPIED:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)
    if checkpoint.chat_template is not None:
        (folder / "chat_template.jinja").write_text(checkpoint.chat_template, encoding="utf-8")


def _provenance(checkpoint: Checkpoint, options: ExportOptions, hashed: dict[str, str]) -> Provenance:
    return Provenance(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=options.command,
        versions={name: found for name in _PACKAGES if (found := version_of(name))},
        source=checkpoint.path.name,
        source_sha256=hashed,
    )
