"""Decide between one prefill graph per length and chunked prefill: time and memory of both, on the same weights.

A bundle could hold one graph per budget (S rows, run once) or one graph of M rows that runs ceil(S / M) times over the cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeprune.models.spec import DecoderSpec, RopeSpec
from edgeprune_profiles.report import units
from edgeprune_runtime.statistics import paired_ratio
from tools.bench.bare import BareGraph, prefill_noise
from tools.bench.page import BRIEF, Page, Section, brief
from tools.bench.process import python, run_watched
from tools.bench.rounds import CPU, SEED, WALL, Journal, Sample, Samples, column, median, timed
from tools.bench.settings import FULL_PREFILLS, Settings, say

LENGTHS = (640, 2944)  # 0.2 and 1.0 of 2880 visual tokens, and 64 of text and newlines
CHUNKS = (64, 128, 256, 512)
CAPACITY = 3072
CHOSEN = 128


def measure(settings: Settings) -> Page:
    """Run the comparison for both precisions."""
    journal = Journal("prefill-plan", settings)
    layers = settings.layers or 8
    sections = []
    for precision in ("fp32", "int8"):
        folder = _graphs(settings, precision, layers)
        memory = journal.once(f"{precision} memory", lambda: _memory(folder, settings))  # noqa: B023
        for length in LENGTHS:
            key = f"{precision} S={length}"
            runs = _contenders(folder, length, precision, settings)
            usual = FULL_PREFILLS if length == LENGTHS[1] else 10
            samples = journal.interleaved(key, runs, rounds=settings.count(usual))
            sections.append(_section(key, length, samples, memory))
    text = (
        f"A decoder of Qwen2-0.5B's shape ({layers} of its 24 layers, random weights that differ per layer, no head), "
        f"cache of {CAPACITY} positions. Fewer layers scale time and weights alike; activations of one layer stay as they are. "
        "`single S` is a graph of S rows run once; `chunk M` one of M rows run ceil(S / M) times, the last time partly filled. "
        "fp32 weights are mapped, int8 weights repacked, as in the product. Memory was read in a process per graph that ran "
        "one prompt: anonymous memory beyond what it had before opening the graph (activations, cache, repacked weights). "
        "A chunked graph is shared by all budgets; single graphs add up, one for every budget that is open. " + BRIEF
    )
    return Page("prefill-plan", "One prefill graph per length, or chunks", text, sections, samples=journal.samples)


def _section(key: str, length: int, samples: Samples, memory: dict[str, dict[str, int]]) -> Section:
    single = f"single {length}"
    rows = []
    for name, found in samples.items():
        gain = [paired_ratio(column(samples[single], c), column(found, c), seed=SEED) for c in (CPU, WALL)]
        used = memory[f"{name} @{length}"]
        rows.append(
            [
                name,
                units.seconds(median(found, CPU)),
                "reference" if name == single else brief(gain[0]),
                units.seconds(median(found, WALL)),
                "reference" if name == single else brief(gain[1]),
                units.size(used["anonymous"]),
                units.size(used["resident"]),
            ]
        )
    head = ["plan", "processor time", "single / this", "wall time", "single / this", "anonymous", "resident"]
    chunks = {name: median(found, CPU) for name, found in samples.items() if name != single}
    best = min(chunks, key=lambda name: chunks[name])
    chosen = chunks[f"chunk {CHOSEN}"] / chunks[best] - 1
    text = f"Least processor time among chunks: {best}. The product's default, {CHOSEN}, takes {chosen:.0%} more. {len(samples[single])} pairs."
    return Section(key, text, head, rows)


def _contenders(folder: Path, length: int, precision: str, settings: Settings) -> dict[str, Callable[[], Sample]]:
    """Every plan for this length; single graphs of other lengths are left closed."""
    shared: dict[str, np.ndarray] = {}
    runs: dict[str, Callable[[], Sample]] = {}
    for rows in (length, *CHUNKS):
        spec = json.loads((folder / f"rows{rows}.json").read_text())
        graph = BareGraph(folder, spec, shared, threads=settings.threads, resident=precision == "int8")
        shared |= {name: array for name, array in graph.arrays.items() if name.startswith("past_")}
        name = f"single {rows}" if rows == length else f"chunk {rows}"
        runs[name] = lambda graph=graph: timed("prefill", lambda: prefill_noise(graph, length))  # type: ignore[misc]
    return runs


def _memory(folder: Path, settings: Settings) -> dict[str, dict[str, int]]:
    """Each graph in a process of its own, after one prompt."""
    found = {}
    for length in LENGTHS:
        for rows in (length, *CHUNKS):
            name = f"{'single' if rows == length else 'chunk'} {rows} @{length}"
            log = settings.work / "prefill-memory.log"
            arguments = [str(folder), str(rows), str(length), str(settings.threads)]
            run_watched(python("-m", "tools.bench.prefill_memory", *arguments), log)
            found[name] = json.loads(log.read_text().splitlines()[-1])
    return found


def _graphs(settings: Settings, precision: Any, layers: int) -> Path:
    """Weights and one graph per row count in the work folder."""
    import onnx

    from edgeprune_export.graphs.decoder import block_graph, rotary_tables, store_decoder
    from edgeprune_export.onnx.weights import WeightsWriter

    spec = DecoderSpec(
        kind="qwen2", layers=layers, hidden=896, heads=14, kv_heads=2, head_dim=64, mlp=4864, vocab=1024, eps=1e-6,
        activation="silu", attention_bias=True, output_bias=False, mlp_bias=False, tied=True, rope=RopeSpec(1e6),
        sliding_window=None, max_positions=32768,
    )  # fmt: skip
    folder = settings.work / f"prefill-{precision}-{layers}"
    folder.mkdir(exist_ok=True)
    (folder / "precision").write_text(precision)
    say(f"writing {precision} graphs of {layers} layers")
    inverse = 1 / spec.rope.theta ** (np.arange(0, spec.head_dim, 2) / spec.head_dim)
    with WeightsWriter(folder / "weights.bin") as writer:
        for _ in store_decoder(writer, lambda name: [_values(name, spec)], spec, precision, "float32"):
            pass
        for name, table in zip(("rotary.cos", "rotary.sin"), rotary_tables(inverse, 1.0, CAPACITY), strict=True):
            writer.add(name, [table])
    for rows in (*CHUNKS, *LENGTHS):
        graph = block_graph(f"rows{rows}", spec, writer, "weights.bin", rows=rows, capacity=CAPACITY)
        onnx.save(graph.model(), folder / f"rows{rows}.onnx")
        (folder / f"rows{rows}.json").write_bytes(msgspec.json.encode(graph.spec(f"rows{rows}.onnx")))
    return folder


def _values(name: str, spec: DecoderSpec) -> np.ndarray:
    """Seeded by the tensor's name, so that layers differ and both precisions see the same numbers."""
    hidden, query, shared = spec.hidden, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    part = name.split(".")[-2]
    widths = {"q": query, "k": shared, "v": shared, "gate": spec.mlp, "up": spec.mlp, "embed": spec.vocab}
    outputs, inputs = widths.get(part, hidden), {"o": query, "down": spec.mlp}.get(part, hidden)
    if "norm" in part:
        return np.ones(hidden, np.float32)
    bias = name.endswith(".bias")
    noise = np.random.default_rng(list(name.encode())).standard_normal(
        outputs if bias else (outputs, inputs), dtype=np.float32
    )
    noise *= np.float32(0.02 if bias else inputs**-0.5)
    return noise
