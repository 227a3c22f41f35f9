"""What a grid and a budget cost: time to first token of Qwen-VL by stage at widths of published models, beside the law of its operations.

A quarter of the blocks and layers stands for all: both are the same thing over and over, and the whole would need 40 GB and an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeprune.models import ModelSpec, open_checkpoint
from edgeprune_profiles.report import units
from edgeprune_runtime import Model
from edgeprune_runtime.pictures.tiling import Grids
from tools.bench.assets import QUESTION, export
from tools.bench.page import Page, Section
from tools.bench.process import python, run_watched
from tools.bench.rounds import CPU, WALL, Journal, Sample, Samples
from tools.bench.settings import FULL_PREFILLS, Settings, digest, say

BUDGETS = ("1.0", "0.5", "0.25", "0.1")
GRIDS = (448, 672, 896)
PRECISION = "int8"
#: Pictures (pixels a side) that come to each grid: a larger one of the same proportions takes over from twice its pixels on.
_SIDES = {448: 448, 672: 550, 896: 896}
_MAKERS = ("tools/checkpoints",)
_CODE = (*_MAKERS, "edgeprune/models", "edgeprune/tokens", "export", "runtime/edgeprune_runtime/spec.py")


@dataclass(frozen=True)
class Quarter:
    """A published model with a quarter of its blocks and layers."""

    size: str
    blocks: int
    layers: int
    recipe: dict[str, Any]


MODELS = (
    Quarter("qwen2.5-vl-3b", 8, 9, {"full_blocks": (7,)}),
    Quarter("qwen3-vl-2b", 6, 7, {"deepstack": (1, 2, 4)}),
    Quarter("qwen3-vl-4b", 6, 9, {"deepstack": (1, 2, 4)}),
)


def measure(settings: Settings) -> Page:
    """Every model on every grid; one encoded picture serves all budgets of a round."""
    journal, sections = Journal("grids", settings), []
    for quarter in MODELS:
        checkpoint, folder, exported = _bundle(settings, journal, quarter)
        spec = open_checkpoint(checkpoint, sizes=[(side, side) for side in GRIDS]).spec
        with ExitStack() as stack:
            model = stack.enter_context(Model.open(folder, threads=settings.threads, verify=False, reuse=False))
            contenders = {f"{side}x{side}": _asker(model, _picture(settings, side)) for side in GRIDS}
            samples = journal.interleaved(quarter.size, contenders, rounds=settings.count(FULL_PREFILLS))
            counts = journal.once(f"{quarter.size} tokens", lambda m=model: _tokens(m, settings))
        sections.append(_section(quarter, spec, samples, counts, exported))
    text = (
        "Made checkpoints with the widths of published models and a quarter of their tower blocks and decoder layers (random weights: nothing "
        f"here speaks of quality), exported in {PRECISION} with `--method divprune --budget-of picture`. The tower runs once per picture, "
        "whatever the budget. *Law*: the operations of tower and prefill (n L (8 C^2 + g C m) + 4 C n keys; 2 per weight and position), "
        "scaled so that the largest grid at budget 1.0 takes as long as it did: predicted from one measurement. Times are medians "
        "of wall time; CPU is that of all threads."
    )
    return Page("grids", "Grids and tokens", text, sections, (), journal.samples)


def _bundle(settings: Settings, journal: Journal, quarter: Quarter) -> tuple[Path, Path, dict[str, float]]:
    model = settings.work / f"model-{quarter.size}-quarter@{digest(_MAKERS)}"
    if not model.is_dir():
        say(f"making {model.name}")
        fields = {"layers": quarter.layers, "vision_layers": quarter.blocks, **quarter.recipe}
        program = (
            "from pathlib import Path; from tools.checkpoints.recipe import Recipe; from tools.checkpoints.sizes import MODELS; "
            "from tools.checkpoints.write import make_checkpoint; "
            f"make_checkpoint(Path({str(model)!r}), Recipe(**(MODELS[{quarter.size!r}] | {{'size': {quarter.size!r}}} | {fields!r})))"
        )
        run_watched(python("-c", program), settings.work / "make.log")
    folder = settings.work / f"bundle-{quarter.size}-quarter-{PRECISION}@{digest(_CODE)}"

    def exported() -> dict[str, float]:
        say(f"exporting {folder.name}")
        grids = [part for side in GRIDS for part in ("--grid", f"{side}x{side}")]
        more = ("--no-parity", "--no-controls", "--method", "divprune", "--budget-of", "picture", "--force", *grids)
        return asdict(export(model, folder, PRECISION, BUDGETS, settings.work / "export.log", *more))

    took = journal.once(f"{quarter.size} export", exported)
    if not folder.is_dir():
        exported()
    return model, folder, took


def _picture(settings: Settings, grid: int) -> Path:
    path, side = settings.work / f"square-{grid}.png", _SIDES[grid]
    if not path.is_file():
        coarse = np.random.default_rng(grid).integers(0, 256, (25, 25, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path)
    return path


def _asker(model: Model, image: Path) -> Callable[[], Sample]:
    """One round: stage -> [wall, cpu], stages behind the tower once per budget."""

    def ask() -> Sample:
        sample: Sample = {}
        for budget, view in zip(BUDGETS, model.see_each(image, [(b, None) for b in BUDGETS]), strict=True):
            answer = model.ask(QUESTION, image=view, max_tokens=1, stop=False)
            for span in (*view.spans, *answer.spans):
                name = span.name if span.name in ("tower", "preprocess") else f"{budget} {span.name}"
                sample[name] = [span.wall_s, span.cpu_s]
        return sample

    return ask


def _tokens(model: Model, settings: Settings) -> dict[str, list[int]]:
    """Kept tokens of every budget, and positions of its prompt."""
    found = {}
    for side in GRIDS:
        views = model.see_each(_picture(settings, side), [(b, None) for b in BUDGETS])
        prompts = [model.ask(QUESTION, image=view, max_tokens=1).prompt_tokens for view in views]
        found[f"{side}x{side}"] = [
            n for view, prompt in zip(views, prompts, strict=True) for n in (len(view.kept), prompt)
        ]
    return found


def tower_operations(spec: ModelSpec, side: int) -> float:
    """Of one picture on a square grid: n L (8 C^2 + g C m) + 4 C n (keys that each block sees), g 4, or 6 where the MLP is gated."""
    tower = replace(spec.vision, view=(side, side))
    patches, width, gates = tower.positions, tower.hidden, 6 if tower.swiglu else 4
    seen = sum(window**2 if (window := tower.window_of(i)) else patches for i in range(tower.layers))
    return patches * tower.layers * (8 * width**2 + gates * width * tower.mlp) + 4 * width * patches * seen


def prefill_operations(spec: ModelSpec, positions: int) -> float:
    """Two for each weight of the decoder's layers and each position."""
    language = spec.language
    heads = (2 * language.heads + 2 * language.kv_heads) * language.head_dim
    return 2.0 * positions * language.layers * language.hidden * (heads + 3 * language.mlp)


