"""Memory of an export and of the runtime, disk of a bundle, time to import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_profiles.report import units
from tools.bench import export_memory
from tools.bench.assets import BUDGETS, bundle, picture, size_of
from tools.bench.page import Page, Section, Target, at_most
from tools.bench.process import python, run_watched
from tools.bench.rounds import CPU, WALL, Journal, Sample, Samples, column
from tools.bench.settings import Settings

MB = 1_000_000
BUDGET = "0.2"
_IMPORTS = {
    "bare python": "pass",
    "import edgeprune_runtime": "import edgeprune_runtime",
    "... and its names": "from edgeprune_runtime import *",
    "... and onnxruntime": "from edgeprune_runtime import *; import onnxruntime",
}


def measure(settings: Settings) -> Page:
    """Run all measurements of this page."""
    journal = Journal("memory", settings)
    parts = (export_memory.measure, _overhead, _disk, _imports)
    found = [part(journal, settings) for part in parts]
    text = (
        "Peaks of whole processes are the kernel's own high-water mark (VmHWM); the anonymous part is the highest of samples taken every "
        "20 ms from outside. Models are made, with random weights."
    )
    return Page(
        "memory",
        "Memory, disk and start",
        text,
        [section for _, section in found],
        [target for targets, _ in found for target in targets],
        journal.samples,
    )


def _overhead(journal: Journal, settings: Settings) -> tuple[list[Target], Section]:
    """What the runtime costs beyond weights, cache and activations."""
    image = picture(settings)
    targets, rows = [], []
    for precision in ("fp32", "int8"):
        folder = bundle(settings, precision)
        ours = journal.once(f"{precision} answer", lambda: _answer(settings, folder, image, BUDGET))  # noqa: B023
        bare = journal.once(
            f"{precision} bare",
            lambda: _answer(settings, folder, image, "bare", BUDGET, str(ours["prompt"])),  # noqa: B023
        )
        steps, manifest = ours["steps"], json.loads((folder / "manifest.json").read_text())
        end, opened = steps[f"answered {BUDGET}"], steps["opened"]
        repacked = _repacked(manifest) if precision == "int8" else 0
        chunks = -(-ours["prompt"] // ours["chunk"]) * ours["chunk"]
        cache = ours["cache"] * chunks // ours["capacity"]
        activations = max(0, end["anonymous"] - opened["anonymous"] - cache)
        own = end["rss"] - end["weights"] - repacked - cache - activations
        over = end["rss"] - bare["steps"]["answered"]["rss"]
        promise = f"{precision}: runtime over weights, cache and activations < 150 MB"
        targets.append(at_most(promise, f"{own / MB:.0f} MB", own / MB, 150))
        cells = [end["rss"], end["weights"], repacked, cache, activations, own, end["anonymous"], end["pss"]]
        rows.append([precision, *(f"{cell / MB:.0f}" for cell in cells), f"{over / MB:+.0f}"])
    head = ["precision", "resident", "mapped weights", "repacked weights", "cache touched", "activations", "rest"]
    head += ["anonymous", "PSS", "resident against bare onnxruntime"]
    text = (
        f"MB (10^6 bytes) of a process that answered two questions at budget {BUDGET}. `rest` is everything else: interpreter, libraries, "
        "tokenizer, sessions, buffers. Repacked weights are the int8 weights of every opened graph, once per graph; activations are "
        "anonymous memory that appeared while answering, less the cache. The last column is the difference to a process that runs the "
        "same graphs with onnxruntime and NumPy alone."
    )
    return targets, Section("Runtime", text, head, rows)


def _repacked(manifest: dict[str, Any]) -> int:
    chosen = next(s["graph"] for s in manifest["selections"] if s["budget"] == BUDGET and s["method"] == "hired")
    opened = {"tower", "prefill", "decode", "head", chosen}
    return sum(graph["weight_bytes"] for graph in manifest["graphs"] if graph["name"] in opened)


def _answer(settings: Settings, folder: Path, image: Path, *rest: str) -> Any:
    log = settings.work / "answer.log"
    program = python("-m", "tools.bench.answer_memory", str(folder), str(image), str(settings.threads), *rest)
    run_watched(program, log)
    return json.loads(log.read_text().splitlines()[-1])


def _disk(journal: Journal, settings: Settings) -> tuple[list[Target], Section]:
    """Bundles of one and of four budgets; int8, where weights are smallest and a budget's share is largest."""
    one, four = bundle(settings, "int8", (BUDGETS[0],)), bundle(settings, "int8")
    sizes = journal.once("disk", lambda: [size_of(one), size_of(four)])
    ratio = sizes[1] / sizes[0]
    target = at_most("int8: disk of a bundle with 4 budgets <= 1.05 x one with 1", f"{ratio:.4f}x", ratio, 1.05)
    rows = [["1.0", units.size(sizes[0])], [", ".join(BUDGETS), units.size(sizes[1])]]
    text = "With the controls (random, uniform, downsample at the same K), which are exported by default."
    return [target], Section("Disk", text, ["budgets", "bundle"], rows)


def _imports(journal: Journal, settings: Settings) -> tuple[list[Target], Section]:
    """Fresh interpreters, interleaved; the first of each is thrown away, so files are in the page cache."""
    runs: dict[str, Callable[[], Sample]] = {name: _importer(code, settings) for name, code in _IMPORTS.items()}
    samples: Samples = journal.interleaved("imports", runs, rounds=settings.count(15), warm_up=1)
    base = list(_IMPORTS)[0]
    rows, over = [], {}
    for name, found in samples.items():
        cells = []
        for clock in (WALL, CPU):
            extra = np.subtract(column(found, clock, "import"), column(samples[base], clock, "import"))
            over[name, clock] = float(np.median(extra))
            cells.append(units.seconds(float(np.median(column(found, clock, "import")))))
            cells.append("-" if name == base else units.seconds(over[name, clock]))
        rows.append([name, *cells])
    targets = [
        at_most(f"import of edgeprune_runtime and its names < 0.5 s, {label}", units.seconds(value), value, 0.5)
        for label, clock in (("wall time", WALL), ("processor time", CPU))
        if (value := over["... and its names", clock]) is not None
    ]
    head = ["process", "wall time", "over bare python", "processor time", "over bare python"]
    text = "The package loads its names on first use, and onnxruntime when a bundle is opened; both are shown. Medians, paired."
    return targets, Section("Import", text, head, rows)


def _importer(code: str, settings: Settings) -> Callable[[], Sample]:
    def run() -> Sample:
        seen = run_watched(python("-c", code), settings.work / "import.log", period_s=0.002)
        return {"import": [seen.wall_s, seen.cpu_s]}

    return run
