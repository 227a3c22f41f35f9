"""How many rows of a prompt each stage of the language model has: host arithmetic, known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from edgeprune_runtime.errors import PlanError, PromptError, RequestError
from edgeprune_runtime.spec import LanguageSpec, Manifest, StageSpec
from edgeprune_runtime.stages.recycled import recycled

#: What stays at each cut, as a request says it: None as exported, "none": nobody leaves, or numbers, up to 1 a share of the visual rows that
#: enter the language model, above 1 a count, 0 none of them; one number holds for all cuts (a share of those that arrive).
InsideChoice: TypeAlias = "str | float | Sequence[float] | None"
NOBODY_LEAVES = "none"


def choice_from_text(text: str) -> InsideChoice:
    """ "none", or numbers with commas between them. Raises PlanError for anything else."""
    if text == NOBODY_LEAVES:
        return text
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError as error:
        raise PlanError(
            f"--inside {text!r} is neither none nor numbers; write 0.5, 64 or 64,16, one for each cut of the bundle"
        ) from error


def as_exported(spec: LanguageSpec) -> str:
    """The same text for what a bundle lets stay when nobody says otherwise."""
    return ",".join(f"{spec.stages[number].keep:g}" for number in choices(spec)) or NOBODY_LEAVES


def inside_choices(manifest: Manifest, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """What is measured side by side: nobody leaves, then what is `asked` for, or as exported. Raises PlanError or RequestError."""
    for text in asked:
        keeps(manifest.language, choice_from_text(text))
    return tuple(dict.fromkeys((NOBODY_LEAVES, *(asked or (as_exported(manifest.language),)))))


@dataclass(frozen=True)
class StageRows:
    """Rows of a prompt in stage `number`, and how many of them are visual; `named`: how many of these a ranking says, without those that
    stand for what left."""

    number: int
    rows: int
    visual: int
    named: int


def choices(spec: LanguageSpec) -> tuple[int, ...]:
    """Numbers of the stages for which a request may say how many visual rows they have."""
    entering = (0,) if spec.stages[0].keep != 1 else ()
    return (*entering, *(number for number, stage in enumerate(spec.stages) if stage.rank is not None))


def keeps(spec: LanguageSpec, choice: InsideChoice) -> tuple[float, ...]:
    """What stays at each cut of a model. Raises RequestError for what no cut can keep, or numbers for other cuts than there are."""
    cuts = [spec.stages[number] for number in choices(spec)]
    if choice is None:
        return tuple(stage.keep for stage in cuts)
    if isinstance(choice, str):
        if choice != NOBODY_LEAVES:
            raise RequestError(f"inside is {choice!r}; expected {NOBODY_LEAVES!r} or numbers of visual rows that stay")
        return (1.0,) * len(cuts)
    given = (choice,) if isinstance(choice, (int, float)) else tuple(choice)
    if not cuts:
        raise RequestError("this bundle has no cuts inside the language model; export it with --inside")
    for keep in given:
        sound = isinstance(keep, (int, float)) and not isinstance(keep, bool) and 0 <= keep < math.inf
        if not sound or (keep > 1 and keep % 1 != 0):
            raise RequestError(f"inside keeps {keep!r}; expected a share up to 1 or a whole number of visual rows")
    if len(given) == 1:
        (keep,) = given
        return tuple(keep ** (number + 1) if 0 < keep <= 1 else keep for number in range(len(cuts)))
    if len(given) != len(cuts):
        raise RequestError(
            f"inside has {len(given)} numbers, and rows leave at {len(cuts)} layers of this bundle "
            f"({', '.join(str(stage.first) for stage in cuts)}); give one, or one for each"
        )
    return given


def visual_by_stage(spec: LanguageSpec, visual: int, choice: InsideChoice = None) -> tuple[int, ...]:
    """Visual rows that each stage has where the prompt has so many; whether there is room is not asked."""
    asked = dict(zip(choices(spec), keeps(spec, choice), strict=True))
    stages = [
        msgspec.structs.replace(stage, keep=asked.get(number, stage.keep)) for number, stage in enumerate(spec.stages)
    ]
    return visual_in(stages, visual)


def visual_in(stages: Sequence[StageSpec], visual: int) -> tuple[int, ...]:
    """Likewise, as many staying as each stage says."""
    found = []
    left = visual
    for stage in stages:
        there = visual if stage.returns else left
        stay = min(there, stage.stay(visual))
        left = stay + (recycled(there - stay) if stage.recycles else 0)
        found.append(left)
    return tuple(found)


def stage_rows(spec: LanguageSpec, rows: int, visual: int, choice: InsideChoice = None) -> tuple[StageRows, ...]:
    """Rows of every stage for a prompt of so many, of which `visual` are visual. Raises PromptError where a stage has no room for them."""
    keep = dict(zip(choices(spec), keeps(spec, choice), strict=True))
    found, left = [], visual
    for number, there in enumerate(visual_by_stage(spec, visual, choice)):
        stage = msgspec.structs.replace(spec.stages[number], keep=keep.get(number, 1.0))
        named = min(visual if stage.returns else left, stage.stay(visual))
        found.append(StageRows(number, rows - visual + there, there, named))
        left = there
    if rows > spec.capacity:
        raise PromptError(_too_long(spec, StageRows(0, rows, visual, visual), spec.stages[0]))
    for here, stage in zip(found, spec.stages, strict=True):
        if here.rows > stage.capacity:
            raise PromptError(_too_long(spec, here, stage))
    return tuple(found)


def mean_kept(spec: LanguageSpec, visual: int, choice: InsideChoice = None) -> float:
    """Mean over layers of the visual rows that a layer sees, where the prompt has so many; whether there is room is not asked."""
    by_stage = zip(spec.stages, visual_by_stage(spec, visual, choice), strict=True)
    return sum(left * (stage.behind - stage.first) for stage, left in by_stage) / spec.layers


def room(spec: LanguageSpec, rows: Sequence[StageRows]) -> int:
    """Tokens that every stage still has a place for."""
    return min(stage.capacity - here.rows for stage, here in zip(spec.stages, rows, strict=True))


def _too_long(spec: LanguageSpec, found: StageRows, stage: StageSpec) -> str:
    if len(spec.stages) == 1 or found.number < (spec.cuts or (len(spec.stages),))[0]:
        return (
            f"the prompt has {found.rows} positions, the bundle's capacity is {spec.capacity}; shorten the question, choose a "
            "smaller budget, or export with a larger --capacity (--max-images N for several)"
        )
    return (
        f"{found.rows} rows of the prompt reach layers {stage.first} to {stage.behind - 1} of the language model, which have room for "
        f"{stage.capacity}; let fewer visual rows stay there (--inside), or export with --stage-room all"
    )
