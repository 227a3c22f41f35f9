"""One answer: which board at which budget to take, what a measurement could make of it, or what would have to give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeprune_profiles.boards.recommend import PROJECTED, BoardChoice, BoardOption, Needs
from edgeprune_runtime.statistics import LEAST

DecisionVerdict = Literal["take", "likely", "unsure", "none"]
_WORDS = ("yes", "likely", "open", "unknown", "no")


@dataclass(frozen=True)
class Relaxation:
    """A need that would have to be `needed` instead of `wanted`, in the unit of `Needs`; accuracy as a share of the questions."""

    need: str
    wanted: float
    needed: float


@dataclass(frozen=True)
class Concession:
    """What would be enough, together, to take `choice`."""

    choice: BoardChoice
    relax: tuple[Relaxation, ...]


@dataclass(frozen=True)
class Decision:
    """`take`: it meets all needs with its whole intervals. `likely`: with their middles. `unsure`: it may, or a figure is unknown.

    choice    the one, or with `none` the one that comes nearest; None without any candidate
    cheaper   costs less and meets the needs with its middles: worth a measurement
    concede   with `unsure` and `none`: each of them would be enough
    """

    verdict: DecisionVerdict
    choice: BoardChoice | None
    cheaper: BoardChoice | None = None
    concede: tuple[Concession, ...] = ()

    @property
    def measure(self) -> BoardChoice | None:
        """What to measure next: what would save money, else what was chosen; None where that was measured already."""
        one = self.cheaper or (self.choice if self.verdict != "none" else None)
        return one if one is not None and one.candidate.basis == PROJECTED else None


def decide(choices: Sequence[BoardChoice], needs: Needs) -> Decision:
    """`choices`, best first, as `recommend` orders them."""
    sure = next((choice for choice in choices if choice.meets == "yes"), None)
    hoped = [choice for choice in choices if choice.meets == "open" and likely(choice, needs)]
    if sure is not None:
        return Decision("take", sure, next((c for c in hoped if _costs_less(c, sure)), None))
    if hoped:
        return Decision("likely", hoped[0])
    concede = concessions(choices, needs)
    if may := [choice for choice in choices if choice.meets in ("open", "unknown")]:
        return Decision("unsure", may[0], None, concede)
    return Decision("none", concede[0].choice if concede else next(iter(choices), None), None, concede)


def word(choice: BoardChoice, needs: Needs) -> str:
    """Its answer to all needs, `likely` where it is open and the middles of its intervals meet them."""
    return "likely" if choice.meets == "open" and likely(choice, needs) else choice.meets


def one_per_board(choices: Iterable[BoardChoice], needs: Needs) -> tuple[BoardChoice, ...]:
    """The best of each board over its budgets and power modes, the boards best first."""
    ranked = sorted(
        choices, key=lambda choice: _WORDS.index(word(choice, needs))
    )  # stable: as cheap and as large as before
    best: dict[str, BoardChoice] = {}
    for choice in ranked:
        best.setdefault(choice.candidate.device.name.partition("@")[0], choice)
    return tuple(best.values())


def likely(choice: BoardChoice, needs: Needs) -> bool:
    """Whether the middles of its intervals meet what is asked; what is unknown does not, and so not too few pictures to say."""
    one = choice.candidate
    if choice.answers.get("fits") != "yes" or any(word in ("no", "unknown") for word in choice.answers.values()):
        return False  # tight memory too: what it takes is known the least
    if needs.accuracy is not None and one.accuracy is not None and one.accuracy.difference is not None:
        few = one.accuracy.difference.clusters < LEAST
        if few or one.accuracy.lost < needs.accuracy.least_difference(one.accuracy.full_score):
            return False
    soon = needs.ttft_s is None or one.ttft_s.point <= needs.ttft_s
    quick = needs.tokens_per_s is None or (
        one.tokens_per_s is not None and one.tokens_per_s.point >= needs.tokens_per_s
    )
    return soon and quick


def concessions(choices: Sequence[BoardChoice], needs: Needs) -> tuple[Concession, ...]:
    """For each need the least that it would have to give if the others stay; if none is enough by itself, the nearest candidate's.

    What does not fit a board's own memory is not among them: no need gives way to that.
    """
    found = [
        Concession(choice, relax)
        for choice in choices
        if choice.candidate.memory.verdict in ("fits", "tight") and (relax := _relaxations(choice.candidate, needs))
    ]
    known = [c for c in found if "unknown" not in c.choice.answers.values()]
    single = [c for c in known if len(c.relax) == 1]
    if single:
        nearest: dict[str, Concession] = {}
        for one in sorted(single, key=_cost):
            nearest.setdefault(one.relax[0].need, one)
        return tuple(nearest.values())
    return tuple(sorted(known, key=lambda c: (len(c.relax), _cost(c)))[:1])


def _relaxations(one: BoardOption, needs: Needs) -> tuple[Relaxation, ...]:
    """What stands between a candidate and the needs, by the middles of its intervals."""
    asked: list[tuple[str, float | None, float | None, bool]] = [
        ("ttft", needs.ttft_s, one.ttft_s.point, False),
        ("tokens/s", needs.tokens_per_s, one.tokens_per_s.point if one.tokens_per_s else None, True),
        ("power", needs.power_w, one.device.power_w, False),
        ("price", needs.price_usd, one.device.price_usd, False),
        ("memory", needs.memory_bytes, float(one.memory.application_bytes), False),
    ]
    found = [
        Relaxation(need, wanted, has)
        for need, wanted, has, most in asked
        if wanted is not None and has is not None and (has < wanted if most else has > wanted)
    ]
    if needs.accuracy is not None and one.accuracy is not None:
        least = needs.accuracy.least_difference(one.accuracy.full_score)
        if one.accuracy.lost < least:
            base = one.accuracy.full_score if needs.accuracy.floor is not None else 0.0
            found.append(Relaxation("accuracy", base + least, base + one.accuracy.lost))
    return tuple(found)


def _cost(concession: Concession) -> float:
    """How much gives way: the sum of factors, as logarithms; ten points of accuracy weigh as much as a factor e."""
    return sum(
        abs(r.needed - r.wanted) * 10 if r.need == "accuracy" else abs(math.log(r.needed / r.wanted))
        for r in concession.relax
    )


def _costs_less(one: BoardChoice, other: BoardChoice) -> bool:
    mine, its = one.candidate.device.price_usd, other.candidate.device.price_usd
    return one.candidate.basis == PROJECTED and mine is not None and (its is None or mine < its)
