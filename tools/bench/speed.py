"""What a token budget buys in time, at real proportions: by stage, beside transformers, and against a bare loop over the graphs."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgeprune_profiles.report import units
from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.prompting.pack import KeptPicture, pack
from edgeprune_runtime.prompting.prompt import Prompter
from tools.bench import speed_tables
from tools.bench.assets import BUDGETS, QUESTION, bundle, checkpoint, picture
from tools.bench.eager import EagerProcess
from tools.bench.page import Page, Target, at_most
from tools.bench.process import python, run_watched
from tools.bench.rounds import Journal, Sample
from tools.bench.settings import FULL_PREFILLS, Settings
from tools.bench.speed_decode import decode
from tools.bench.speed_selection import selection

PRECISIONS = ("fp32", "int8")
NEW_TOKENS = 5
_CHOICES = [(budget, None) for budget in BUDGETS]


def measure(settings: Settings) -> Page:
    """Run all comparisons of this page."""
    journal = Journal("speed", settings)
    model, image = checkpoint(settings, settings.size), picture(settings)
    folders = {precision: bundle(settings, precision) for precision in PRECISIONS}
    facts = journal.once("lengths", lambda: _lengths(folders["int8"], image))
    requests = _requests(journal, settings, model, folders, image)
    targets, sections = speed_tables.targets(requests), speed_tables.sections(requests, facts)
    for precision, folder in folders.items():
        chosen, section = selection(journal, settings, precision, folder, image, requests)
        targets.append(chosen)
        sections.append(section)
    for precision, folder in folders.items():
        chosen_all, section = decode(journal, settings, precision, folder, image)
        targets += chosen_all
        sections.append(section)
    for precision, folder in folders.items():
        targets.append(_second_budget(journal, settings, precision, folder, image))
    shape = f"{settings.size}" + (f" with {settings.layers} decoder layers" if settings.layers else "")
    text = (
        f"A made LLaVA-NeXT of size {shape} (see `tools/make_checkpoint.py`; random weights, so nothing here speaks of "
        "quality): 576 tokens per tile, and a square picture that fills the thumbnail and four tiles. One process holds the "
        "fp32 and the int8 bundle, another one transformers in float32 with scaled-dot-product attention; each round asks "
        f"every budget of both bundles and transformers once, in a new order, for {NEW_TOKENS} tokens. Before that, one request "
        "at the smallest budget of each bundle and one of transformers warm up. Times are medians. `prefill` includes the "
        "first token's logits."
    )
    return Page("speed", "Speed under a token budget", text, sections, targets, journal.samples)


def _lengths(folder: Path, image: Path) -> dict[str, list[int]]:
    """Visual tokens and prompt positions of each budget."""
    with Model.open(folder, verify=False) as model:
        plan, prompter = model.bundle.manifest.plan, Prompter.of(model.bundle)
        asked = prompter.render(QUESTION, images=1)
        found = {}
        for budget, view in zip(BUDGETS, model.see_each(image, _CHOICES), strict=True):
            separators = plan.separators_for(view.selection)
            tokens = prompter.tokens(asked, (view.picture,))
            packed = pack(
                tokens,
                [KeptPicture(view.picture, view.kept, separators)],
                plan.positions_for(view.selection),
                model.bundle.manifest.picture.sequence,
            )
            found[budget] = [len(view.kept), len(packed.ids)]
        return found


def _requests(
    journal: Journal, settings: Settings, model: Path, folders: dict[str, Path], image: Path
) -> dict[str, list[Sample]]:
    """Whole requests by contender: `fp32 1.0` ... `int8 0.1`, and `transformers`."""
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Sample]] = {}
        for precision, folder in folders.items():
            opened = stack.enter_context(Model.open(folder, threads=settings.threads, verify=False, reuse=False))
            opened.see_each(image, _CHOICES)  # opens every select graph
            for budget in BUDGETS:
                contenders[f"{precision} {budget}"] = _asker(opened, image, budget)
        warmed = [f"{precision} {BUDGETS[-1]}" for precision in folders]
        if settings.eager:
            prompt = Prompter.of(Bundle.open(folders["fp32"], verify=False)).render(QUESTION, images=1).text
            worker = stack.enter_context(EagerProcess(model, image, prompt, settings.threads))
            contenders["transformers"] = worker.sample
            warmed.append("transformers")
        return journal.interleaved("requests", contenders, rounds=settings.count(FULL_PREFILLS), warmed=warmed)


def _asker(model: Model, image: Path, budget: str) -> Callable[[], Sample]:
    def ask() -> Sample:
        answer = model.ask(QUESTION, image=image, budget=budget, max_tokens=NEW_TOKENS, stop=False)
        found: Sample = {}
        for span in answer.spans:
            wall, cpu = found.get(span.name, [0.0, 0.0])
            found[span.name] = [wall + span.wall_s, cpu + span.cpu_s]
        steps = sum(span.name == "decode" for span in answer.spans)
        if steps:
            found["decode"] = [value / steps for value in found["decode"]]
        return found

    return ask


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
