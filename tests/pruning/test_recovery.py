"""Recovery lowers the distance to the unpruned model, and goes on after a break to the very same end."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from edgeprune.errors import PlanError
from edgeprune.structure.plan import BlockPlan, StructurePlan
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.shrink import shrink
from edgeprune.structure.targets import PruneTarget
from edgeprune_export.bundle.progress import silent
from edgeprune_export.pruning import recover as module
from edgeprune_export.pruning.options import PruneOptions, Recovery
from edgeprune_export.pruning.prunable import batches
from edgeprune_export.pruning.prune import prune
from edgeprune_export.pruning.recover import distance, recover
from edgeprune_export.pruning.vlm import PrunableVlm
from edgeprune_runtime.errors import ExportError
from tests.checkpoints import tiny_checkpoint
from tests.pruning.made import QWEN, SOME, blocks_of, pictures, prunable_of, random_plan

pytestmark = pytest.mark.slow

HOW = Recovery(steps=6, batch=2, rate=3e-3, seed=3)
WAYS = pytest.mark.parametrize("lora", [None, 2], ids=["all weights", "lora"])


class Broken(Exception):
    """The machine is switched off."""


@contextmanager
def broken_after(steps: int, total: int) -> Iterator[Callable[[], None]]:
    seen = iter(range(steps - 1))

    def advance() -> None:
        if next(seen, None) is None:
            raise Broken

    yield advance


def how(lora: int | None, **changes: float) -> Recovery:
    return Recovery(**({**{f: getattr(HOW, f) for f in ("steps", "batch", "rate", "seed")}, "lora": lora} | changes))  # type: ignore[arg-type]


def small(prunable: PrunableVlm, seed: int = 0) -> tuple[nn.Module, StructurePlan]:
    """Half of what the tower and the language model have; of two seeds other units of the same number."""
    plan = {}
    for part, blocks in random_plan(prunable, 0, drop=False).blocks.items():
        spec = prunable.specs[part][0]
        plan[part] = tuple(BlockPlan(b.block, (0, 1), tuple(range(seed, spec.mlp, 2))) for b in blocks)
    return shrink(prunable.module, prunable.specs, StructurePlan(plan)), StructurePlan(plan)


@torch.no_grad()
def apart(prunable: PrunableVlm, student: nn.Module) -> float:
    """Mean over the samples of the loss that recovery lowers."""
    found = [
        distance(prunable.features(student, batch), prunable.features(prunable.module, batch), HOW)
        for batch in batches(prunable)
    ]
    return float(torch.stack(found).mean())


@functools.cache
def straight_through(lora: int | None) -> dict[str, Tensor]:
    """What an unbroken run of `how(lora)` ends with."""
    with tempfile.TemporaryDirectory() as folder:
        return recovered(Path(folder) / "state", how(lora))


def recovered(state: Path, settings: Recovery, track: object = silent, seed: int = 0) -> dict[str, Tensor]:
    prunable = prunable_of(SOME[0])
    smaller, plan = small(prunable, seed)
    return recover(prunable, smaller, plan, settings, state, track).state_dict()  # type: ignore[arg-type]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@WAYS
@pytest.mark.parametrize("variant", [*SOME[:2], QWEN[1], QWEN[2]], ids=["clip", "dinov2", "qwen2_5_vl", "qwen3_vl"])
def test_a_few_steps_lower_the_distance_to_the_unpruned_model(
    variant: dict[str, Any], lora: int | None, tmp_path: Path
) -> None:
    prunable = prunable_of(variant)
    smaller, plan = small(prunable)
    before = {name: value.clone() for name, value in smaller.state_dict().items()}
    far = apart(prunable, smaller)
    student = recover(prunable, smaller, plan, how(lora, steps=12), tmp_path / "state", silent)
    assert apart(prunable, student) < 0.9 * far
    after = student.state_dict()
    assert after.keys() == before.keys() and all(after[name].shape == value.shape for name, value in before.items())
    assert not any(p.requires_grad for p in student.parameters()) and not student.training
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    others = ("projector", "merger", "embed", "lm_head")
    assert moved and not any(other in name for name in moved for other in others)
    assert {"vision_tower" in name or ".visual." in name for name in moved} == {True, False}
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_pruned_learns(tmp_path: Path) -> None:
    for lora in (None, 2):
        prunable = prunable_of(SOME[0])
        _, plan = small(prunable)
        tower = StructurePlan({"tower": plan.blocks["tower"]})
        smaller = shrink(prunable.module, prunable.specs, tower)
        before = {name: value.clone() for name, value in smaller.state_dict().items()}
        after = recover(prunable, smaller, tower, how(lora, steps=2), tmp_path / "state", silent).state_dict()
        moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
        later = f".{len(tower.blocks['tower'])}."
        assert moved and all("vision_tower" in name and later not in name for name in moved)
        assert len(blocks_of(prunable.module, "tower")) == len(tower.blocks["tower"]) + 1


def test_the_distance_is_the_softened_divergence_and_the_features_own() -> None:
    generator = torch.Generator().manual_seed(0)
    f, g, x, y = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(4))
    settings = Recovery(temperature=2.0, features=0.5)
    p, q = (log_softmax(logits / 2, -1) for logits in (y, x))
    kl = sum(float(torch.exp(a) * (a - b)) for a, b in zip(p.flatten(), q.flatten(), strict=True)) / 3
    near = float((f - g).square().mean() / g.square().mean())
    assert float(distance((f, x), (g, y), settings)) == pytest.approx(4 * kl + 0.5 * near, rel=1e-9)
    assert float(distance((g, y), (g, y), settings)) == pytest.approx(0, abs=1e-12)


@WAYS
@pytest.mark.parametrize("steps", [2, 5])
def test_an_interrupted_run_goes_on_to_the_same_end(
    lora: int | None, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY", 2)
    torch.set_num_threads(1)
    state = tmp_path / "state"
    straight = straight_through(lora)
    with pytest.raises(Broken):
        recovered(state, how(lora), lambda title, total: broken_after(steps, total))
    assert state.is_file(), "something to go on from"
    done: list[int] = []
    real = module._step
    monkeypatch.setattr(module, "_step", lambda *a: (done.append(a[3]), real(*a))[1])
    assert equal(recovered(state, how(lora)), straight)
    assert done == list(range(steps - steps % 2, 6)), "only what was missing"
    assert not state.exists()


@pytest.mark.parametrize(
    ("lora", "change"), [*((None, change) for change in ("steps", "rate", "seed", "batch", "units")), (2, "units")]
)
def test_other_settings_and_other_units_begin_anew(
    lora: int | None, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where other units were chosen and all shapes are the same: their weights are not those of the state."""
    monkeypatch.setattr(module, "_SAVE_EVERY", 2)
    state = tmp_path / "state"
    other = how(
        lora, **{change: {"steps": 4, "rate": 1e-3, "seed": 4, "batch": 1}.get(change, 0)} if change != "units" else {}
    )
    seed = int(change == "units")
    straight = recovered(tmp_path / "unbroken", other, seed=seed)
    with pytest.raises(Broken):
        recovered(state, how(lora), lambda title, total: broken_after(3, total))
    assert equal(recovered(state, other, seed=seed), straight)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 64])
