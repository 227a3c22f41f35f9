"""What choosing tokens costs: every method's select graph at the token counts of CLIP-L, beside a full prefill of the language model.

Two bundles of made checkpoints (random weights of real proportions) are exported: LLaVA-1.5 with one tile (N = 576) and LLaVA-NeXT with
five (N = 2880), K = 20 %. The readings of one picture are made (softmaxed noise), each select graph is run over them in interleaved rounds,
and a full prefill of the second model is timed in the same process. Written to edgeprune/tokens/registry/costs.json, which
`edgeprune methods` and the table of docs/methods.md show.

    python tools/selector_costs.py --work build/costs
    python tools/selector_costs.py --work build/costs --missing      # methods without a row; the others keep theirs

A new row is taken beside `anchor` methods that have one: where their medians are not what they were, the machine or the code is another,
and nothing is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import onnx

from edgeprune.tokens.methods import CONTROLS, METHODS
from edgeprune.tokens.methods.controls import FULL
from edgeprune_export.onnx.walk import all_nodes
from edgeprune_runtime import Bundle
from edgeprune_runtime.backends import backend
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.meters.environment import environment
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.vision import Vision

OUT = ROOT / "edgeprune" / "tokens" / "registry" / "costs.json"
ANCHORS = ("fastervlm", "divprune")
"""Methods measured again beside new ones: a sort and a loop."""
STEADY = 1.25
"""How far an anchor may be from its row, either way."""
SIZES = {576: ("llava", (336, 336)), 2880: ("llava_next", (672, 672))}


def exported(work: Path, tokens: int, names: Sequence[str]) -> Bundle:
    """The bundle for N tokens and these methods, made where it is not there yet."""
    family, _ = SIZES[tokens]
    checkpoint, bundle = work / f"{family}.checkpoint", work / f"{family}-{digest(names)}.bundle"
    call = [sys.executable]
    if not checkpoint.is_dir():
        made = ["--size", "0.5b", "--family", family, *(("--layers", "1") if family == "llava" else ())]
        subprocess.run([*call, str(ROOT / "tools" / "make_checkpoint.py"), str(checkpoint), *made], check=True)
    if not bundle.is_dir():
        methods = [part for name in names for part in ("--method", name)]
        words = ["export", str(checkpoint), "--budget", "0.2", "--budget", "1.0", *methods, "--no-parity"]
        command = "from edgeprune.cli import main; main()"
        subprocess.run([*call, "-c", command, *words, "--out", str(bundle)], check=True)
    return Bundle.open(bundle, verify=False)


def digest(names: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]


def fill(buffers: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Made readings: attention rows that sum to one, everything else normal."""
    for name, buffer in buffers.items():
        if name.startswith(("attention", "wide", "map", "received", "carried")):
            noise = np.exp(2 * rng.normal(size=buffer.shape))
            buffer[:] = noise / noise.sum(axis=-1, keepdims=True)
        elif buffer.dtype == np.float32 and name not in ("region", "question_weight"):
            buffer[:] = rng.normal(size=buffer.shape)


def selectors(bundle: Bundle, size: tuple[int, int], rounds: int) -> dict[str, dict[str, float]]:
    """Per method: processor time of one run in ms, median and tenth and ninetieth percentile, and nodes of its graph."""
    vision = Vision(bundle, backend(threads=1))
    spec = bundle.manifest.picture
    picture = pack_picture(spec.place(*size), spec)
    rng = np.random.default_rng(0)
    chosen = [s for s in bundle.manifest.selections if not s.whole]
    vision.encode((), picture, [s.tower for s in chosen])
    for tower in dict.fromkeys(s.tower for s in chosen):
        fill(vision.outputs(tower), rng)
    vision.encode((), picture)  # the layout again, over the noise
    vision.ask(rng.normal(size=(6, bundle.manifest.language.hidden)).astype(np.float32))
    taken: dict[str, list[float]] = {s.method: [] for s in chosen}
    for number in range(rounds + 1):
        for selection in rng.permutation(np.asarray(chosen, object)):
            start = time.process_time_ns()
            vision.select(selection)
            if number:  # the first round opens the sessions
                taken[selection.method].append((time.process_time_ns() - start) / 1e6)
    found = {}
    for selection in chosen:
        low, mid, high = np.percentile(taken[selection.method], [10, 50, 90])
        graph = onnx.load(bundle.path(bundle.graph(selection.graph).file), load_external_data=False).graph
        looped = any(node.op_type == "Scan" for node in graph.node)
        found[selection.method] = {
            "ms": mid,
            "p10": low,
            "p90": high,
            "nodes": len(list(all_nodes(graph))),
            "greedy": looped,
        }
    return found


