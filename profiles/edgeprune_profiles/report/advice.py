"""The choice of a budget as sentences: what to take, why it and not another, and what would settle what is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgeprune_profiles.report import units
from edgeprune_profiles.report.choice import BudgetChoice, Met, ReportNeeds, WeighedBudget
from edgeprune_runtime.budgets import asked_for
from edgeprune_runtime.statistics import Interval

NAMES = {
    "ttft": "time to first token",
    "tokens/s": "tokens/s",
    "accuracy": "accuracy",
    "memory": "peak memory",
    "energy": "energy",
}
_SETTLE = {
    "ttft": "profile with more --runs on a quiet machine",
    "tokens/s": "profile with more --runs on a quiet machine",
    "accuracy": "evaluate more questions",
    "memory": "profile on a machine that says what a process holds",
    "energy": "profile with --power",
}
_MEASURE = _SETTLE | {
    "accuracy": "run `edgeprune eval BUNDLE --data QUESTIONS --out accuracy.json` and give --eval accuracy.json"
}


def advice(choice: BudgetChoice) -> tuple[str, ...]:
    """The most important first. Without needs it says how to state them."""
    if not choice.needs:
        return ("Which budget to take depends on what you need: add --ttft 500ms, --accuracy -3, --max-memory 4GB.",)
    if choice.taken is not None:
        taken = choice.taken
        lead = f"Take budget {called(taken)}: {_medians(taken, choice.needs)}."
        return (lead, _why(choice), f"Asked and measured: {_figures(taken, choice.needs)}.", *_left_out(choice))
    if choice.nearest is not None:
        near = choice.nearest
        doubts = [need for need, met in near.answers.items() if met != "yes"]
        settle = _MEASURE if near.meets == "unknown" else _SETTLE
        ways = " and ".join(dict.fromkeys(settle[need] for need in doubts))
        return (
            f"No budget is sure to meet what was asked; {called(near)} may: {_medians(near, choice.needs)}.",
            f"To be sure, {ways}.",
            f"Asked and measured: {_figures(near, choice.needs)}.",
            *_left_out(choice),
        )
    return ("No profiled budget meets what was asked.", *_left_out(choice))


def asked(needs: ReportNeeds) -> dict[str, str]:
    """Each need with its limit in words: "at most 500 ms"."""
    found = {
        "ttft": None if needs.ttft_s is None else f"at most {units.seconds(needs.ttft_s)}",
        "tokens/s": None if needs.tokens_per_s is None else f"at least {units.rate(needs.tokens_per_s)}",
        "accuracy": _least_accuracy(needs),
        "memory": None if needs.memory_bytes is None else f"at most {units.limit_size(needs.memory_bytes)}",
        "energy": None if needs.energy_j is None else f"at most {units.energy(needs.energy_j)}",
    }
    return {need: text for need, text in found.items() if text is not None}


def _least_accuracy(needs: ReportNeeds) -> str | None:
    if needs.score is not None:
        return f"at least {units.percent(needs.score)}"
    return None if needs.accuracy is None else f"at least {units.points(needs.accuracy)} points"


def figure(one: WeighedBudget, need: str) -> str:
    """What was measured of one budget, with the interval that was held against the need."""
    if need == "ttft":
        return _spread(one.ttft_s, units.seconds)
    if need == "tokens/s":
        return _spread(one.tokens_per_s, units.rate)
    if need == "accuracy":
        return _points(one)
    return units.size(one.memory_bytes) if need == "memory" else _spread(one.energy_j, units.energy)


def called(one: WeighedBudget) -> str:
    """A budget with its method, once."""
    method = one.summary.result.budget.method
    named = one.summary.full or asked_for(one.name).method == method
    return one.name if named else f"{one.name} ({method})"


def _figures(one: WeighedBudget, needs: ReportNeeds) -> str:
    """Each need with its figure, its interval and what was asked."""
    words = {"yes": "", "no": ", not met", "open": ", not sure", "unknown": ", unknown"}
    limits = asked(needs)
    return "; ".join(
        f"{NAMES[need]} {figure(one, need)}, {limits[need]}{words[met]}" for need, met in one.answers.items()
    )


def _medians(one: WeighedBudget, needs: ReportNeeds) -> str:
    """Time and accuracy, and what else was asked for."""
    wanted = ["ttft", "accuracy", *(need for need in asked(needs) if need not in ("ttft", "accuracy"))]
    found = {
        "ttft": f"first token after {units.seconds(one.ttft_s.point)}" if one.ttft_s else "",
        "accuracy": f"{units.percent(one.score)} accuracy" if one.score is not None else "accuracy unknown",
        "tokens/s": f"{units.rate(one.tokens_per_s.point if one.tokens_per_s else None)} tokens/s",
        "memory": f"{units.size(one.memory_bytes)} of memory",
        "energy": f"{units.energy(one.energy_j.point if one.energy_j else None)} an answer",
    }
    return ", ".join(found[need] for need in wanted if found[need])


def _why(choice: BudgetChoice) -> str:
    taken = choice.taken
    meeting = [one for one in choice.budgets if one.meets == "yes"]
    if taken is None or len(meeting) == 1:
        return f"It is the only one of {len(choice.budgets)} that is sure to meet what was asked."
    several = (
        f"the {len(meeting)} of {len(choice.budgets)} that"
        if len(meeting) < len(choice.budgets)
        else f"{len(meeting)}, all of which"
    )
    among = f"of {several} are sure to meet what was asked"
    if choice.rule == "most accurate":
        return f"It is the most accurate {among}; with --accuracy the fastest would be taken instead."
    if choice.rule == "keeps most":
        return f"It keeps most tokens {among}. Accuracy is unknown: {_MEASURE['accuracy']}."
    firsts = [one.ttft_s.point for one in meeting if one.ttft_s]
    if taken.ttft_s is not None and taken.ttft_s.point <= min(firsts):
        return f"It is the fastest {among}."
    return f"It is the most accurate {among} and as fast as the fastest, within what requests differ."


def _left_out(choice: BudgetChoice) -> Iterator[str]:
    """Which needs keep which budgets out: those that fail, then those that are open or unknown."""
    words: tuple[tuple[Met, str], ...] = (("no", "Fails"), ("open", "Not sure"), ("unknown", "Not known"))
    others = [one for one in choice.budgets if one is not choice.nearest]
    for word, lead in words:
        for need in asked(choice.needs):
            names = [one.name for one in others if one.answers.get(need) == word]
            if names:
                yield f"{lead} in {NAMES[need]}: {', '.join(names)}."


def _points(one: WeighedBudget) -> str:
    if one.score is None:
        return units.UNKNOWN
    if one.summary.full:
        return f"{units.percent(one.score)} (the reference)"
    return f"{units.percent(one.score)}, {_spread(one.points, units.points)} points"


def _spread(found: Interval | None, text: Callable[[float], str]) -> str:
    if found is None:
        return units.UNKNOWN
    middle, low, high = (text(value) for value in (found.point, found.low, found.high))
    return middle if low == high else f"{middle} [{low}, {high}]"


def table(choice: BudgetChoice) -> tuple[list[str], list[list[str]]]:
    """(head, rows) for a terminal: medians and what was asked. A column that nobody asked for and nothing is known of is left out."""
    columns: Sequence[tuple[str, str]] = [
        ("TTFT", "ttft"),
        ("points", "accuracy"),
        ("memory", "memory"),
        ("energy", "energy"),
    ]
    known = [
        (head, need)
        for head, need in columns
        if need in asked(choice.needs) or any(_short(one, need) != units.UNKNOWN for one in choice.budgets)
    ]
    rows = [
        [
            one.name,
            *(_short(one, need) for _, need in known),
            *([_meets(one, choice)] if choice.needs else []),
            "front" if one.front else "",
        ]
        for one in choice.budgets
    ]
    return ["budget", *(head for head, _ in known), *(["meets"] if choice.needs else []), ""], rows


def _short(one: WeighedBudget, need: str) -> str:
    if need == "ttft":
        return units.seconds(one.ttft_s.point if one.ttft_s else None)
    if need == "accuracy":
        return (
            "reference"
            if one.summary.full and one.score is not None
            else (units.points(one.points.point) if one.points else units.UNKNOWN)
        )
    if need == "memory":
        return units.size(one.memory_bytes)
    return units.energy(one.energy_j.point if one.energy_j else None)


def _meets(one: WeighedBudget, choice: BudgetChoice) -> str:
    if one is choice.taken:
        return "taken"
    rest = [NAMES[need] if met == one.meets else "" for need, met in one.answers.items()]
    short = [{"time to first token": "ttft", "peak memory": "memory"}.get(name, name) for name in rest if name]
    return one.meets if one.meets == "yes" else f"{one.meets}: {', '.join(short)}"


def choice_as_data(choice: BudgetChoice) -> dict[str, Any]:
    """For --json: the names of what was chosen, and of each budget what decided."""
    return {
        "needs": choice.needs,
        "taken": choice.taken.name if choice.taken else None,
        "nearest": choice.nearest.name if choice.nearest else None,
        "rule": choice.rule,
        "budgets": [
            {
                "budget": one.name,
                "meets": one.meets,
                "answers": one.answers,
                "front": one.front,
                "ttft_s": one.ttft_s,
                "tokens_per_s": one.tokens_per_s,
                "score": one.score,
                "points_against_full": one.points,
                "memory_bytes": one.memory_bytes,
                "energy_j": one.energy_j,
            }
            for one in choice.budgets
        ],
    }
