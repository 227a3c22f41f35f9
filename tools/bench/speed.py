"""What a token budget buys in time, at real proportions: by stage, beside transformers, and against a bare loop over the graphs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.utils import Extractor
from PIL import Image

from edgeprune_profiles import units
from edgeprune_profiles.stats import paired_ratio
from edgeprune_runtime import Bundle, Model, View
from edgeprune_runtime.anyres import tiles_from_image
from edgeprune_runtime.backends import backend
from edgeprune_runtime.layout import layout_from_size
from edgeprune_runtime.prompt import Prompter
from edgeprune_runtime.vision import Vision
from tools.bench import speed_tables
from tools.bench.assets import BUDGETS, QUESTION, bundle, checkpoint, picture
from tools.bench.bare import BareBundle, BareGraph
from tools.bench.eager import EagerProcess
from tools.bench.page import Page, Section, Target, at_most, interval
from tools.bench.process import python, run_watched
from tools.bench.rounds import CPU, SEED, WALL, Journal, Sample, Samples, column, median, timed
from tools.bench.settings import Settings, say

PRECISIONS = ("fp32", "int8")
DECODE_BUDGET = "0.2"
NEW_TOKENS = 5


def measure(settings: Settings) -> Page:
    """Run all comparisons of this page."""
    journal = Journal("speed", settings)
    model, image = checkpoint(settings, settings.size), picture(settings)
    folders = {precision: bundle(settings, precision) for precision in PRECISIONS}
    facts = journal.once("lengths", lambda: _lengths(folders["fp32"], image))
    requests = _requests(journal, settings, model, folders, image)
    targets, sections = speed_tables.targets(requests), speed_tables.sections(requests, facts)
    for precision, folder in folders.items():
        chosen, section = _selection(journal, settings, precision, folder, image, requests)
        targets.append(chosen)
        sections.append(section)
    for precision, folder in folders.items():
        chosen_all, section = _decode(journal, settings, precision, folder, image)
        targets += chosen_all
        sections.append(section)
    for precision, folder in folders.items():
        targets.append(_second_budget(journal, settings, precision, folder, image))
    shape = f"{settings.size}" + (f" with {settings.layers} decoder layers" if settings.layers else "")
    text = (
        f"A made LLaVA-NeXT of size {shape} (see `tools/make_checkpoint.py`; random weights, so nothing here speaks of quality): "
        "576 tokens per tile, and a square picture that fills the thumbnail and four tiles. One process holds the fp32 and the int8 "
        "bundle, another one transformers in float32 with scaled-dot-product attention; each round asks every budget of both bundles "
        f"and transformers once, in a new order, for {NEW_TOKENS} tokens. Times are medians. `prefill` includes the first token's logits."
    )
    return Page("speed", "Speed under a token budget", text, sections, targets, journal.samples)


def _lengths(folder: Path, image: Path) -> dict[str, list[int]]:
    """Visual tokens and prompt positions of each budget."""
    with Model.open(folder, verify=False) as model:
        found = {}
        for budget in BUDGETS:
            answer = model.ask(QUESTION, image=image, budget=budget, max_tokens=1)
            found[budget] = [answer.visual_tokens, answer.prompt_tokens]
        return found


def _requests(
    journal: Journal, settings: Settings, model: Path, folders: dict[str, Path], image: Path
) -> dict[str, list[Sample]]:
    """Whole requests by contender: `fp32 1.0` ... `int8 0.1`, and `transformers`."""
    rounds = settings.count(6)
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Sample]] = {}
        for precision, folder in folders.items():
            opened = stack.enter_context(Model.open(folder, threads=settings.threads, verify=False))
            for budget in BUDGETS:
                contenders[f"{precision} {budget}"] = _asker(opened, image, budget)
        if settings.eager:
            prompt = _prompt(folders["fp32"])
            worker = stack.enter_context(EagerProcess(model, image, prompt, settings.threads))
            contenders["transformers"] = worker.sample
        return journal.interleaved("requests", contenders, rounds=rounds)


def _prompt(folder: Path) -> str:
    return Prompter(Bundle.open(folder, verify=False)).rendered(QUESTION, images=1)


def _asker(model: Model, image: Path, budget: str) -> Callable[[], Sample]:
    def ask() -> Sample:
        answer = model.ask(QUESTION, image=image, budget=budget, max_tokens=NEW_TOKENS)
        found: Sample = {}
        for span in answer.spans:
            wall, cpu = found.get(span.name, [0.0, 0.0])
            found[span.name] = [wall + span.wall_s, cpu + span.cpu_s]
        steps = sum(span.name == "decode" for span in answer.spans)
        if steps:
            found["decode"] = [value / steps for value in found["decode"]]
        return found

    return ask


def _selection(
    journal: Journal, settings: Settings, precision: str, folder: Path, image: Path, requests: Samples
) -> tuple[Target, Section]:
    """The select graphs whole, and without the projector that every picture needs anyway."""
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
    head = ["budget", "selection", "select graph (with projector)", "vision stage", "selection / vision stage"]
    section = Section(
        f"Selection, {precision}",
        "Processor time. `selection` is the select graph cut before the projector.",
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
    vision.encode(tiles_from_image(upright, opened.manifest.preprocess))
    layout = layout_from_size(upright.height, upright.width, opened.manifest.preprocess)
    host = {"slot": layout.slot.copy(), "region": layout.region.copy(), "mosaic": np.asarray(layout.mosaic)}
    return vision.seen | host


def _selection_alone(bare: BareBundle, budget: str, settings: Settings, seen: dict[str, np.ndarray]) -> BareGraph:
    """The bundle's own select graph, cut before the projector."""
    chosen = next(s for s in bare.manifest["selections"] if s["budget"] == budget and s["method"] == "hired")
    spec = next(graph for graph in bare.manifest["graphs"] if graph["name"] == chosen["graph"])
    model = onnx.load(bare.folder / spec["file"], load_external_data=False)
    cut = Extractor(model).extract_model([value.name for value in model.graph.input], ["rows", "kept"])
    path = settings.work / f"alone-{bare.folder.name}-{budget}.onnx"
    onnx.save(cut, path)
    features = next(tensor for tensor in spec["inputs"] if tensor["name"] == "features")
    outputs = [
        {"name": "rows", "dtype": "float32", "shape": [chosen["keep"], features["shape"][-1]]},
        {"name": "kept", "dtype": "int64", "shape": [chosen["keep"]]},
    ]
    alone = {"file": path.name, "inputs": spec["inputs"], "outputs": outputs}
    return BareGraph(settings.work, alone, seen, threads=settings.threads, resident=False)


