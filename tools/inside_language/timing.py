"""Time to the first token of every plan, whole requests in interleaved rounds, and what the language model multiplies in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from PIL import Image

from edgeprune.evaluate import Question
from edgeprune_runtime import Model
from edgeprune_runtime.stages.counts import visual_by_stage
from tools.bench.assets import QUESTION
from tools.bench.rounds import CPU, WALL, Journal, Sample, column
from tools.bench.settings import Settings
from tools.bench.work import language_macs, tower_macs
from tools.inside_language.bundles import ReferenceModel, bundle
from tools.inside_language.plans import RowPlan

ROUNDS = 20
_LARGEST = (224, 224)  # pixels of a scene that fills all tiles


def requests(
    work: Path, reference: ReferenceModel, questions: Sequence[Question], rounds: int = ROUNDS
) -> dict[str, dict[str, Any]]:
    """Plan -> "ttft" and "prefill": [wall, cpu] seconds of each round; "macs" of layers, "rank_macs", "tower_macs", "rows" of the prompt,
    "visual" rows of it and "inside", those in each stage.

    Every round asks about another picture that fills all tiles; nothing is re-used from the request before.
    """
    journal = Journal(f"inside-language-{reference.name}", Settings(work=work, threads=1, resume=True))
    pictures = [p for p in dict.fromkeys(q.image for q in questions) if _fills(p)]
    counts: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Sample]] = {}
        for cuts in reference.cuts:
            folder = bundle(work, reference, cuts)
            model = stack.enter_context(Model.open(folder, threads=1, verify=False, reuse=False))
            for plan in reference.served(cuts):
                contenders[plan.name] = _asker(model, plan, plan.counts(reference.tokens), pictures, counts)
        samples = journal.interleaved("requests", contenders, rounds=rounds)
        found = journal.once("counts", lambda: counts)
    return {
        name: {**found[name], "ttft": _clocks(taken), "prefill": _clocks(taken, "prefill")}
        for name, taken in samples.items()
    }


def _clocks(taken: list[Sample], *stages: str) -> list[list[float]]:
    columns = (column(taken, clock, *stages) for clock in (WALL, CPU))
    return [[round(seconds, 6) for seconds in pair] for pair in zip(*columns, strict=True)]


def _fills(path: Path) -> bool:
    with Image.open(path) as image:
        return image.size == _LARGEST


def _asker(
    model: Model, plan: RowPlan, keep: tuple[float, ...], pictures: Sequence[Path], counts: dict[str, dict[str, Any]]
) -> Callable[[], Sample]:
    turn = iter(range(1_000_000))

    def ask() -> Sample:
        image = pictures[next(turn) % len(pictures)]
        answer = model.ask(
            QUESTION, image=image, budget=plan.budget, method=plan.method, max_tokens=1, stop=False, inside=keep or None
        )
        manifest, rows, visual = model.bundle.manifest, answer.prompt_tokens, answer.visual_tokens
        layers, ranks = language_macs(manifest, rows, visual, keep or None)
        counts[plan.name] = {
            "macs": layers,
            "rank_macs": ranks,
            "tower_macs": tower_macs(manifest, answer.budget, answer.method),
            "rows": rows,
            "visual": visual,
            "inside": list(visual_by_stage(manifest.language, visual, keep or None)),
        }
        sample: Sample = {}
        for span in answer.spans:
            wall, cpu = sample.get(span.name, [0.0, 0.0])
            sample[span.name] = [wall + span.wall_s, cpu + span.cpu_s]
        return sample

    return ask
