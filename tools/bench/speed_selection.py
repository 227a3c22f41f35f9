"""What selection itself costs: the select graphs cut before the connector, on what the tower saw of the benchmark's picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from edgeprune_profiles.report import units
from edgeprune_runtime import Bundle
from edgeprune_runtime.backends import backend
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.vision import Vision
from tools.bench.assets import BUDGETS
from tools.bench.bare import BareBundle, BareGraph
from tools.bench.page import Section, Target, at_most
from tools.bench.rounds import CPU, Journal, Samples, median, timed
from tools.bench.settings import Settings, say


def selection(
    journal: Journal, settings: Settings, precision: str, folder: Path, image: Path, requests: Samples
) -> tuple[Target, Section]:
    """The select graphs whole, and without the connector that every picture needs anyway."""
    budgets = [budget for budget in BUDGETS if budget != "1.0"]

    def run() -> Samples:
        say(f"selection alone, {precision}")
        bare = BareBundle(folder, threads=settings.threads)
        seen = _seen(folder, image, settings)
        graphs = {budget: _selection_alone(bare, budget, settings, seen) for budget in budgets}
        runs = {budget: (lambda graph=graph: timed("select", graph.run)) for budget, graph in graphs.items()}
        return Journal("selection", settings).interleaved(precision, runs, rounds=settings.count(20), warm_up=2)

    alone: Samples = journal.once(f"{precision} selection alone", run)
    rows, worst = [], 0.0
    for budget in budgets:
        whole = requests[f"{precision} {budget}"]
        vision = median(whole, CPU, "tower", "select")
        share = median(alone[budget], CPU, "select") / vision
        worst = max(worst, share)
        cells = [median(alone[budget], CPU, "select"), median(whole, CPU, "select"), vision]
        rows.append([budget, *(units.seconds(cell) for cell in cells), units.percent(share, 2)])
    head = ["budget", "selection", "select graph (with connector)", "vision stage", "selection / vision stage"]
    section = Section(
        f"Selection, {precision}",
        "Processor time. `selection` is the select graph cut before the connector.",
        head,
        rows,
    )
    return at_most(f"{precision}: selection <= 1 % of the vision stage", units.percent(worst, 2), worst, 0.01), section


def _seen(folder: Path, image: Path, settings: Settings) -> dict[str, np.ndarray]:
    """What the select graphs read for this picture."""
    opened = Bundle.open(folder, verify=False)
    vision = Vision(opened, backend(threads=settings.threads))
    with Image.open(image) as file:
        upright = file.convert("RGB")
    spec = opened.manifest.picture
    place = spec.place(upright.height, upright.width)
    vision.encode(tiles_from_image(upright, spec, place), pack_picture(place, spec))
    return vision.outputs()


def _selection_alone(bare: BareBundle, budget: str, settings: Settings, seen: dict[str, np.ndarray]) -> BareGraph:
    """The bundle's own select graph, cut before the connector."""
    chosen = next(s for s in bare.manifest["selections"] if s["budget"] == budget and s["method"] == "hired")
    spec = next(graph for graph in bare.manifest["graphs"] if graph["name"] == chosen["graph"])
    model = onnx.load(bare.folder / spec["file"], load_external_data=False)
    features = next(tensor for tensor in spec["inputs"] if tensor["name"] == "features")
    outputs = [
        {"name": "rows", "dtype": "float32", "shape": [chosen["keep"], features["shape"][-1]]},
        {"name": "kept", "dtype": "int64", "shape": [chosen["keep"]]},
    ]
    _cut(model.graph, outputs)
    path = settings.work / f"alone-{bare.folder.name}-{budget}.onnx"
    onnx.save(model, path)
    alone = {"file": path.name, "inputs": spec["inputs"], "outputs": outputs}
    return BareGraph(settings.work, alone, seen, threads=settings.threads, resident=False)


def _cut(graph: onnx.GraphProto, outputs: list[dict[str, Any]]) -> None:
    """Make these values the graph's outputs and drop what they do not need. Nodes are in the order of execution."""
    needed = {output["name"] for output in outputs}
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    types = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    infos = [onnx.helper.make_tensor_value_info(o["name"], types[o["dtype"]], o["shape"]) for o in outputs]
    for kept, field in (
        (nodes[::-1], graph.node),
        (initializers, graph.initializer),
        (infos, graph.output),
        ([], graph.value_info),
    ):
        copies = [type(item).FromString(item.SerializeToString()) for item in kept]
        del field[:]
        field.extend(copies)
