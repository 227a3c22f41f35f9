"""A method that needs a class token, an overview or single patches is refused where a model has none, with the names of those that fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from edgeprune.errors import PlanError
from edgeprune.models import Checkpoint, open_checkpoint
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.registry.fit import method_plan, require_fit, why_unfit, with_default
from edgeprune_runtime.pictures.tiling import NearestRatio
from edgeprune_runtime.spec import TokenPlan
from tests.checkpoints import tiny_checkpoint
from tests.exports import SHIPPED

CLASS_TOKEN = {
    *("hired", "fastervlm", "vtc-cls", "damro", "prumerge", "prumerge+", "todre", "todre-kcenter", "recoverable"),
    "flowcut",
}
OVERVIEW = {"hired", "todre", "todre-kcenter"}
PATCHES = {"flowcut"}
#: Models, whether they have an overview, and what does not work on them.
MODELS: tuple[tuple[dict[str, Any], bool, set[str]], ...] = (
    ({"tower": "clip"}, True, set()),
    ({"tower": "clip"}, False, OVERVIEW),
    ({"family": "llava", "tower": "siglip"}, True, CLASS_TOKEN),
    ({"family": "internvl"}, True, PATCHES),
    ({"family": "internvl"}, False, PATCHES | OVERVIEW),
    ({"family": "smolvlm"}, True, CLASS_TOKEN),
    ({"family": "idefics3", "merge": 3}, True, CLASS_TOKEN),
    ({"family": "llava_onevision"}, True, CLASS_TOKEN),
)
every_model = pytest.mark.parametrize(
    ("variant", "overview", "unfit"),
    MODELS,
    ids=["-".join(map(str, variant.values())) + ("" if overview else "-bare") for variant, overview, _ in MODELS],
)


def opened(variant: dict[str, Any], overview: bool) -> Checkpoint:
    """A checkpoint; without an overview, it has the tiles of InternVL's rule when it is told to leave its thumbnail out."""
    checkpoint = open_checkpoint(tiny_checkpoint(**variant))
    if overview:
        return checkpoint
    picture = msgspec.structs.replace(checkpoint.spec.picture, tiling=NearestRatio(1, 4, thumbnail=False))
    return replace(checkpoint, spec=replace(checkpoint.spec, picture=picture))


@every_model
def test_methods_that_fit_a_model_are_those_whose_needs_it_meets(
    variant: dict[str, Any], overview: bool, unfit: set[str]
) -> None:
    checkpoint = opened(variant, overview)
    plan = method_plan(TokenPlan(), checkpoint.spec)
    shapes = checkpoint.weights.shapes
    reasons = {name: why_unfit(METHODS[name], plan, checkpoint.spec, shapes) for name in SHIPPED}
    assert {name for name, reason in reasons.items() if reason is not None} == unfit
    require_fit([name for name in SHIPPED if name not in unfit], plan, checkpoint.spec, shapes, METHODS)


@every_model
def test_the_refusal_names_the_method_what_is_missing_and_all_that_fit(
    variant: dict[str, Any], overview: bool, unfit: set[str]
) -> None:
    checkpoint = opened(variant, overview)
    plan, spec = method_plan(TokenPlan(), checkpoint.spec), checkpoint.spec
    for name in sorted(unfit):
        with pytest.raises(PlanError) as caught:
            require_fit(["uniform", name], plan, spec, checkpoint.weights.shapes, METHODS)
        said = str(caught.value)
        assert said.startswith(f"method {name} does not fit this model: ")
        if name in CLASS_TOKEN and not spec.vision.class_tokens:
            assert f"it reads the class token, and the {spec.vision.kind} tower has none" in said
        elif name in OVERVIEW and not overview:
            assert "it reads the overview, and this model's pictures have none" in said
        else:
            merge = spec.connector.merge
            assert f"merges {merge} x {merge} patches into one" in said
        fitting = said.partition("methods that fit: ")[2].partition(";")[0].split(", ")
        assert {*fitting} & {*SHIPPED} == {*SHIPPED} - unfit


def test_what_a_method_is_told_of_a_model_says_whether_it_has_a_class_token() -> None:
    told = [method_plan(TokenPlan(), opened(variant, True).spec).class_token for variant, _, _ in MODELS]
    assert told == [True, True, False, True, True, False, False, False]


@every_model
def test_where_nobody_names_a_method_the_first_default_that_fits_is_taken(
    variant: dict[str, Any], overview: bool, unfit: set[str]
) -> None:
    checkpoint = opened(variant, overview)
    spec, shapes = checkpoint.spec, checkpoint.weights.shapes
    plan, why = with_default(TokenPlan(settings={"early_layer": 99}), spec, shapes, METHODS)
    assert plan == TokenPlan("divprune" if "hired" in unfit else "hired", {"early_layer": 99})
    assert (why is None) == (plan.method == "hired")
    assert with_default(TokenPlan("hired"), spec, shapes, METHODS) == (TokenPlan("hired"), None)