def prefill(bundle: Bundle, rounds: int) -> tuple[float, int]:
    """Processor time of a full prefill in ms, and its positions."""
    language = LanguageModel(bundle, backend(threads=1))
    positions = max(s.keep for s in bundle.manifest.selections if s.whole) + 48 + 32
    embeds = np.random.default_rng(1).normal(size=(positions, bundle.manifest.language.hidden)).astype(np.float32)
    taken = []
    for number in range(rounds + 1):
        start = time.process_time_ns()
        language.prefill(embeds, np.arange(positions)[None])
        if number:
            taken.append((time.process_time_ns() - start) / 1e6)
    return statistics.median(taken), positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="scratch folder for made checkpoints and bundles (3 GB)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prefills", type=int, default=2)
    parser.add_argument("--missing", action="store_true", help="only methods that have no row; the rows of others stay")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    names = [name for name in METHODS if name not in (FULL.name, *CONTROLS)]
    if options.missing:
        before = json.loads(options.out.read_text(encoding="utf-8"))
        names = [name for name in names if name not in before["methods"] or name in ANCHORS]
    bundles = {tokens: exported(options.work, tokens, names) for tokens in SIZES}
    measured = {tokens: selectors(bundle, SIZES[tokens][1], options.rounds) for tokens, bundle in bundles.items()}
    if options.missing:
        found = added(before, measured)
    else:
        whole, positions = prefill(bundles[2880], options.prefills)
        conditions = (
            f"one thread of {processor()}, onnxruntime; K = 20 %, C = 768, D = 896; "
            f"full prefill of a 0.5b decoder at {positions} positions: {whole / 1e3:.3g} s"
        )
        found = {"conditions": conditions, "prefill_ms": round(whole), "methods": rows_of(measured, whole)}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, sizes in found["methods"].items():
        share = 100 * sizes["2880"]["share_of_prefill"]
        print(f"{name:16} {sizes['576']['ms']:9.2f} ms {sizes['2880']['ms']:9.2f} ms {share:7.3f} %")


def processor() -> str:
    return environment().cpu_model or platform.machine()


def rows_of(measured: Mapping[int, Mapping[str, dict[str, float]]], prefill_ms: float) -> dict[str, Any]:
    """Method -> number of tokens -> what was measured, the share of a full prefill among it."""
    for row in measured[2880].values():
        row["share_of_prefill"] = row["ms"] / prefill_ms
    return {
        name: {str(n): {k: float(f"{v:.4g}") for k, v in measured[n][name].items()} for n in measured}
        for name in measured[2880]
    }


def added(before: Mapping[str, Any], measured: Mapping[int, Mapping[str, dict[str, float]]]) -> dict[str, Any]:
    """What was measured before and the rows of methods that are new, in the order of the registry. Exits where the anchors moved."""
    if f"one thread of {processor()}," not in before["conditions"]:
        sys.exit(f"the rows are of another processor ({before['conditions']}); measure all of them")
    rows = rows_of(measured, before["prefill_ms"])
    for name in ANCHORS:
        for tokens in measured:
            now, then = rows[name][str(tokens)]["ms"], before["methods"][name][str(tokens)]["ms"]
            print(f"{name} at {tokens} tokens: {now:.4g} ms, its row says {then:.4g} ms", file=sys.stderr)
            if not 1 / STEADY < now / then < STEADY:
                sys.exit(f"{name} took {now:.3g} ms, its row says {then:.3g} ms; measure all methods on this machine")
    every = {**rows, **before["methods"]}
    return {**before, "methods": {name: every[name] for name in METHODS if name in every}}


if __name__ == "__main__":
    main()
