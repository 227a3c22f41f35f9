"""Structured pruning of a real image classifier: every importance beside random removal, with and without compensation and recovery.

Each row is pruned by `edgeprune.prune`'s own code from the calibration pictures only, exported, and then tried, as the graph runs in ONNX
Runtime, on pictures that nothing was calibrated on. Kill it and start it again: rows that are there are kept.

    python tools/structure_table.py --model vit.safetensors --calibrate train/labels.csv --try val/labels.csv --work build/structure
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeprune.models import open_classifier
from edgeprune.models.classifiers.pictures import pixels_from_image
from edgeprune.structure.plan import widths
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.targets import target_from_text
from edgeprune_export.bundle.progress import silent
from edgeprune_export.commands.export_classifier import export_classifier
from edgeprune_export.onnx_pruning.count import count
from edgeprune_export.pruning.options import PruneOptions, Recovery
from edgeprune_export.pruning.prices.terms import PricedRequest, Terms, price_of
from edgeprune_export.pruning.prune import prune
from edgeprune_export.pruning.samples import samples_from
from edgeprune_runtime.backends import backend
from edgeprune_runtime.pictures.load import load_image
from edgeprune_runtime.spec import GraphSpec, TensorSpec
from edgeprune_runtime.statistics import paired_difference, paired_ratio

IMPORTANCES = ("obs", "taylor", "activation", "amp", "core", "dimap", "magnitude", "random")
TARGETS = ("params=0.9", "params=0.8", "params=0.7", "params=0.5")
SPREAD = (*((importance, "uniform") for importance in IMPORTANCES), ("taylor", "global"))
RECOVER = (
    *(f"{target},{importance},{allocation},60,1e-4" for target in TARGETS for importance, allocation in SPREAD),
    "macs=0.7,taylor,global,300,3e-4",
)
ROUNDS = 15


class Graph:
    """A classifier's graph, run one picture at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = onnx.load(folder / "model.onnx", load_external_data=True)
        (pixels,), (logits,) = self.model.graph.input, self.model.graph.output
        shapes = [tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in (pixels, logits)]
        self.pixels, self.logits = (np.zeros(shape, np.float32) for shape in shapes)
        specs = [TensorSpec(v.name, "float32", s) for v, s in zip((pixels, logits), shapes, strict=True)]
        spec = GraphSpec("classifier", "model.onnx", (specs[0],), (specs[1],), 0)
        self._session = backend().open(folder, spec, resident=False)
        self._session.bind({pixels.name: self.pixels, logits.name: self.logits})

    def classify(self, pixels: np.ndarray) -> int:
        self.pixels[0] = pixels
        self._session.run()
        return int(self.logits.argmax())

    def seconds(self) -> float:
        """Processor time of one run."""
        start = time.process_time()
        self._session.run()
        return time.process_time() - start


