"""What a packed prompt's rows do on their way through the stages, from the views that it shows and what the request asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.prompting.pack import VISUAL
from edgeprune_runtime.results import View
from edgeprune_runtime.spec import LanguageSpec, Positions
from edgeprune_runtime.stages.counts import InsideChoice, keeps, stage_rows
from edgeprune_runtime.stages.lists import RowsPlan
from edgeprune_runtime.stages.rows import PromptRows, evenly, prompt_rows


def rows_plan(
    spec: LanguageSpec,
    ids: np.ndarray,
    views: Sequence[View],
    choice: InsideChoice,
    positions: Positions,
    *,
    salience: bool,
) -> RowsPlan:
    """For ids [S] of a packed prompt. salience: whether a ranking of the bundle reads the encoder's scores.

    Raises RequestError for a choice that means nothing or a View without what is read, PromptError where a stage has no room.
    """
    visual = int(np.count_nonzero(ids == VISUAL))
    stage_rows(spec, len(ids), visual, choice)  # whether there is room, said first
    scores = None
    if salience and views:
        given = [view.salience for view in views if view.salience is not None]
        if len(given) < len(views):
            raise RequestError(
                "this View was made by another bundle, without scores of its tokens; see the picture again"
            )
        scores = np.concatenate(given)
    places = np.concatenate([view.places for view in views]) if views else None
    return plan_of(spec, prompt_rows(ids, scores, places), choice, positions)


def plan_of(spec: LanguageSpec, known: PromptRows, choice: InsideChoice, positions: Positions) -> RowsPlan:
    """For rows of which everything is known. Raises RequestError for a choice that means nothing, PromptError where a stage has no room."""
    visual = int(np.count_nonzero(known.visual))
    stages = stage_rows(spec, len(known.visual), visual, choice)
    entering = None if stages[0].visual == visual else evenly(known.visual, stages[0].visual)
    return RowsPlan(stages, known, positions == "renumber", entering)


def inside_notes(spec: LanguageSpec, plan: RowsPlan, choice: InsideChoice) -> list[str]:
    """Says where a prompt has fewer visual rows than would stay."""
    visual = int(np.count_nonzero(plan.known.visual))
    counts = [keep for keep in keeps(spec, choice) if keep > visual > 0]
    if not counts:
        return []
    return [
        f"the prompt has {visual} visual rows, fewer than the {counts[0]:g} that stay inside the language model: none left there"
    ]
