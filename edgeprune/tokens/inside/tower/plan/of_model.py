"""Which cuts the tower of a vision-language model gets for a selection, and what cannot be, said before any work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgeprune.errors import PlanError
from edgeprune.models.spec import ModelSpec
from edgeprune.plan import MethodPlan
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.text import inside_text
from edgeprune.tokens.inside.tower.method import TowerMethod, TowerSite
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts, cuts_of
from edgeprune.tokens.registry.method import Method
from edgeprune_runtime.registry import Registry
from edgeprune_runtime.spec import InsideSpec, SelectionSpec

#: The tower that is not cut.
WHOLE = "tower"


def tower_plan(inside: Sequence[InsideSpec]) -> InsideSpec | None:
    """The one of these plans that is the tower's."""
    return next((one for one in inside if INSIDE[one.method].part == "tower"), None)


ViewSize = tuple[int, int] | None
"""(height, width) in pixels of the part of a tile that is looked at; None: all of it."""


def cuts_of_plan(inside: Sequence[InsideSpec], model: ModelSpec, view: ViewSize = None) -> TowerCuts | None:
    """What `inside` means for the tower of this model. Raises PlanError for what it cannot do."""
    spec = tower_plan(inside)
    if spec is None:
        return None
    method = INSIDE[spec.method]
    assert isinstance(method, TowerMethod)
    last = model.feature_layer
    deepest: dict[TowerSite, int] = {"before": last, "between": last, "after": last - 1}
    return cuts_of(spec, method, replace(model.vision, view=view), deepest, model.connector.merge)


def cuts_for(
    selection: SelectionSpec,
    plan: MethodPlan,
    inside: Sequence[InsideSpec],
    model: ModelSpec,
    methods: Registry[Method],
    view: ViewSize = None,
) -> TowerCuts | None:
    """The cuts of the tower that this selection reads, for tiles of this view; None for the whole one."""
    if selection.tower == WHOLE:
        return None
    own = methods[selection.method].own_cuts
    if own is not None:
        return own(plan, selection.keep, model.picture.tiles_max, model.vision)
    return cuts_of_plan(inside, model, view)


def require_cuts(
    chosen: Iterable[SelectionSpec],
    plan: MethodPlan,
    inside: Sequence[InsideSpec],
    model: ModelSpec,
    methods: Registry[Method],
) -> None:
    """Raise PlanError where a picture has fewer tokens behind the cuts than a budget keeps of it, or two methods would cut the tower."""
    cuts = cuts_of_plan(inside, model)
    if cuts is None:
        return
    by_grid = _by_grid(inside, model, cuts)
    text = inside_text(next(one for one in inside if INSIDE[one.method].part == "tower"))
    for selection in chosen:
        if selection.whole:
            continue
        if methods[selection.method].own_cuts is not None:
            raise PlanError(
                f"{selection.method} cuts the tower by its own counts; leave --inside {text} out, or choose another --method"
            )
        deep = [layer for layer in methods[selection.method].reads(plan).layers if layer >= min(cuts.keep)]
        if cuts.method.finish is not None and deep:
            raise PlanError(
                f"{selection.method} reads vision layer {deep[0]}, where {cuts.method.name} has centres of clusters in the place of tokens; "
                "choose a --method that reads features only, such as divprune"
            )
        for tokens, tiles, here in by_grid:
            tokens_left = here.left if here.method.finish is None else here.tokens
            wanted, there = selection.keep, tiles * tokens_left
            # of a smaller picture the budget keeps all that is there
            if selection.tokens in (None, tokens) and there < wanted < tokens:
                picture = "a picture of one tile" if tiles == 1 else f"a picture of {tiles} tiles"
                raise PlanError(
                    f"--inside {text} leaves {tokens_left} of the {here.tokens} tokens of a tile, {there} of {picture}, and budget "
                    f"{selection.budget} keeps {wanted} of it; cut less, down to {math.ceil(wanted / tiles)} a tile, or give a smaller budget"
                )


def _by_grid(inside: Sequence[InsideSpec], model: ModelSpec, whole: TowerCuts) -> list[tuple[int, int, TowerCuts]]:
    """(visual tokens, tiles, cuts of each) of every picture that the model can see."""
    picture = model.picture
    if not picture.views:
        return [(tokens, tokens // picture.tile.units, whole) for tokens in picture.token_counts]
    found = []
    for view in picture.views:
        cuts = cuts_of_plan(inside, model, view)
        assert cuts is not None
        found.append((len(picture.tile.units_of(view)), 1, cuts))
    return found
