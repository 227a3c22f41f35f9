"""Where a cut in the tower is known to cost what chooses among its tokens later, with numbers; they differ from model to model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from edgeprune.plan import MethodPlan
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.text import inside_text
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.registry.method import Method
from edgeprune_runtime.spec import InsideSpec

_CUT = "half of the tokens gone after block 1 of 6"


class Measured(NamedTuple):
    """Points lost on the first and the second reference model against budgets behind a whole tower, and of them on numbers in the picture."""

    points: tuple[float, float]
    numbers: tuple[float, float]

    @property
    def text(self) -> str:
        one, other = (f"{points:g} points (numbers {numbers:g})" for points, numbers in zip(*self, strict=True))
        return f"{one} on one model and {other} on another"


#: By the question of its row in docs/measurements/inside-language.md; below 0 nothing was lost.
MEASURED = {
    "the same, then the output cut by the tower's own order": Measured((-0.3, 7.1), (7.8, 15.5)),
    "the same, then a spread choice": Measured((2.0, 10.7), (10.7, 18.4)),
    "the same, then the question's choice": Measured((1.8, 10.9), (10.7, 22.3)),
}


def warnings(inside: Sequence[InsideSpec], methods: Iterable[Method], plan: MethodPlan) -> list[str]:
    """Sentences for the plan of a vision-language model. methods: that choose at the encoder's output."""
    tower = next((one for one in inside if INSIDE[one.method].part == "tower"), None)
    if tower is None:
        return []
    own, spread, asked = (one.text for one in MEASURED.values())
    text, method, found = inside_text(tower), INSIDE[tower.method], []
    choosing = [one for one in methods if one.evidence != "control"]
    others = [one.name for one in choosing if "attention" not in one.reads(plan)]
    if others:
        found.append(
            f"--inside {text} thins out what {', '.join(others)} would choose among: {_CUT} cost divprune {spread}; compare with a bundle "
            "without it"
        )
    if len(others) < len(choosing):
        found.append(
            f"--inside {text} lets tokens leave before all blocks have seen them: {_CUT} cost the tower's own order {own}; compare with a "
            "bundle without it"
        )
    if any(INSIDE[one.method].part == "language" for one in inside):
        found.append(
            f"what leaves by --inside {text} no question can ask for later: {_CUT} cost a cut in the language model that looks at the question "
            f"{asked}; compare with a bundle without it"
        )
    if isinstance(method, TowerMethod) and method.sizes:
        found.append(
            f"{method.name} mixes patches, which a classifier forgives and a language model reads: {_CUT} cost numbers in a picture 20 points "
            "by joining and 12 by dropping (topk), words 8 and 1"
        )
    return found
