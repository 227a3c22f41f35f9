"""Which cuts the tower of a vision-language model gets for a selection, and what cannot be, said before any work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

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


def cuts_of_plan(inside: Sequence[InsideSpec], model: ModelSpec) -> TowerCuts | None:
    """What `inside` means for the tower of this model. Raises PlanError for what it cannot do."""
    spec = tower_plan(inside)
    if spec is None:
        return None
    method = INSIDE[spec.method]
    assert isinstance(method, TowerMethod)
    if model.deepstack:
        raise PlanError(
            f"{method.name} cuts the tower, and features of early blocks enter this model's decoder as well"
        )
    last = model.feature_layer
    deepest: dict[TowerSite, int] = {"before": last, "between": last, "after": last - 1}
    return cuts_of(spec, method, model.vision, deepest, model.connector.merge)


def cuts_for(
    selection: SelectionSpec,
    plan: MethodPlan,
    inside: Sequence[InsideSpec],
    model: ModelSpec,
    methods: Registry[Method],
) -> TowerCuts | None:
    """The cuts of the tower that this selection reads; None for the whole one."""
    if selection.tower == WHOLE:
        return None
    own = methods[selection.method].own_cuts
    if own is not None:
        return own(plan, selection.keep, model.picture.tiles_max, model.vision)
    return cuts_of_plan(inside, model)


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
        for tokens in model.picture.token_counts if selection.tokens is None else (selection.tokens,):
            tiles = tokens // model.picture.tile.units
            tokens_left = cuts.left if cuts.method.finish is None else cuts.tokens
            wanted, there = selection.keep, tiles * tokens_left
            if there < wanted < tokens:  # of a smaller picture the budget keeps all that is there
                raise PlanError(
                    f"--inside {text} leaves {tokens_left} of the {cuts.tokens} tokens of a tile, {there} of a picture of {tiles} tiles, and "
                    f"budget {selection.budget} keeps {wanted} of it; cut less, down to {math.ceil(wanted / tiles)} a tile, or give a "
                    "smaller budget"
                )
