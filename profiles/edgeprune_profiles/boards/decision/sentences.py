"""A decision in words that a buyer can act on: which board, which budget, why, and whether that was measured or projected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgeprune_profiles.boards.decision.decide import Concession, Decision, Relaxation
from edgeprune_profiles.boards.device import Device, PriceKind
from edgeprune_profiles.boards.memory_fit import MemoryFit
from edgeprune_profiles.boards.recommend import MEASURED, BoardChoice, BoardOption, Needs
from edgeprune_profiles.report import units
from edgeprune_runtime.statistics import LEAST, Interval

#: What a price buys.
PRICE_KINDS: dict[PriceKind, str] = {
    "module": "module at 1000 units",
    "kit": "kit",
    "card": "card alone",
    "processor": "processor alone",
    "computer": "computer",
    "": "price",
}
#: How each need is written on the command line.
OPTIONS = {
    "ttft": "--ttft",
    "tokens/s": "--tokens-per-s",
    "power": "--max-power",
    "price": "--max-price",
    "memory": "--max-memory",
    "accuracy": "--accuracy",
}
_BEGIN = {
    "take": "Take {title} at budget {budget}: {facts}.",
    "likely": "Nothing meets this for certain. Most likely take {title} at budget {budget}: {facts}. Measure before you buy.",
    "unsure": "Nothing here can be called likely. {title} at budget {budget} may do ({why}): {facts}.",
}


def decision_sentences(decision: Decision, needs: Needs, choices: Sequence[BoardChoice]) -> tuple[str, ...]:
    """The answer first; then what would be cheaper, what the data cannot decide, or what would have to give."""
    if decision.choice is None:
        return ("No board of the list can be projected for this model; see what is left out and why.",)
    if decision.verdict == "none":
        return _nothing(decision, choices)
    one = decision.choice.candidate
    text = _BEGIN[decision.verdict].format(
        title=one.device.short_title, budget=one.budget, facts=facts(one), why=", ".join(reasons(decision.choice))
    )
    found = [text]
    if not needs.any:
        found.append(
            "No need was given, so this is the cheapest board that holds it; give --ttft 1s, --max-price 500 and so on."
        )
    if one.keep_ratio < 1 and one.accuracy is None:
        found.append(f"What budget {one.budget} costs in accuracy is not known here: `edgeprune eval`, then --eval.")
    if decision.verdict == "unsure" and decision.concede and len(decision.concede[0].relax) == 1:
        found += [f"Or ask for {_instead(one)}." for one in decision.concede]
    if cheaper := decision.cheaper:
        found.append(
            f"Cheaper, if a measurement confirms it: {cheaper.candidate.device.short_title} at budget {cheaper.candidate.budget}: "
            f"{facts(cheaper.candidate)}."
        )
    return tuple(found)


def facts(one: BoardOption) -> str:
    """Time, rate, memory, watts, price and accuracy of a board at a budget, with what they rest on."""
    rest = [
        f"{units.seconds(one.ttft_s.point)} to the first token ({one.basis}, {between(one.ttft_s)})",
        "" if one.tokens_per_s is None else f"{units.rate(one.tokens_per_s.point)} tokens/s",
        memory(one.memory),
        "" if one.device.power_w is None else f"{one.device.power_w:g}{units.NBSP}W",
        price(one.device),
        accuracy(one),
    ]
    return ", ".join(part for part in rest if part)


def between(found: Interval) -> str:
    return f"{units.seconds(found.low)} to {units.seconds(found.high)}"


def memory(found: MemoryFit) -> str:
    """What the application and the system take of the board's memory."""
    needed = found.application_bytes + found.system_bytes
    if found.size_bytes is None:
        return f"{units.size(needed)} of unknown memory"
    least = "at least " if found.least else ""
    return f"{least}{needed / 2**30:.1f} of {found.size_bytes / 2**30:.4g}{units.NBSP}GiB"


def price(device: Device) -> str:
    found = device.market.price_usd
    if found is None:
        return "price unknown"
    when = device.dated(found)
    return (
        f"{found.value:.0f}{units.NBSP}USD ({PRICE_KINDS[found.kind]}, {'at launch' if when == 'launch' else when[:7]})"
    )


def accuracy(one: BoardOption) -> str:
    """Points against the full budget with their paired interval."""
    found = one.accuracy
    if found is None:
        return ""
    name = units.metric(found.metric)
    score = units.percent(found.score)
    if found.difference is None:
        return f"{name} {score} (the full budget)"
    lost = found.difference
    return f"{name} {score} ({units.points(lost.point)} points [{units.points(lost.low)}, {units.points(lost.high)}])"


