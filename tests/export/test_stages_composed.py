"""Rows that leave inside the language model beside everything else: pruned structure, int8, several pictures, cut towers, shapes of today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.structure.request import StructureRequest
from edgeprune.structure.targets import target_from_text
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.commands.export import export
from edgeprune_export.pruning.options import PruneOptions
from edgeprune_export.pruning.prune import prune
from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.stages.counts import choices
from edgeprune_runtime.stages.recycled import recycled
from tests.checkpoints import tiny_checkpoint
from tests.exports import exported, options
from tools.checkpoints.recipe import Recipe
from tools.checkpoints.write import make_checkpoint
from tools.make_selftest_bundle import BUDGETS, BUNDLE, RECIPE

LLAVA: dict[str, Any] = {"tower": "clip", "decoder": "qwen2", "layers": 4}


def picture(seed: int = 0, size: tuple[int, int] = (300, 500)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def passed(bundle: Bundle) -> set[str]:
    """Names of the gate's checks, all of which passed."""
    checks = bundle.manifest.parity.checks
    assert all(check.passed for check in checks)
    return {check.name for check in checks}


def test_one_stage_is_the_graphs_that_were_there_before(tmp_path: Path) -> None:
    """The bundle of `edgeprune selftest` was exported when there were no stages."""
    make_checkpoint(tmp_path / "selftest", Recipe(**RECIPE))
    export(
        tmp_path / "selftest",
        tmp_path / "bundle",
        ExportOptions(BUDGETS, chunk=32, text_tokens=64, controls=False, parity=False),
    )
    for name in ("prefill.onnx", "decode.onnx", "head.onnx"):
        assert (tmp_path / "bundle" / name).read_bytes() == (BUNDLE / name).read_bytes()


@pytest.mark.parametrize("inside", ["pdrop@1,3:0.5,6", "transprune@1,2:0.5,6", "lvlm-csp@0,1,3:0.25,1,6"])
def test_int8_models_are_held_to_their_own_lists(inside: str) -> None:
    bundle = exported(LLAVA, budgets=("0.5", "1.0"), precision="int8", inside=[inside])
    assert any(name.endswith("rows equal the method's") for name in passed(Bundle.open(bundle, verify=False)))


@pytest.mark.parametrize("inside", ["pdrop@1,2:0.5,6", "corematching@1:0.5", "transprune@1,2:0.5,6"])
def test_widths_of_a_pruned_model_are_those_of_its_stages(tmp_path: Path, inside: str) -> None:
    asked = {"language": StructureRequest(target_from_text("macs=0.8"), importance="random", align=8)}
    prune(tiny_checkpoint(**LLAVA), tmp_path / "smaller", PruneOptions(asked, compensate=False))
    bundle = export(tmp_path / "smaller", tmp_path / "bundle", options(("0.5", "1.0"), inside=[inside]))
    assert "prefill and head: logits, rows leaving" in passed(bundle)


def test_a_cut_tower_and_cuts_in_the_language_model_go_together() -> None:
    variant = LLAVA | {"vision_layers": 5}
    bundle = exported(variant, budgets=("0.1",), inside=["topk@1:0.6", "pdrop@1,3:0.5,6"])
    assert "rank-2-pdrop: rows of the library's layers go on" in passed(Bundle.open(bundle, verify=False))


@pytest.mark.parametrize("inside", ["pdrop@1,3:0.5,0.25", "lvlm-csp@0,1,3:0.25,1,0.2", "sparsevlm@1:0.5"])
def test_several_pictures_share_one_count(inside: str) -> None:
    bundle = exported(LLAVA, budgets=("0.5",), inside=[inside], pictures=2, parity=False)
    question = "First <image>, then <image>. What changed?"
    with Model.open(bundle, threads=1) as model:
        asked = model.ask(question, image=[picture(0), picture(1)], max_tokens=4, stop=False)
        stages = model.bundle.manifest.language.stages
        behind = dict(zip(choices(model.bundle.manifest.language), asked.inside, strict=True))
        for number, left in behind.items():
            stay = stages[number].stay(asked.visual_tokens)
            assert left == stay + (recycled(asked.visual_tokens - stay) if stages[number].recycles else 0)
        rows = model.language.rows_behind_cuts()[-1]
        fixed = asked.prompt_tokens - asked.visual_tokens
        assert len(rows) == fixed + asked.inside[-1] and rows[-1] == asked.prompt_tokens - 1
        again = model.ask(question, image=[picture(0), picture(1)], max_tokens=4, stop=False)
        assert again.token_ids == asked.token_ids and again.cached_tokens > 0