def _decode(
    journal: Journal, settings: Settings, precision: str, folder: Path, image: Path
) -> tuple[list[Target], Section]:
    """Streamed tokens against the bare loop, alternating, at the same cache length."""
    rounds, warm_up = settings.count(30), 3

    def run() -> Samples:
        say(f"decode against the bare loop, {precision}")
        with Model.open(folder, threads=settings.threads, verify=False) as model:
            view = model.see(image, budget=DECODE_BUDGET)
            pieces = _tokens(model, view, rounds + warm_up + 2)
            next(pieces)
            bare = BareBundle(folder, threads=settings.threads)
            state = _bare_steps(bare, model.language.length)
            runs = {
                "runtime": lambda: timed("decode", lambda: next(pieces)),
                "bare loop": lambda: timed("decode", lambda: next(state)),
            }
            return Journal("decode", settings).interleaved(precision, runs, rounds=rounds, warm_up=warm_up)

    samples: Samples = journal.once(f"{precision} decode", run)
    ratios = {
        clock: paired_ratio(
            column(samples["runtime"], index, "decode"), column(samples["bare loop"], index, "decode"), seed=SEED
        )
        for clock, index in (("processor time", CPU), ("wall time", WALL))
    }
    rows = [
        [name, units.seconds(median(found, CPU, "decode")), units.seconds(median(found, WALL, "decode"))]
        for name, found in samples.items()
    ]
    text = (
        f"One token at budget {DECODE_BUDGET}: `runtime` is a whole step of `Model.stream` (embedding, graphs, sampling, detokenising), "
        "`bare loop` drives the same two graphs through onnxruntime's IO binding and takes the argmax."
    )
    targets = [
        at_most(
            f"{precision}: decode step <= 1.10 x a bare IO-binding loop, {clock}", interval(ratio), ratio.point, 1.1
        )
        for clock, ratio in ratios.items()
    ]
    return targets, Section(f"Decode step, {precision}", text, ["", "processor time", "wall time"], rows)


def _tokens(model: Model, view: View, most: int) -> Iterator[None]:
    """One streamed token per step; a stream that ends early starts again."""
    while True:
        for _ in model.stream(QUESTION, image=view, max_tokens=most):
            yield


def _bare_steps(bare: BareBundle, length: int) -> Iterator[None]:
    token = bare.prefill(length)
    position = length
    while True:
        token = bare.step(token, position)
        position += 1
        yield


def _second_budget(journal: Journal, settings: Settings, precision: str, folder: Path, image: Path) -> Target:
    """Memory before and after a second budget is first used in the same process."""

    def run() -> Any:
        log = settings.work / "second-budget.log"
        program = python(
            "-m", "tools.bench.answer_memory", str(folder), str(image), str(settings.threads), "0.2", "0.4"
        )
        run_watched(program, log)
        return json.loads(log.read_text().splitlines()[-1])

    steps = journal.once(f"{precision} second budget", run)["steps"]
    first, second = steps["answered 0.2"], steps["answered 0.4"]
    grown = {kind: second[kind] - first[kind] for kind in ("pss", "anonymous")}
    share = grown["pss"] / first["pss"]
    found = f"{units.percent(share)} (+{units.size(grown['pss'])} on {units.size(first['pss'])} PSS)"
    return at_most(
        f"{precision}: a second budget (0.4 after 0.2) in one process adds <= 10 % memory", found, share, 0.1
    )