def test_a_torn_state_is_named_with_what_to_do(damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY", 2)
    state = tmp_path / "state"
    with pytest.raises(Broken):
        recovered(state, HOW, lambda title, total: broken_after(3, total))
    whole = state.read_bytes()
    for content in (damage, whole[: len(whole) // 2]):
        state.write_bytes(content)
        with pytest.raises(ExportError, match=r"state cannot be read .*; remove it to begin the recovery anew"):
            recovered(state, HOW)


def test_without_peft_lora_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(PlanError, match=r"needs peft.*`pip install 'peft>=0.15'`"):
        recovered(tmp_path / "state", how(2))
    recovered(tmp_path / "state", how(None, steps=1))


def test_a_recovery_that_diverges_is_given_up(tmp_path: Path) -> None:
    prunable = prunable_of(SOME[0])
    smaller, plan = small(prunable)
    next(smaller.parameters()).data.fill_(float("nan"))
    with pytest.raises(ExportError, match="recovery diverged at step 0.*smaller --rate"):
        recover(prunable, smaller, plan, HOW, tmp_path / "state", silent)


@WAYS
def test_a_recovered_checkpoint_says_so_and_a_break_keeps_the_state_alone(
    lora: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY", 2)
    source, out = tiny_checkpoint(**SOME[0]), tmp_path / "out"
    settings = how(lora, steps=4)
    requests = {"tower": StructureRequest(PruneTarget("params", 0.7), "magnitude", align=8)}
    options = PruneOptions(requests, images=pictures(), pictures=2, recovery=settings)  # type: ignore[arg-type]

    def breaking(title: str, total: int) -> object:
        return broken_after(3, total) if title == "recovering" else silent(title, total)

    with pytest.raises(Broken):
        prune(source, out, options, track=breaking)  # type: ignore[arg-type]
    (state,) = tmp_path.iterdir()
    assert state.name.startswith(".out.recovery-") and state.suffix == ".safetensors"
    record = prune(source, out, options)
    assert record.recovery is not None and record.recovery["steps"] == 4 and record.recovery["lora"] == lora
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    prune(source, tmp_path / "straight", options)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "straight"))
    assert one == other
