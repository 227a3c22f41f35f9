"""Towers of vision-language models whose tokens leave between blocks: graphs equal transformers' blocks, all output methods run behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.errors import PlanError
from edgeprune.plan import MethodPlan
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.text import inside_from_texts
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.plan.harm import MEASURED, warnings
from edgeprune.tokens.methods import METHODS
from edgeprune_export.commands.export import export
from edgeprune_runtime import Bundle, Model
from tests.checkpoints import tiny_checkpoint
from tests.exports import DEEP, cut, exported, options

#: A class token and merged patches; neither class token nor merging; merged patches without class token; a distillation token.
FAMILIES: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"family": "internvl", "decoder": "qwen2", "vision_layers": 5}, "topk@1,2:0.7", "hired"),
    ({"family": "llava_onevision", "tied": True, "vision_layers": 5}, "received@1,2:0.7", "received"),
    ({"family": "smolvlm", "merge": 2, "tied": True, "vision_layers": 5}, "received@1,2:0.7", "divprune"),
    ({"family": "llava", "tower": "deit", "decoder": "llama", "vision_layers": 5}, "absorb@1,2:0.7", "prumerge"),
    ({"tower": "dinov2", "decoder": "qwen2", "vision_layers": 5}, "evit@1,2:0.7", "hiprune"),
)
#: Towers that turn by positions, on two grids, the second with features of early blocks for the decoder: whole merge groups leave.
GRIDS: tuple[tuple[dict[str, Any], str, str], ...] = (
    (
        {"family": "qwen2_vl", "sections": (1, 2, 5), "kv_heads": 1, "vocab": 512, "vision_layers": 4},
        "received@1,2:0.7",
        "received",
    ),
    (
        {"family": "qwen3_vl", "head_dim": 24, "sections": (3, 4, 5), "layers": 3, "vision_layers": 4}
        | {"deepstack": (0, 2, 3), "patches": 7, "kv_heads": 1},
        "received@1:0.7",
        "dart",
    ),
    ({"family": "qwen2_vl", "config": "both", "merge": 3, "sections": (4, 1, 3)}, "tower-uniform@0:0.5", "divprune"),
)


def seen(bundle: Any) -> None:
    """Exactly K tokens are kept, all of them candidates that are still there."""
    picture = np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    with Model.open(bundle, threads=1) as model:
        for selection in Bundle.open(bundle, verify=False).manifest.selections:
            if selection.tokens is None:
                view = model.see(picture, budget=selection.budget, method=selection.method)
                assert len(view.kept) == view.selection.keep
                assert (view.picture.slot.reshape(-1)[view.kept] >= 0).all()
                if selection.tower != "tower":
                    alive = model.vision.outputs(selection.tower)["alive"].reshape(-1)
                    assert (alive[view.kept] > 0).all()


@pytest.mark.parametrize("name", [name for name in INSIDE if isinstance(INSIDE[name], TowerMethod)])
def test_every_method_passes_the_gate_before_output_methods_of_every_kind(name: str) -> None:
    bundle = cut(name)
    manifest = Bundle.open(bundle, verify=False).manifest
    assert {s.tower for s in manifest.selections} == {f"tower-{name}"}
    checked = {check.name for check in manifest.parity.checks}
    assert {f"tower-{name}: {part}" for part in ("features", "alive", "owner")} <= checked
    seen(bundle)


def test_every_output_method_runs_behind_a_cut() -> None:
    names = [name for name in METHODS if METHODS[name].own_cuts is None and name != "full"]
    bundle = exported(
        DEEP, budgets=["0.2", "1.0"], plan={"method": names[0]}, more_methods=names[1:], inside=["topk@1:0.5"]
    )
    manifest = Bundle.open(bundle, verify=False).manifest
    assert {s.method for s in manifest.selections} == {*names, "full"}
    assert {s.tower for s in manifest.selections if s.whole} == {"tower"}, "budget 1.0 is the whole model"
    seen(bundle)


@pytest.mark.parametrize(("variant", "inside", "method"), FAMILIES)
def test_towers_of_every_family_that_can_be_cut_are(variant: dict[str, Any], inside: str, method: str) -> None:
    bundle = exported(variant, budgets=["0.1"], plan={"method": method}, inside=[inside])
    parity = Bundle.open(bundle, verify=False).manifest.parity
    assert parity.checks and all(check.passed for check in parity.checks)
    seen(bundle)


@pytest.mark.parametrize(("variant", "inside", "method"), GRIDS)
def test_each_grid_has_a_cut_tower_of_its_own(variant: dict[str, Any], inside: str, method: str) -> None:
    step = 8 * variant.get("merge", 2)
    sizes = ((4 * step, 4 * step), (2 * step, 6 * step))
    bundle = exported(variant, budgets=["0.2", "1.0"], plan={"method": method}, inside=[inside], sizes=sizes)
    manifest = Bundle.open(bundle, verify=False).manifest
    name = f"tower-{inside.partition('@')[0]}"
    assert manifest.parity.checks and all(check.passed for check in manifest.parity.checks)
    graphs = {graph.name for graph in manifest.graphs}
    assert {f"{name}-{high}x{wide}" for high, wide in sizes} <= graphs
    share = 0.7 ** len(inside.partition("@")[2].partition(":")[0].split(",")) if "0.7" in inside else 0.5
    with Model.open(bundle, threads=1) as model:
        for high, wide in sizes:
            view = model.see(np.random.default_rng(1).integers(0, 256, (high, wide, 3), dtype=np.uint8), budget="0.2")
            found = model.vision.outputs(name)
            units = (high // step) * (wide // step)
            alive = found["alive"][0] > 0
            assert units * share <= alive.sum() < units * share + 2, "a share of this grid"
            assert alive[view.kept].all() and (found["owner"][0] >= 0).sum() == alive.sum()
            assert not np.abs(found["features"][0])[~alive].any()


def test_merge_groups_leave_whole() -> None:
    bundle = exported(FAMILIES[0][0], budgets=["0.2"], plan={"method": "hired"}, inside=["topk@1,2:0.7"])
    picture = np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    with Model.open(bundle, threads=1) as model:
        model.see(picture)
        found = model.vision.outputs("tower-topk")
        alive = found["alive"][0]
        assert set(np.unique(alive)) == {0.0, 1.0}
        features = np.abs(found["features"][0]).reshape(len(alive), 4, -1).sum(axis=2) > 0
        assert (features == (alive > 0)[:, None]).all()
        assert (found["owner"][0] == np.where(alive > 0, np.arange(len(alive)), -1)).all()


def test_joined_tokens_know_whom_they_joined() -> None:
    bundle = cut("absorb")
    picture = np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    with Model.open(bundle, threads=1) as model:
        model.see(picture)
        found = model.vision.outputs("tower-absorb")
        owner, alive = found["owner"][0], found["alive"][0]
        assert (owner >= 0).all() and (alive[owner] > 0).all()
        assert (owner[alive > 0] == np.flatnonzero(alive > 0)).all()


def test_int8_is_held_too() -> None:
    bundle = exported(DEEP, budgets=["0.2"], precision="int8", plan={"method": "hired"}, inside=["topk@1,2:0.7"])
    assert all(check.passed for check in Bundle.open(bundle, verify=False).manifest.parity.checks)


@pytest.mark.parametrize(
    ("variant", "more", "words"),
    [
        (DEEP, {"inside": ["topk@4:0.5"]}, "cuts at block 4, behind which nothing is left to save; .* is 3"),
        (DEEP, {"inside": ["topk@1:0.1"], "budgets": ("0.5",)}, "leaves 4 of the 36 tokens of a tile, .* cut less"),
        (DEEP, {"inside": ["topk@1:0.5"], "plan": {"method": "flowcut"}}, "flowcut cuts the tower by its own counts"),
        (
            {"family": "internvl", "decoder": "qwen2"},
            {"inside": ["absorb@0:0.5"]},
            "moves single patches, and this model's connector merges 2 x 2",
        ),
        (
            {"family": "llava_onevision", "tied": True},
            {"inside": ["topk@0:0.5"], "plan": {"method": "received"}},
            "topk asks the class token, and the siglip tower has none",
        ),
        (
            {"family": "qwen2_5_vl", "config": "hub", "tied": True, "vision_layers": 4, "full_blocks": (0, 2)},
            {"inside": ["received@0:0.5"], "plan": {"method": "divprune"}},
            "attend inside windows",
        ),
        (
            {"family": "qwen2_vl", "sections": (1, 2, 5), "kv_heads": 1, "vocab": 512, "vision_layers": 4},
            {"inside": ["received@1:10"], "plan": {"method": "divprune"}, "sizes": ((64, 64), (16, 32))},
            "would leave 10 of the 2 tokens of a picture of 16x32 pixels that arrive at block 1",
        ),
        (  # of a grid of four tiles a budget keeps more than of that is left, of the largest grid it does not
            {"family": "smolvlm", "merge": 2, "tied": True, "vision_layers": 5},
            {"inside": ["received@1,2:0.7"], "plan": {"method": "divprune"}},
            "leaves 5 of the 9 tokens of a tile, 20 of a picture of 4 tiles, and budget 0.2 keeps 31 of it",
        ),
        (
            {"family": "qwen2_vl", "sections": (1, 2, 5), "kv_heads": 1, "vocab": 512, "vision_layers": 4},
            {
                "inside": ["received@1:0.5"],
                "plan": {"method": "divprune"},
                "sizes": ((64, 64), (32, 64)),
                "budgets": ("6",),
            },
            "leaves 4 of the 8 tokens of a tile, 4 of a picture of one tile, and budget 6 keeps 6 of it",
        ),
        (
            {"family": "qwen2_vl", "sections": (1, 2, 5), "kv_heads": 1, "vocab": 512, "vision_layers": 4},
            {"inside": ["absorb@1:0.5"], "plan": {"method": "divprune"}},
            "moves single patches, and this model's connector merges 2 x 2",
        ),
    ],
)
def test_what_a_tower_cannot_do_is_one_sentence_before_any_work(
    tmp_path: Any, variant: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(PlanError, match=words):
        export(tiny_checkpoint(**variant), tmp_path / "bundle", options(**({"budgets": ("0.2",)} | more)))
    assert not (tmp_path / "bundle").exists()


def test_numbers_of_harm_are_those_of_the_page_that_a_command_prints() -> None:
    page = (Path(__file__).parents[2] / "docs/measurements/inside-language.md").read_text(encoding="utf-8")
    rows = {cells[1]: cells for line in page.splitlines() if len(cells := [c.strip() for c in line.split("|")]) == 9}
    for question, measured in MEASURED.items():
        first, of_first, second, of_second = (-float(cell.split()[0]) for cell in rows[question][3:7])
        assert measured == ((first, second), (of_first, of_second)), question


@pytest.mark.parametrize(
    ("inside", "methods", "words"),
    [
        (["topk@1:0.5"], ["hired"], ["cost the tower's own order -0.3 points .numbers 7.8. on one model and 7.1"]),
        (
            ["topk@1:0.5"],
            ["hired", "divprune"],
            [
                "thins out what divprune would choose among: .* 2 points .numbers 10.7. on one model and 10.7",
                "the tower's own order",
            ],
        ),
        (
            ["absorb@1:0.5"],
            ["hired"],
            ["the tower's own order", "absorb mixes patches, .* 20 points by joining and 12 by dropping"],
        ),
        ([], ["divprune"], []),
    ],
)
def test_what_is_known_to_harm_is_said_with_numbers(inside: list[str], methods: list[str], words: list[str]) -> None:
    said = warnings(inside_from_texts(inside), [METHODS[name] for name in methods], MethodPlan(4, 5))
    assert len(said) == len(words)
    for sentence, expected in zip(said, words, strict=True):
        assert re.search(expected, sentence)