def jobs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is to be tried, the cheap rows first."""
    for target in options.targets:
        for importance, allocation in [*((one, "uniform") for one in options.importances), ("taylor", "global")]:
            for variant in ("removed", "compensated"):
                yield {"target": target, "importance": importance, "allocation": allocation, "variant": variant}
    for allocation in ("global", "module", "slope") if options.compare else ():
        for importance in ("obs", "taylor"):
            if (importance, allocation) != ("taylor", "global"):
                row = {"target": options.compare, "importance": importance, "allocation": allocation}
                yield {**row, "variant": "compensated"}
    for text in options.recover:
        target, importance, allocation, steps, rate = text.split(",")
        row = {"target": target, "importance": importance, "allocation": allocation}
        yield {**row, "variant": f"recovered, {steps} steps at {rate}"}


def tried(
    job: dict[str, Any], options: argparse.Namespace, whole: Graph, pictures: list[tuple[np.ndarray, int]]
) -> dict:
    """Prune, export, classify, time."""
    work: Path = options.work
    recovery = None
    if job["variant"].startswith("recovered"):
        _, steps, _, _, rate = job["variant"].split()
        recovery = Recovery(int(steps), options.batch, rate=float(rate))
    request = StructureRequest(
        target_from_text(job["target"]), job["importance"], job["allocation"], options.normalise, align=options.align
    )
    start = time.process_time()
    record = prune(
        options.model,
        work / "pruned",
        PruneOptions(
            {"tower": request},
            images=options.calibrate,
            pictures=options.recover_pictures if recovery else options.pictures,
            compensate=job["variant"] != "removed",
            recovery=recovery,
            force=True,
        ),
    )
    took = time.process_time() - start
    export_classifier(work / "pruned", work / "graph", force=True)
    graph = Graph(work / "graph")
    counted, before = count(graph.model), count(whole.model)
    classes = [graph.classify(pixels) for pixels, _ in pictures]
    pairs = [(graph.seconds(), whole.seconds()) for _ in range(ROUNDS + 2)][2:]
    ratio = paired_ratio([a for a, _ in pairs], [b for _, b in pairs], seed=0)
    part = record.parts["tower"]
    return job | {
        "params": counted.params / before.params,
        "macs": counted.macs / before.macs,
        "promised": part.after / part.before,
        "seconds": took,
        "classes": classes,
        "time": [ratio.point, ratio.low, ratio.high],
        "widths": [[len(b.heads), len(b.mlp)] for b in part.blocks],
    }


def page(rows: list[dict], options: argparse.Namespace, right: list[int], whole: list[int]) -> str:
    """The table, grouped by target."""
    base = [float(a == b) for a, b in zip(whole, right, strict=True)]
    lines = []
    for row in rows:
        hits = [float(a == b) for a, b in zip(row["classes"], right, strict=True)]
        same = [float(a == b) for a, b in zip(row["classes"], whole, strict=True)]
        drop = paired_difference(hits, base, seed=0)
        time_ratio = "{:.2f} [{:.2f}, {:.2f}]".format(*row["time"])
        lines.append(
            f"| {row['target']} | {row['importance']} | {row['allocation']} | {row['variant']} | {100 * np.mean(hits):.1f} | "
            f"{100 * drop.point:+.1f} [{100 * drop.low:+.1f}, {100 * drop.high:+.1f}] | {100 * np.mean(same):.1f} | "
            f"{row['params']:.3f} | {row['macs']:.3f} | {time_ratio} | {row['seconds']:.0f} |"
        )
    head = "| target | importance | allocation | variant | top-1 | difference | agrees | params | MACs | CPU time | to prune (s) |"
    return "\n".join((head, "|" + " --- |" * 11, *lines))


def times(options: argparse.Namespace, whole: Graph) -> str:
    """Of uniformly pruned graphs, whose speed does not depend on which units left: MACs, and time predicted and measured, of the whole's."""
    spec = open_classifier(options.model).spec
    terms = Terms("fp32", PricedRequest(1, 0, 1, 1), classes=spec.classes)
    price = price_of("latency", spec.vision, terms, silent)
    graphs, lines = {}, ["| target | MACs | predicted time | measured time |", "| --- | --- | --- | --- |"]
    for target in options.targets:
        request = StructureRequest(target_from_text(target), "magnitude", "uniform", align=options.align)
        out = options.work / "timed"
        prune(options.model, out, PruneOptions({"tower": request}, compensate=False, force=True))
        export_classifier(out, options.work / target, force=True)
        tower = open_classifier(out).spec.vision
        graphs[target] = (Graph(options.work / target), price.of(widths(tower, tower.layers)))
    before = price.of(widths(spec.vision, spec.vision.layers))
    taken: dict[str, list[tuple[float, float]]] = {target: [] for target in graphs}
    for _ in range(4 * ROUNDS):
        for target, (graph, _) in graphs.items():
            taken[target].append((graph.seconds(), whole.seconds()))
    for target, (graph, predicted) in graphs.items():
        own, base = zip(*taken[target][2:], strict=True)
        ratio = paired_ratio(own, base, seed=0)
        macs = count(graph.model).macs / count(whole.model).macs
        lines.append(
            f"| {target} | {macs:.3f} | {predicted / before:.3f} | {ratio.point:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a classifier, as `edgeprune prune` takes it")
    parser.add_argument(
        "--calibrate", type=Path, required=True, help="pictures for calibration and recovery only (.csv or folder)"
    )
    parser.add_argument(
        "--try", dest="tried", type=Path, required=True, help="held-out pictures: .csv with file and label"
    )
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; rows.jsonl in it is continued")
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    parser.add_argument("--importances", nargs="*", default=IMPORTANCES)
    parser.add_argument("--normalise", default="none")
    parser.add_argument(
        "--compare",
        nargs="?",
        default="params=0.7",
        help="target at which allocations are compared; none without a value",
    )
    parser.add_argument("--pictures", type=int, default=64, help="calibration pictures")
    parser.add_argument("--recover-pictures", type=int, default=256, help="calibration pictures of recovered rows")
    parser.add_argument("--align", type=int, default=32)
    parser.add_argument("--recover", nargs="*", default=RECOVER, help="rows: TARGET,IMPORTANCE,ALLOCATION,STEPS,RATE")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--times", action="store_true", help="only time uniformly pruned graphs, on a quiet machine")
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    log = options.work / "rows.jsonl"
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    samples = samples_from(options.tried, None, 0)
    spec = open_classifier(options.model).spec
    pictures = [(pixels_from_image(load_image(s.picture), spec), int(s.label or 0)) for s in samples]
    if not (options.work / "whole").exists():
        export_classifier(options.model, options.work / "whole")
    whole = Graph(options.work / "whole")
    if options.times:
        print(times(options, whole))
        return
    classes, right = [whole.classify(pixels) for pixels, _ in pictures], [label for _, label in pictures]
    key = ("target", "importance", "allocation", "variant")
    rows = []
    for job in jobs(options):
        row = next((one for one in known if all(one[k] == job[k] for k in key)), None)
        if row is None:
            row = tried(job, options, whole, pictures)
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(page([row], options, right, classes).splitlines()[-1], file=sys.stderr, flush=True)
    for folder in ("pruned", "graph"):
        shutil.rmtree(options.work / folder, ignore_errors=True)
    print(
        f"unpruned: top-1 {100 * np.mean([a == b for a, b in zip(classes, right, strict=True)]):.1f} on {len(right)} pictures\n"
    )
    print(page(rows, options, right, classes))


if __name__ == "__main__":
    main()
