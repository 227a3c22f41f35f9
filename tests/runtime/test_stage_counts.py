"""How many rows each stage of a language model has: known before anything runs, by what was exported or what a request asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune_profiles.measure.work import RequestShape, request_stages, stage_shapes
from edgeprune_runtime.errors import PlanError, PromptError, RequestError
from edgeprune_runtime.spec import GraphWork, LanguageSpec, StageSpec, TensorRef
from edgeprune_runtime.stages.counts import (
    InsideChoice,
    as_exported,
    choice_from_text,
    choices,
    mean_kept,
    room,
    stage_rows,
    visual_by_stage,
)
from edgeprune_runtime.stages.plan import plan_of
from edgeprune_runtime.stages.recycled import recycled, states_before
from edgeprune_runtime.stages.rows import prompt_rows

FIXED = 10


def spec_of(*stages: StageSpec) -> LanguageSpec:
    return LanguageSpec(
        hidden=8,
        layers=stages[-1].behind,
        kv_heads=(2,) * stages[-1].behind,
        head_dim=4,
        vocab=20,
        stages=stages,
        chunk=32,
        image_token_id=1,
        eos_token_ids=(2,),
        embedding=TensorRef("float32", (20, 8), 0),
        positions=512,
    )


def stage(number: int, first: int, behind: int, capacity: int = 256, **more: Any) -> StageSpec:
    return StageSpec(first, behind, capacity, f"prefill-{number}", f"decode-{number}", **more)


PYRAMID = spec_of(stage(0, 0, 2), stage(1, 2, 4, rank="rank-1", keep=0.5), stage(2, 4, 8, 64, rank="rank-2", keep=16.0))
BACK = spec_of(
    stage(0, 0, 2, keep=0.25), stage(1, 2, 6, returns=True), stage(2, 6, 8, 64, chunk=16, rank="rank-2", keep=0.1)
)
MEANS = spec_of(stage(0, 0, 2), stage(1, 2, 8, rank="rank-1", keep=40.0, recycles=True))


@pytest.mark.parametrize(
    ("spec", "choice", "expected"),
    [
        (PYRAMID, None, (160, 80, 16)),
        (PYRAMID, "none", (160, 160, 160)),
        (PYRAMID, (64, 32), (160, 64, 32)),
        (PYRAMID, 0.25, (160, 40, 10)),
        (PYRAMID, (16, 64), (160, 16, 16)),
        (PYRAMID, 0, (160, 0, 0)),
        (BACK, None, (40, 160, 16)),
        (BACK, "none", (160, 160, 160)),
        (BACK, (80, 8), (80, 160, 8)),
        (MEANS, None, (160, 40 + recycled(120))),
        (MEANS, 1000, (160, 160)),
    ],
)
def test_visual_rows_of_every_stage(spec: LanguageSpec, choice: InsideChoice, expected: tuple[int, ...]) -> None:
    assert visual_by_stage(spec, 160, choice) == expected
    layers = [count for one, count in zip(spec.stages, expected, strict=True) for _ in range(one.first, one.behind)]
    assert mean_kept(spec, 160, choice) == pytest.approx(np.mean(layers))


def test_as_exported_is_what_a_request_can_say_as_well() -> None:
    for spec, text in ((PYRAMID, "0.5,16"), (BACK, "0.25,0.1"), (MEANS, "40")):
        assert as_exported(spec) == text
        assert visual_by_stage(spec, 160, choice_from_text(text)) == visual_by_stage(spec, 160)
    assert (choices(PYRAMID), choices(BACK), BACK.cuts) == ((1, 2), (0, 2), (1, 2))


def test_a_stage_without_room_is_named_and_room_is_that_of_the_fullest() -> None:
    rows = stage_rows(PYRAMID, 160 + FIXED, 160)
    assert [(here.rows, here.named) for here in rows] == [(170, 160), (90, 80), (26, 16)]
    assert room(PYRAMID, rows) == 64 - 26
    with pytest.raises(PromptError, match="170 rows of the prompt reach layers 4 to 7 .* which have room for 64"):
        stage_rows(PYRAMID, 160 + FIXED, 160, "none")
    with pytest.raises(PromptError, match="the prompt has 300 positions, the bundle's capacity is 256"):
        stage_rows(BACK, 300, 290)


def test_rows_that_enter_are_at_even_distances_and_the_rest_is_beside_them() -> None:
    ids = np.array([5] * 4 + [-1] * 160 + [6] * 6)
    plan = plan_of(BACK, prompt_rows(ids), None, "keep")
    assert plan.entering is not None and plan.entering.tolist() == [*range(4), *range(4, 164, 4), *range(164, 170)]
    whole = prompt_rows(np.array([5] * 4 + [-1] * 40 + [6] * 6))
    assert plan_of(BACK, whole, "none", "keep").entering is None
    assert (states_before(BACK, 1), states_before(BACK, 2), states_before(PYRAMID, 1)) == (512, 256, 256)
    assert states_before(MEANS, 1) == 256 + recycled(256)


@pytest.mark.parametrize("choice", ["some", -1, 2.5, (1, 2, 3), True])
def test_what_no_stage_can_keep_is_refused(choice: InsideChoice) -> None:
    with pytest.raises(RequestError):
        visual_by_stage(PYRAMID, 160, choice)
    with pytest.raises(PlanError, match="neither none nor numbers"):
        choice_from_text("a,b")


def test_projections_count_every_stage_with_its_own_rows() -> None:
    """Short stages run fewer chunks over shorter caches; a ranking runs once, and not at all where nobody leaves."""
    names = [name for one in PYRAMID.stages for name in (one.prefill, one.decode, one.rank) if name]
    graphs = {name: GraphWork(macs={"linear": 100}, pair_macs=1, cache_bytes=1) for name in names}
    graphs |= {name: GraphWork() for name in ("head", "tower", "select")}
    found = {}
    for choice in (None, "none"):
        open_ = spec_of(
            *(stage(n, one.first, one.behind, rank=one.rank, keep=one.keep) for n, one in enumerate(PYRAMID.stages))
        )
        shapes = stage_shapes(open_, stage_rows(open_, 170, 160, choice))
        shape = RequestShape("1.0", "full", "select", "tower", 1.0, 1, 160, 170, 4, shapes)
        prefill = request_stages(32, graphs, shape, None)[2]
        found[choice] = [times for times, _ in prefill.runs]
        assert [one.rank for one in shapes] == ([None, "rank-1", "rank-2"] if choice is None else [None] * 3)
    assert found[None] == [6, 1, 3, 1, 1, 1] and found["none"] == [6, 6, 6, 1]
