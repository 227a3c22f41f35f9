"""`NAME@LAYERS:KEEP` on the command line, and what makes such a plan impossible whatever the model is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from edgeprune.errors import PlanError
from edgeprune.plan import settings_from_text
from edgeprune.tokens.inside import INSIDE, InsideMethod
from edgeprune_runtime.spec import InsideSpec

_HOW = "write it as in fastv@2:0.5, pdrop@8,16:0.5,0.25 or evit@3,6,9:0.7"


def inside_from_texts(texts: Sequence[str]) -> tuple[InsideSpec, ...]:
    """What repeated `--inside` say; "none" says nothing. Raises PlanError."""
    if "none" in texts:
        if len(texts) > 1:
            raise PlanError("none and another --inside exclude each other; leave one of them out")
        return ()
    found = tuple(inside_from_text(text) for text in texts)
    require_one_per_part(found)
    return found


def inside_from_text(text: str) -> InsideSpec:
    """`NAME@LAYERS:KEEP[:SETTING=NUMBER,...]`; NAME is one of `INSIDE`, or file.py:NAME.

    One KEEP for several layers holds at each of them: in the language model, where shares are of the rows that enter it, a share of 0.5
    becomes 0.5, 0.25, ... Raises PlanError.
    """
    name, at, rest = text.rpartition("@")
    layers, colon, keeps = rest.partition(":")
    keeps, _, settings = keeps.partition(":")
    if not (name and at and colon):
        raise PlanError(f"--inside {text!r} does not say where and how many tokens leave; {_HOW}")
    method = INSIDE.choose(name)
    try:
        blocks = tuple(int(one) for one in layers.split(","))
        counts = tuple(float(one) for one in keeps.split(","))
    except ValueError as error:
        raise PlanError(f"--inside {text!r} holds something that is no number; {_HOW}") from error
    if len(counts) == 1:
        counts = _at_each(counts[0], len(blocks), method)
    given = settings_from_text([pair for pair in settings.split(",") if pair])
    spec = InsideSpec(method.name, blocks, counts, given)
    require_sound(spec)
    return spec


def require_one_per_part(plan: Sequence[InsideSpec]) -> None:
    """Raise PlanError where two methods would work in one part."""
    parts = [INSIDE[one.method].part for one in plan]
    for part in ("tower", "language"):
        names = [one.method for one, where in zip(plan, parts, strict=True) if where == part]
        if len(names) > 1:
            raise PlanError(
                f"{' and '.join(names)} would both work inside the {_CALLED[part]}; give one method for each part"
            )


def require_sound(spec: InsideSpec) -> None:
    """Raise PlanError for layers or counts that no model can have, or settings that the method does not know."""
    method = INSIDE[spec.method]
    if not spec.layers or any(later <= before for before, later in pairwise(spec.layers)) or min(spec.layers) < 0:
        raise PlanError(f"layers {list(spec.layers)} of {spec.method} are not ascending numbers from 0; {_HOW}")
    if len(spec.keep) != len(spec.layers):
        raise PlanError(
            f"{spec.method} leaves tokens at {len(spec.layers)} layers and has {len(spec.keep)} counts; give one, or one for each"
        )
    for keep in spec.keep:
        if not 0 <= keep < math.inf or (keep > 1 and keep % 1 != 0) or (keep == 0 and method.part == "tower"):
            raise PlanError(
                f"{spec.method} keeps {keep:g}; expected a share above 0 up to 1 or a whole number of tokens above 1"
            )
    known = {setting.name: setting for setting in method.settings}
    for name, value in spec.settings.items():
        if name not in known:
            raise PlanError(f"{spec.method} has no setting {name!r}; {', '.join(known) or 'none'} can be set")
        setting = known[name]
        if not setting.least <= value <= setting.most or (setting.whole and value % 1 != 0):
            raise PlanError(f"setting {name} of {spec.method} is {value:g}; {setting.help}")


_CALLED = {"tower": "tower", "language": "language model"}


def inside_text(spec: InsideSpec) -> str:
    """As it is written on the command line."""
    settings = ",".join(f"{name}={value:g}" for name, value in sorted(spec.settings.items()))
    layers, keep = ",".join(str(one) for one in spec.layers), ",".join(f"{one:g}" for one in spec.keep)
    return f"{spec.method}@{layers}:{keep}" + (f":{settings}" if settings else "")


def _at_each(keep: float, layers: int, method: InsideMethod) -> tuple[float, ...]:
    if method.part == "language" and 0 < keep <= 1:
        return tuple(keep ** (number + 1) for number in range(layers))
    return (keep,) * layers
