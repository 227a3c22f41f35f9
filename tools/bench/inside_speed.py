"""What it buys in time that rows leave inside the model, at real proportions: by stage, first and second question, beside its arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgeprune_runtime import Answer, Bundle, Model
from edgeprune_runtime.stages.counts import stage_rows
from tools.bench import inside_tables
from tools.bench.assets import QUESTION, picture
from tools.bench.inside_plans import METHOD, PLANS, Plan, Plans, bundles
from tools.bench.page import BRIEF, Page
from tools.bench.rounds import Journal, Sample
from tools.bench.second_question import SECOND
from tools.bench.settings import FULL_PREFILLS, Settings
from tools.bench.work import tower_macs

PRECISIONS = ("fp32", "int8")
NEW_TOKENS = 5


def measure(settings: Settings) -> Page:
    """All plans of one precision in one process, interleaved; then the other precision."""
    journal, image = Journal("inside-speed", settings), picture(settings)
    measured = [_of_precision(journal, settings, precision, image) for precision in PRECISIONS]
    shape = settings.size + (f" with {settings.layers} decoder layers" if settings.layers else "")
    text = (
        f"A made LLaVA-NeXT of size {shape} (random weights: **nothing here speaks of quality**), a square picture of five tiles, 2880 visual "
        f"tokens; `{METHOD}` at the output, the prompt's last row ranks inside (`pdrop`), the class token's attention in the tower (`topk`). "
        "Plans read `tower cut + output budget + METHOD@LAYERS:what stays there`, shares of the rows that enter the language model. Each "
        "round asks every plan once, in a new order: a first question from nothing, and a second one about the View. Accuracy of such plans: "
        f"[another page](inside-language.md). {inside_tables.HOW} {BRIEF}"
    )
    sections = [section for found in measured for section in inside_tables.sections(found)]
    targets = [target for found in measured for target in inside_tables.targets(found)]
    return Page("inside-speed", "Speed of plans that cut inside", text, sections, targets, journal.samples)


def _of_precision(journal: Journal, settings: Settings, precision: str, image: Path) -> inside_tables.Measured:
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Sample]] = {}
        facts: dict[str, Any] = {}
        plans = PLANS[settings.size]
        for cuts, folder in bundles(settings, precision).items():
            model = stack.enter_context(Model.open(folder, threads=settings.threads, verify=False))
            for plan in (plan for plan in plans.all if plan.cuts == cuts):
                contenders[plan.name] = _asker(model, image, plan, facts)
        samples = journal.interleaved(
            precision, contenders, rounds=settings.count(FULL_PREFILLS), warmed=_warmed(plans)
        )
        return inside_tables.Measured(precision, plans, samples, journal.once(f"{precision} facts", lambda: facts))


def _warmed(plans: Plans) -> list[str]:
    """One plan of every bundle."""
    return list({plan.cuts: plan.name for plan in plans.all}.values())


def _asker(model: Model, image: Path, plan: Plan, facts: dict[str, Any]) -> Callable[[], Sample]:
    """One round: "<question> <stage>" -> [wall, cpu], and "decode", a step."""
    inside = "none" if plan.keep is None and plan.cuts.language else plan.keep
    turn = itertools.count()

    def ask() -> Sample:
        model.forget()
        view = model.see(image, budget=plan.budget)
        first = model.ask(QUESTION, image=view, max_tokens=NEW_TOKENS, stop=False, inside=inside)
        second = model.ask(SECOND, image=view, max_tokens=1, stop=False, inside=inside)
        if next(turn) == 0:
            facts[plan.name] = _facts(model.bundle, plan, first, second, inside)
        sample: Sample = {}
        for name, spans in (("first", (*view.spans, *first.spans)), ("second", second.spans)):
            for span in spans:
                key = span.name if span.name == "decode" else f"{name} {span.name}"
                wall, cpu = sample.get(key, [0.0, 0.0])
                sample[key] = [wall + span.wall_s, cpu + span.cpu_s]
        sample["decode"] = [seconds / (NEW_TOKENS - 1) for seconds in sample["decode"]]
        return sample

    return ask


def _facts(bundle: Bundle, plan: Plan, first: Answer, second: Answer, inside: Any) -> dict[str, Any]:
    """What arithmetic needs: rows by stage as they are computed (whole runs), visual rows by layer, work of the tower."""
    spec = bundle.manifest.language
    rows = stage_rows(spec, first.prompt_tokens, first.visual_tokens, inside)
    stages = [
        {
            "layers": stage.behind - stage.first,
            "rows": here.rows,
            "computed": -(-here.rows // spec.chunk_of(stage)) * spec.chunk_of(stage),
            "visual": here.visual,
        }
        for stage, here in zip(spec.stages, rows, strict=True)
    ]
    return {
        "stages": stages,
        "second": [second.prompt_tokens, second.cached_tokens],
        "tower_macs": tower_macs(bundle.manifest, first.budget, first.method),
    }
