"""What a second question about the same picture costs, with and without the cache of the first one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edgeprune_profiles.report import units
from edgeprune_runtime import Answer, Model, Turn, View
from edgeprune_runtime.statistics import paired_ratio
from tools.bench.assets import QUESTION, bundle, picture
from tools.bench.page import BRIEF, Page, Section, Target, at_least, brief
from tools.bench.rounds import CPU, SEED, WALL, Journal, Sample, Samples, column, median
from tools.bench.settings import FULL_PREFILLS, Settings

BUDGETS = ("1.0", "0.4", "0.2", "0.1")
BUNDLES = {"fp32": ("fp32", 128), "int8": ("int8", 128), "int8, chunks of 32": ("int8", 32)}
SECOND = "Which word stands beside it?"
_STAGES = ("preprocess", "tower", "select", "prefill")
_CLOCKS = {"processor time": CPU, "wall time": WALL}


def measure(settings: Settings) -> Page:
    """Per bundle and budget: a first question, a second one, the same without the cache, and a dialogue of both."""
    journal, image = Journal("second-question", settings), picture(settings)
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Sample]] = {}
        tokens: dict[str, list[int]] = {}
        for name, (precision, chunk) in BUNDLES.items():
            folder = bundle(settings, precision, BUDGETS, chunk=chunk)
            model = stack.enter_context(Model.open(folder, threads=settings.threads, verify=False))
            for budget in BUDGETS:
                contenders[f"{name}, {budget}"] = _asker(model, image, budget, tokens, f"{name}, {budget}")
        warmed = [f"{name}, {BUDGETS[-1]}" for name in BUNDLES]
        samples = journal.interleaved("requests", contenders, rounds=settings.count(FULL_PREFILLS), warmed=warmed)
        counts = journal.once("tokens", lambda: tokens)
    text = (
        f"A made LLaVA-NeXT of size {settings.size} (random weights), a picture of five tiles, two short questions. *First*: picture and "
        "question from nothing. *Second*: another question about the View. *Whole*: the same with an empty cache (`Model.forget()`), as before "
        "there was re-use; its tokens and those of the second question were equal in every round. *Dialogue*: first question, its answer and "
        "the second question as three turns. Only whole chunks are re-used, so their size (`export --chunk`) decides what a second question "
        f"computes again. All four follow each other in one round, the bundles in a new order each time. {BRIEF}"
    )
    return Page(
        "second-question", "Second questions", text, _sections(samples, counts), _targets(samples), journal.samples
    )


def _asker(model: Model, image: Path, budget: str, tokens: dict[str, list[int]], name: str) -> Callable[[], Sample]:
    """One round: "<question> <stage>" -> [wall, cpu]. `tokens` gets prompt and cached tokens of second question and dialogue."""

    whole_first = itertools.cycle((False, True))  # so that what is warm by then favours neither

    def alone(view: View) -> Answer:
        model.forget()
        return model.ask(SECOND, image=view, max_tokens=1, stop=False)

    def ask() -> Sample:
        view = model.see(image, budget=budget)
        whole = alone(view) if next(whole_first) else None
        model.forget()
        first = model.ask(QUESTION, image=view, max_tokens=8, stop=False)
        second = model.ask(SECOND, image=view, max_tokens=1, stop=False)
        turns = [Turn("user", QUESTION), Turn("assistant", first.text), Turn("user", SECOND)]
        dialogue = model.ask(turns, image=view, max_tokens=1, stop=False)
        whole = whole or alone(view)
        if whole.token_ids != second.token_ids or whole.cached_tokens:
            raise AssertionError(f"{name}: {whole.token_ids} without the cache, {second.token_ids} with it")
        tokens[name] = [n for one in (second, dialogue) for n in (one.prompt_tokens, one.cached_tokens)]
        sample: Sample = {f"first {span.name}": [span.wall_s, span.cpu_s] for span in view.spans}
        for question, answer in (("first", first), ("second", second), ("dialogue", dialogue), ("whole", whole)):
            _add(sample, question, answer)
        return sample

    return ask


def _add(sample: Sample, question: str, answer: Answer) -> None:
    for span in answer.spans:
        if span.name != "decode":
            wall, cpu = sample.get(f"{question} {span.name}", [0.0, 0.0])
            sample[f"{question} {span.name}"] = [wall + span.wall_s, cpu + span.cpu_s]


def _ttft(question: str) -> tuple[str, ...]:
    return tuple(f"{question} {stage}" for stage in _STAGES)


def _sections(samples: Samples, counts: dict[str, list[int]]) -> list[Section]:
    found = []
    for clock, index in _CLOCKS.items():
        rows = []
        for name, taken in samples.items():
            prompt, cached, *_ = counts[name]
            times = [
                units.seconds(median(taken, index, *_ttft(one))) for one in ("first", "whole", "second", "dialogue")
            ]
            gains = [
                brief(
                    paired_ratio(column(taken, index, *_ttft(one)), column(taken, index, *_ttft("second")), seed=SEED)
                )
                for one in ("first", "whole")
            ]
            rows.append([name, f"{cached} of {prompt}", *times, *gains])
        head = ["", "cached", "first", "whole", "second", "dialogue", "first / second", "whole / second"]
        found.append(Section(f"Time to first token, {clock}", "", head, rows))
    return found


def _targets(samples: Samples) -> list[Target]:
    """A second question at full budget is one or two chunks of many."""
    return [
        at_least(
            f"{name}: whole / second >= 2 x, {clock}",
            paired_ratio(column(taken, index, *_ttft("whole")), column(taken, index, *_ttft("second")), seed=SEED),
            2.0,
        )
        for name, taken in samples.items()
        for clock, index in _CLOCKS.items()
    ]
