"""Which lever pays: tiles or tokens? Time to first token by stage of small models of today, at real proportions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_profiles.report import units
from edgeprune_runtime import Model
from tools.bench.assets import QUESTION, family_bundle, picture
from tools.bench.page import Page, Section
from tools.bench.rounds import CPU, WALL, Journal, Sample, Samples
from tools.bench.settings import FULL_PREFILLS, Settings

BUDGETS = ("1.0", "0.25", "0.1")
#: Made sizes, and most tiles beside the overview; 0 is one squashed view. A square picture makes InternVL take 1, 4 or 9 of them.
MODELS = {"smolvlm2-500m": (0, 4, 16), "internvl3-1b": (0, 6)}
PRECISION = "int8"
_TTFT = ("preprocess", "tower", "select", "prefill")


def measure(settings: Settings) -> Page:
    """Every model at every number of tiles; one encoded picture serves all budgets of a round."""
    journal, image = Journal("families", settings), picture(settings)
    sections = []
    for size, tiles in MODELS.items():
        folder = family_bundle(settings, size, PRECISION, BUDGETS)
        with ExitStack() as stack:
            model = stack.enter_context(Model.open(folder, threads=settings.threads, verify=False, reuse=False))
            contenders = {f"{count} tiles": _asker(model, image, count) for count in tiles}
            rounds = settings.count(FULL_PREFILLS)
            samples = journal.interleaved(size, contenders, rounds=rounds, warmed=[f"{tiles[0]} tiles"])
            counts = journal.once(f"{size} tokens", lambda m=model, t=tiles: _tokens(m, image, t))
        sections.append(_section(size, samples, counts))
    text = (
        f"Made checkpoints with the proportions of published ones (`tools/make_checkpoint.py`; random weights, so nothing here speaks of "
        f"quality), exported in {PRECISION} with `--method divprune --budget-of picture`, asked about one square picture. Tiles are all "
        "that the tower sees, the overview among them; 1 is one squashed view (`--tiles none`). The tower runs once per picture, "
        "whatever the budget; a budget shortens prefill and cache. Times are medians of wall time; CPU is that of all threads."
    )
    return Page("families", "Tiles and tokens", text, sections, (), journal.samples)


def _asker(model: Model, image: Path, tiles: int) -> Callable[[], Sample]:
    """One round at this number of tiles: stage -> [wall, cpu], stages behind the tower once per budget."""

    def ask() -> Sample:
        sample: Sample = {}
        for budget, view in zip(BUDGETS, model.see_each(image, [(b, None) for b in BUDGETS], tiles=tiles), strict=True):
            answer = model.ask(QUESTION, image=view, max_tokens=2, stop=False)
            for span in (*view.spans, *answer.spans):
                name = span.name if span.name == "tower" else f"{budget} {span.name}"
                wall, cpu = (0.0, 0.0) if span.name == "tower" else sample.get(name, [0.0, 0.0])
                sample[name] = [wall + span.wall_s, cpu + span.cpu_s]
        return sample

    return ask


def _tokens(model: Model, image: Path, tiles: tuple[int, ...]) -> dict[str, list[int]]:
    """Tiles, and kept tokens of every budget."""
    counts = {}
    for count in tiles:
        views = model.see_each(image, [(b, None) for b in BUDGETS], tiles=count)
        counts[f"{count} tiles"] = [views[0].picture.tiles, *(len(view.kept) for view in views)]
    return counts


def _section(size: str, samples: Samples, counts: dict[str, list[int]]) -> Section:
    times = {name: _medians(several) for name, several in samples.items()}
    most = max(times, key=lambda name: counts[name][0])
    whole = _first_token(times[most], BUDGETS[0])[WALL]
    rows = []
    for name, stages in times.items():
        for number, budget in enumerate(BUDGETS):
            total = _first_token(stages, budget)
            row = [str(counts[name][0]), budget, str(counts[name][1 + number])]
            row += [units.seconds(_stage(stages, budget, stage)[WALL]) for stage in ("tower", "select", "prefill")]
            row += [units.seconds(total[WALL]), units.seconds(total[CPU]), f"{total[WALL] / whole:.2f}"]
            rows.append(row)
    head = (
        "tiles",
        "budget",
        "visual tokens",
        "tower",
        "select",
        "prefill",
        "TTFT",
        "TTFT, CPU",
        "of all tiles at 1.0",
    )
    return Section(size, "", head, rows)


def _medians(samples: list[Sample]) -> dict[str, Any]:
    stages: dict[str, list[list[float]]] = defaultdict(list)
    for sample in samples:
        for name, value in sample.items():
            stages[name].append(value)
    return {name: np.median(np.asarray(values), axis=0) for name, values in stages.items()}


def _stage(stages: dict[str, Any], budget: str, stage: str) -> Any:
    return stages.get(stage if stage == "tower" else f"{budget} {stage}", np.zeros(2))


def _first_token(stages: dict[str, Any], budget: str) -> Any:
    return sum((_stage(stages, budget, stage) for stage in _TTFT), np.zeros(2))
