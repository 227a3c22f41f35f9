"""From what the user asks to one K per graph and one capacity; what cannot be done is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeprune.models import open_checkpoint
from edgeprune.models.spec import ModelSpec
from edgeprune_export.bundle.options import capacity, packed_max, selections
from edgeprune_export.commands.export import export
from edgeprune_runtime.errors import CheckpointError, EdgepruneError, PlanError
from edgeprune_runtime.pictures.tiling import Anyres
from edgeprune_runtime.spec import TokenPlan
from tests.checkpoints import own_copy, tiny_checkpoint
from tests.exports import options


@pytest.fixture(scope="module")
def model() -> ModelSpec:
    return open_checkpoint(tiny_checkpoint()).spec


def chosen(model: ModelSpec, *budgets: str, **asked: Any) -> list[tuple[str, str, int, int | None]]:
    made = options(budgets, **asked | {"plan": {"method": "hired"} | asked.get("plan", {})})
    return [(s.budget, s.method, s.keep, s.tokens) for s in selections(made, model.picture)]


def test_a_ratio_counts_from_the_largest_grid(model: ModelSpec) -> None:
    assert model.picture.candidates_max == 180 and model.picture.token_counts == (36, 108, 180)
    assert chosen(model, "0.2", "40") == [("0.2", "hired", 36, None), ("40", "hired", 40, None)]


def test_a_ratio_of_the_picture_has_one_k_per_tile_count(model: ModelSpec) -> None:
    found = chosen(model, "0.2", "40", plan={"budget_of": "picture"})
    assert found == [
        ("0.2", "hired", 7, 36),
        ("0.2", "hired", 22, 108),
        ("0.2", "hired", 36, 180),
        ("40", "hired", 40, None),
    ]


def test_the_whole_budget_keeps_every_token_of_each_tile_count_and_has_no_controls(model: ModelSpec) -> None:
    assert chosen(model, "1", controls=True) == [
        ("1.0", "full", 36, 36),
        ("1.0", "full", 108, 108),
        ("1.0", "full", 180, 180),
    ]


def test_controls_come_at_the_same_k(model: ModelSpec) -> None:
    found = chosen(model, "0.5", controls=True)
    assert [method for _, method, _, _ in found] == ["hired", "random", "uniform", "downsample"]
    assert {keep for _, _, keep, _ in found} == {90}
    own = chosen(model, "0.5", controls=True, plan={"method": "random"})
    assert [method for _, method, _, _ in own] == ["random", "uniform", "downsample"]


def test_a_budget_given_twice_counts_once(model: ModelSpec) -> None:
    assert chosen(model, "0.2", ".20", "0.2") == chosen(model, "0.2")


def test_fewer_tiles_mean_smaller_numbers(model: ModelSpec) -> None:
    few = open_checkpoint(tiny_checkpoint(), tiles=2).spec
    assert few.picture.tiling == Anyres(((48, 96), (96, 48))) and few.picture.candidates_max == 108
    assert chosen(few, "0.2", "1.0") == [
        ("0.2", "hired", 22, None),
        ("1.0", "full", 36, 36),
        ("1.0", "full", 108, 108),
    ]
    one = open_checkpoint(tiny_checkpoint(), tiles=0).spec
    assert chosen(one, "1.0") == [("1.0", "full", 36, 36)] and packed_max(one.picture, 36) < packed_max(few.picture, 36)
    assert open_checkpoint(tiny_checkpoint(), tiles=99).spec == model


@pytest.mark.parametrize("count", ["180", "181", "9999"])
def test_a_count_that_never_binds_is_refused(model: ModelSpec, count: str) -> None:
    with pytest.raises(PlanError, match="at most 180 visual tokens; use 1.0"):
        chosen(model, count)


def test_capacity_holds_the_longest_prompt_and_is_a_multiple_of_the_chunk(model: ModelSpec) -> None:
    assert packed_max(model.picture, 180) == 192
    for budget, text, size in (("1.0", 64, 256), ("1.0", 65, 288), ("0.2", 16, 64), ("0.2", 17, 96)):
        made = options((budget,), text_tokens=text, plan={"method": "hired"})
        assert capacity(made, selections(made, model.picture), model) == size


def test_a_capacity_without_room_for_text_is_refused_with_one_that_works(model: ModelSpec) -> None:
    made = options(("0.5",), capacity=100, plan={"method": "hired"})
    picked = selections(made, model.picture)
    with pytest.raises(PlanError, match="at least 134"):
        capacity(made, picked, model)
    assert capacity(options(("0.5",), capacity=134), picked, model) == 160


def test_llava_1_5_has_one_tile_and_no_newlines() -> None:
    spec = open_checkpoint(tiny_checkpoint(family="llava", tower="vit", names="old", tied=True)).spec
    assert len(spec.picture.token_counts) == 1
    assert packed_max(spec.picture, 36) == 36
    assert chosen(spec, "0.5", "1.0") == [("0.5", "hired", 18, None), ("1.0", "full", 36, 36)]


def test_a_sliding_window_shorter_than_the_cache_is_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(decoder="mistral", sliding_window=128)
    with pytest.raises(PlanError, match="attends to 128 positions only, the bundle needs 256"):
        export(folder, tmp_path / "bundle", options(("1.0",), parity=False))
    assert list(tmp_path.iterdir()) == []
    fits = options(("0.2",), capacity=128, plan={"method": "hired"})
    spec = open_checkpoint(folder).spec
    assert capacity(fits, selections(fits, spec.picture), spec) == 128


@pytest.mark.parametrize(
    "asked",
    [
        {"plan": {"method": "magic"}},
        {"plan": {"settings": {"early_layer": 2}}},
        {"budgets": ("9999",)},
        {"capacity": 10},
        {"budgets": ()},
        {"chunk": 0},
        {"text_tokens": 0},
        {"tiles": -1},
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_and_nothing_is_left(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError) as caught:
        export(tiny_checkpoint(), tmp_path / "deep" / "bundle", options(parity=False, **asked))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(), tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="cut short"):
        export(folder, tmp_path / "bundle", options(parity=False))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_weights_that_are_no_numbers_leave_nothing(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = own_copy(tiny_checkpoint(), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["language_model.model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="up_proj|layers.1.up"):
        export(folder, tmp_path / "bundle", options(parity=False))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_the_plan_of_the_bundle_is_the_plan_that_was_asked_for(tiny_bundle: Path) -> None:
    from edgeprune_runtime import Bundle

    manifest = Bundle.open(tiny_bundle, verify=False).manifest
    assert manifest.plan == TokenPlan("hired", {}, "keep", "all", "largest") == TokenPlan("hired")
    tower = next(graph for graph in manifest.graphs if graph.name == "tower")
    assert [spec.name for spec in tower.outputs] == ["attention_0", "attention_1", "features"]
    assert manifest.provenance.versions["onnxruntime"] and manifest.provenance.command
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(manifest.provenance.source_sha256)
    assert all(len(digest) == 64 for digest in manifest.provenance.source_sha256.values())


@pytest.mark.parametrize(("positions", "parity"), [(10**12, False), (10**12, True), (1 << 23, True)])
def test_a_cache_that_cannot_be_held_is_refused_before_any_work(
    model: ModelSpec, positions: int, parity: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the gate a bundle may be made for a larger machine."""
    from edgeprune_export.bundle import options as module

    monkeypatch.setattr(module, "memory_at_hand", lambda: 1 << 30)
    asked = options(("0.2",), capacity=positions, parity=parity, plan={"method": "hired"})
    with pytest.raises(PlanError, match=f"a cache of {positions} positions takes .* smaller --capacity"):
        capacity(asked, selections(asked, model.picture), model)
    larger = options(("0.2",), capacity=1 << 23, parity=False, plan={"method": "hired"})
    assert capacity(larger, selections(larger, model.picture), model) == 1 << 23