def reasons(choice: BoardChoice) -> tuple[str, ...]:
    """What keeps a choice from `yes`, and which stage or part of the memory is behind it, a few words each."""
    limits, found = choice.candidate.limits, []
    for need, word in choice.answers.items():
        if word == "yes":
            continue
        name = f"{need} ({limits[need]})" if need in limits else need
        few = _few(choice.candidate) if need == "accuracy" and word == "open" else ""
        found.append((name if word == "no" else f"{name} {word}") + few)
    return tuple(found)


def failures(choice: BoardChoice) -> str:
    """The needs that a choice does not meet, and which stage or part of the memory is behind it; memory alone where that is too small."""
    limits = choice.candidate.limits
    words = {
        "fits": "does not fit",
        "ttft": "too slow to the first token",
        "tokens/s": "too few tokens/s",
        "power": "too many watts",
    }
    words |= {"price": "too dear", "accuracy": "not accurate enough"}
    if choice.answers.get("fits") == "no":
        return f"{words['fits']} ({limits['fits']})" if "fits" in limits else words["fits"]
    said = [
        f"{words[need]} ({limits[need]})" if need in limits else words[need]
        for need, word in choice.answers.items()
        if word == "no"
    ]
    return " and ".join(said)


def _few(one: BoardOption) -> str:
    """Too few pictures, or an interval that holds the limit: the data cannot decide."""
    difference = None if one.accuracy is None else one.accuracy.difference
    if difference is None:
        return ""
    few = difference.clusters < LEAST
    return f": {difference.clusters} of {LEAST} pictures needed" if few else ": the interval holds the limit"


def _nothing(decision: Decision, choices: Sequence[BoardChoice]) -> tuple[str, ...]:
    if not decision.concede:
        return _too_large(choices)
    if len(decision.concede[0].relax) > 1:
        (one,) = decision.concede
        return (f"Nothing here meets this, and no single need that gives way is enough. Nearest: {_instead(one)}.",)
    first, *others = (_instead(one) for one in decision.concede)
    return (f"Nothing here meets this. It would be enough to ask for {first}.", *(f"Or for {one}." for one in others))


def _too_large(choices: Sequence[BoardChoice]) -> tuple[str, ...]:
    sizes = [c.candidate.memory for c in choices if c.candidate.memory.size_bytes is not None]
    if not sizes or any(found.verdict != "does not fit" for found in sizes):
        return ("Nothing here meets this, and what would have to give is unknown for every board.",)
    least = min(sizes, key=lambda found: found.application_bytes + found.system_bytes)
    most = max(found.size_bytes or 0 for found in sizes)
    needed = least.application_bytes + least.system_bytes
    return (
        f"None of these boards holds the model: at least {units.size(needed)} are needed, most of them for {least.largest}, and the largest "
        f"has {units.size(most)}. Prune it, store int8 for a processor, or look at larger boards.",
    )


def _instead(concession: Concession) -> str:
    asked = " and ".join(
        f"{OPTIONS[r.need]} {_value(r, r.needed)} instead of {_value(r, r.wanted)}" for r in concession.relax
    )
    one = concession.choice.candidate
    basis = "measured" if one.basis == MEASURED else "projected"
    return (
        f"{asked}: {one.device.short_title} at budget {one.budget} ({units.seconds(one.ttft_s.point)} to the first token, {basis} "
        f"{between(one.ttft_s)}, {price(one.device)})"
    )


def _value(relax: Relaxation, value: float) -> str:
    """As one would type it; what is needed is rounded to the side on which it is enough."""
    needed = value == relax.needed
    if relax.need == "ttft":
        value = _rounded(value, math.ceil) if needed else value
        return f"{value:g}s" if value >= 1 else f"{value * 1e3:g}ms"
    if relax.need == "tokens/s":
        return f"{_rounded(value, math.floor) if needed else value:g}"
    if relax.need == "memory":
        return f"{math.ceil(value / 1e7) / 100:g}GB" if needed else f"{value / 1e9:g}GB"
    if relax.need == "accuracy":
        return f"{math.floor(value * 1e3) / 10:g}" if needed else f"{value * 100:g}"
    return f"{value:g}W" if relax.need == "power" else f"{math.ceil(value):d}"


def _rounded(value: float, direction: Callable[[float], int]) -> float:
    """Two significant digits, up or down."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{direction(value / step) * step:.12g}")