def _section(
    quarter: Quarter, spec: ModelSpec, samples: Samples, counts: dict[str, list[int]], exported: dict[str, float]
) -> Section:
    assert isinstance(spec.picture.tiling, Grids)
    medians = {name: _medians(several) for name, several in samples.items()}
    largest = f"{GRIDS[-1]}x{GRIDS[-1]}"
    speed = {
        "tower": medians[largest]["tower"][WALL] / tower_operations(spec, GRIDS[-1]),
        "prefill": medians[largest]["1.0 prefill"][WALL] / prefill_operations(spec, counts[largest][1]),
    }
    rows = []
    for side in GRIDS:
        name, stages = f"{side}x{side}", medians[f"{side}x{side}"]
        for number, budget in enumerate(BUDGETS):
            kept, positions = counts[name][2 * number : 2 * number + 2]
            parts = [stages["preprocess"], stages["tower"], stages[f"{budget} select"], stages[f"{budget} prefill"]]
            total = sum(parts, np.zeros(2))
            law = speed["tower"] * tower_operations(spec, side) + speed["prefill"] * prefill_operations(spec, positions)
            rows.append(
                [name, budget, str(kept)]
                + [units.seconds(part[WALL]) for part in parts[1:]]
                + [units.seconds(total[WALL]), units.seconds(total[CPU]), units.seconds(law)]
            )
    text = (
        f"{quarter.blocks} tower blocks and {quarter.layers} decoder layers. Export without the parity gate: {exported['wall_s']:.0f} s, "
        f"{exported['cpu_s']:.0f} s of processor time, {exported['peak_bytes'] / 2**30:.1f} GiB at most."
    )
    head = (
        "grid",
        "budget",
        "visual tokens",
        "tower",
        "select",
        "prefill",
        "TTFT",
        "TTFT, CPU",
        "law: tower and prefill",
    )
    return Section(quarter.size, text, head, rows)


def _medians(samples: list[Sample]) -> dict[str, Any]:
    return {name: np.median(np.asarray([sample[name] for sample in samples]), axis=0) for name in samples[0]}
