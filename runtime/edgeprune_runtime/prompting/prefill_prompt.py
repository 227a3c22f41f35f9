"""A packed prompt into the cache of the language model: which rows leave on the way, and what is known of it afterwards."""

from __future__ import annotations

import numpy as np

from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.prompting.generation import Prefilled
from edgeprune_runtime.prompting.pack import Packed
from edgeprune_runtime.prompting.requests import Request
from edgeprune_runtime.results import View
from edgeprune_runtime.spec import Positions
from edgeprune_runtime.stages.counts import choices, room
from edgeprune_runtime.stages.plan import inside_notes, rows_plan


def prefill_prompt(
    model: LanguageModel,
    bundle: Bundle,
    packed: Packed,
    views: tuple[View, ...],
    request: Request,
    positions: Positions,
) -> Prefilled:
    """Run the prompt of a request. positions: the policy of rows that go on where others left.

    Raises PromptError where a stage has no room for it, RequestError for a View without what a ranking reads.
    """
    spec = bundle.manifest.language
    salience = bundle.ranks_by("salience")
    plan = rows_plan(spec, packed.ids, views, request.inside, positions, salience=salience)
    visual = np.concatenate([view.visual for view in views]) if views else None
    logits = model.prefill(model.compose(packed.ids, visual), packed.positions, plan)
    return Prefilled(
        packed=packed,
        logits=logits,
        views=views,
        reused=model.reused,
        room=min(room(spec, plan.stages), spec.positions - packed.next_position) + 1,
        ends=frozenset(spec.eos_token_ids if request.stop else ()),
        inside=tuple(plan.stages[number].visual for number in choices(spec)),
        notes=tuple(inside_notes(spec, plan, request.inside)),
    )
