"""Where a cut in the tower is known to cost what chooses among its tokens later, with numbers; they differ from model to model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeprune.plan import MethodPlan
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.text import inside_text
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.registry.method import Method
from edgeprune_runtime.spec import InsideSpec

_CUT = "half of the tokens gone after block 1 of 6"


def warnings(inside: Sequence[InsideSpec], methods: Iterable[Method], plan: MethodPlan) -> list[str]:
    """Sentences for the plan of a vision-language model. methods: that choose at the encoder's output."""
    tower = next((one for one in inside if INSIDE[one.method].part == "tower"), None)
    if tower is None:
        return []
    text, method, found = inside_text(tower), INSIDE[tower.method], []
    others = [one.name for one in methods if "attention" not in one.reads(plan) and one.evidence != "control"]
    if others:
        found.append(
            f"--inside {text} thins out what {', '.join(others)} would choose among: {_CUT} cost divprune 3.5 points on one model and "
            "nothing on another (hired: 0.0 and 1.3); compare with a bundle without it"
        )
    if any(INSIDE[one.method].part == "language" for one in inside):
        found.append(
            f"what leaves by --inside {text} no question can ask for later: {_CUT} cost a cut in the language model that looks at the question "
            "8.5 points on one model and 0.2 on another; compare with a bundle without it"
        )
    if isinstance(method, TowerMethod) and method.sizes:
        found.append(
            f"{method.name} mixes patches, which a classifier forgives and a language model reads: after block 1 of 6 joining cost hired 1.5 "
            "and divprune 1.8 points more than dropping did; topk drops"
        )
    return found
