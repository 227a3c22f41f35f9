"""All graphs of a bundle, lowered and written beside one weights file, ready for a builder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgeprune.errors import ExportError
from edgeprune_export.engines.dynamic_rows import ROWS, joined
from edgeprune_export.engines.lint.run import Finding, LintTarget, lint
from edgeprune_export.engines.lower import Dialect, LoweredWeights, NodeKind, lower
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.bundle import Bundle

WEIGHTS = "lowered.bin"
LANGUAGE = "language"
KINDS: dict[str, NodeKind] = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
_MOST_NAMED = 20


@dataclass(frozen=True)
class Prepared:
    """One file for the builder. `graphs` and `rows` as in EngineSpec."""

    name: str
    path: Path
    graphs: tuple[str, ...]
    rows: tuple[int, ...]


def sources(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """Engine -> the graphs of the bundle that it stands for: prefill and decode share one, everything else has its own."""
    stages = bundle.manifest.language.stages
    shared = {name for stage in stages for name in (stage.prefill, stage.decode)}
    own = [g.name for g in bundle.manifest.graphs if g.name not in shared]
    pairs = {
        LANGUAGE if len(stages) == 1 else f"{LANGUAGE}-{number}": (stage.prefill, stage.decode)
        for number, stage in enumerate(stages)
    }
    return {**{name: (name,) for name in own}, **pairs}


def source_model(bundle: Bundle, name: str) -> onnx.ModelProto:
    """The bundle's graph behind an engine, before it is lowered."""
    first, *rest = (
        onnx.load(bundle.path(bundle.graph(g).file), load_external_data=False) for g in sources(bundle)[name]
    )
    return joined(first, rest[0], name) if rest else first


def prepare(
    bundle: Bundle, dialect: Dialect, precision: str, folder: Path, advance: Callable[[], None]
) -> Iterator[Prepared]:
    """Write every lowered graph into `folder`, calling `advance` after each."""
    language = bundle.manifest.language
    chunks = {stage.prefill: language.chunk_of(stage) for stage in language.stages}
    with WeightsWriter(folder / WEIGHTS) as writer:
        weights = LoweredWeights(bundle.path(bundle.manifest.weights_file), writer, WEIGHTS)
        for name, graphs in sources(bundle).items():
            model = lower(source_model(bundle, name), dialect, KINDS[precision], weights)
            path = folder / f"{name}.onnx"
            onnx.save(model, path)
            yield Prepared(name, path, graphs, (chunks[graphs[0]], 1) if len(graphs) == 2 else ())
            advance()


def require_clean(prepared: list[Prepared], target: LintTarget) -> None:
    """Raises ExportError with every node that the target cannot take, before anything is built."""
    findings = [
        finding
        for one in prepared
        for finding in lint(onnx.load(one.path, load_external_data=False), target, free={ROWS})
    ]
    if findings:
        by_reason: dict[tuple[str, str], list[Finding]] = {}
        for finding in findings:
            by_reason.setdefault((finding.what, finding.cure), []).append(finding)
        named = [f"{_named(alike)} {what}: {cure}" for (what, cure), alike in by_reason.items()]
        raise ExportError(f"{target.name} cannot take {len(findings)} nodes, so nothing was built. " + ". ".join(named))


def _named(findings: list[Finding]) -> str:
    """Nodes that are refused for one reason: all of them where they are few."""
    names = [f"{one.node or 'the graph'} ({one.op}) of {one.graph}" if one.op else one.graph for one in findings]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
