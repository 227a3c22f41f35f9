"""What a search judges is what an export of the same plan answers: token for token, in every part in which tokens leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.models import open_checkpoint
from edgeprune.plan import budget_from_text
from edgeprune.schedules.methods import searched_methods
from edgeprune.schedules.plan import SchedulePlan
from edgeprune.tokens.inside.text import inside_from_texts
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.commands.export import export
from edgeprune_export.pruning.samples import CalibrationSample
from edgeprune_export.searching.vlm import VlmProblem
from edgeprune_runtime import Model
from edgeprune_runtime.spec import TokenPlan
from tests.checkpoints import tiny_checkpoint

QUESTION = "What is in the picture?"
CASES: tuple[tuple[dict[str, Any], str, tuple[str, ...]], ...] = (
    (
        {"tower": "clip", "decoder": "llama", "vision_layers": 5, "layers": 4},
        "hired",
        ("topk@1:0.7", "pdrop@1,3:0.6,0.2"),
    ),
    ({"tower": "vit", "decoder": "qwen2", "layers": 4}, "cdpruner", ("encoder@2:0.5",)),
    ({"family": "qwen2_vl", "sections": (1, 2, 5), "layers": 4}, "divprune", ("fastv@2:0.5",)),
)


@pytest.mark.parametrize(("recipe", "method", "inside"), CASES, ids=["all-parts", "question", "three-axes"])
def test_a_plan_says_the_same_tokens_as_its_bundle(
    recipe: dict[str, Any], method: str, inside: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tiny_checkpoint(**recipe)
    picture = tmp_path / "picture.png"
    coarse = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((90, 60)).save(picture)
    base = ExportOptions((budget_from_text("0.5"),), TokenPlan(method), chunk=32, controls=False, parity=False)
    plan = SchedulePlan(inside_from_texts(inside), budget_from_text("0.6"))
    names = tuple(text.partition("@")[0] for text in inside)
    problem = VlmProblem(
        open_checkpoint(folder), searched_methods(names, ()), base, [CalibrationSample(picture, QUESTION)], "kl"
    )
    problem.load()
    assert problem._run is not None
    planned = problem._export(plan)
    asked = problem._run.asked(0, picture, QUESTION)
    said = problem._run.greedy(asked, planned, 6)
    with Model(export(folder, tmp_path / "bundle", planned.options)) as model:
        answer = model.ask(QUESTION, image=picture, max_tokens=6)
    assert list(answer.token_ids) == said
    (whole,) = problem.judge(SchedulePlan((), budget_from_text("1.0")), [0])
    (cut,) = problem.judge(plan, [0])
    assert whole.cost == 0 and whole.right == 1 and cut.cost > 0
