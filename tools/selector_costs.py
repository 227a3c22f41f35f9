"""What choosing tokens costs: every method's select graph at the token counts of CLIP-L, beside a full prefill of the language model.

Two bundles of made checkpoints (random weights of real proportions) are exported: LLaVA-1.5 with one tile (N = 576) and LLaVA-NeXT with
five (N = 2880), K = 20 %. The readings of one picture are made (softmaxed noise), each select graph is run over them in interleaved rounds,
and a full prefill of the second model is timed in the same process. Written to edgeprune/tokens/registry/costs.json, which
`edgeprune methods` and the table of docs/methods.md show.

    python tools/selector_costs.py --work build/costs
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

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
SIZES = {576: ("llava", (336, 336)), 2880: ("llava_next", (672, 672))}


def exported(work: Path, tokens: int) -> Bundle:
    """The bundle for N tokens, made where it is not there yet."""
    family, _ = SIZES[tokens]
    checkpoint, bundle = work / f"{family}.checkpoint", work / f"{family}.bundle"
    call = [sys.executable]
    if not checkpoint.is_dir():
        made = ["--size", "0.5b", "--family", family, *(("--layers", "1") if family == "llava" else ())]
        subprocess.run([*call, str(ROOT / "tools" / "make_checkpoint.py"), str(checkpoint), *made], check=True)
    if not bundle.is_dir():
        methods = [part for name in METHODS if name not in (FULL.name, *CONTROLS) for part in ("--method", name)]
        words = ["export", str(checkpoint), "--budget", "0.2", "--budget", "1.0", *methods, "--no-parity"]
        command = "from edgeprune.cli import main; main()"
        subprocess.run([*call, "-c", command, *words, "--out", str(bundle)], check=True)
    return Bundle.open(bundle, verify=False)


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
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    bundles = {tokens: exported(options.work, tokens) for tokens in SIZES}
    measured = {tokens: selectors(bundle, SIZES[tokens][1], options.rounds) for tokens, bundle in bundles.items()}
    whole, positions = prefill(bundles[2880], options.prefills)
    for row in measured[2880].values():
        row["share_of_prefill"] = row["ms"] / whole
    processor = environment().cpu_model or platform.machine()
    methods = {
        name: {str(n): {k: float(f"{v:.4g}") for k, v in measured[n][name].items()} for n in SIZES}
        for name in measured[2880]
    }
    conditions = (
        f"one thread of {processor}, onnxruntime; K = 20 %, C = 768, D = 896; "
        f"full prefill of a 0.5b decoder at {positions} positions: {whole / 1e3:.3g} s"
    )
    text = json.dumps({"conditions": conditions, "prefill_ms": round(whole), "methods": methods}, indent=1)
    options.out.write_text(text + "\n", encoding="utf-8")
    for name, found in methods.items():
        print(
            f"{name:16} {found['576']['ms']:9.2f} ms {found['2880']['ms']:9.2f} ms {100 * found['2880']['share_of_prefill']:7.3f} %"
        )


if __name__ == "__main__":
    main()
