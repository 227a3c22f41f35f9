"""The gate passes on every family, and finds a graph that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprune.models import Checkpoint, open_checkpoint
from edgeprune.plan import MethodPlan
from edgeprune.tokens.registry.fit import method_plan
from edgeprune_export.commands.export import export
from edgeprune_export.gate import checks
from edgeprune_export.gate.parity import cases, check_parity
from edgeprune_runtime import Bundle
from edgeprune_runtime.errors import CheckpointError, ParityError
from tests.checkpoints import tiny_checkpoint, variant_name
from tests.exports import GATED, exported, options, own_bundle

IDS = [variant_name(variant) for variant, _ in GATED]


@pytest.mark.parametrize(("variant", "plan"), GATED, ids=IDS)
def test_the_gate_passes_and_its_report_is_sealed(variant: dict[str, Any], plan: dict[str, Any]) -> None:
    bundle = Bundle.open(exported(variant, plan=plan))
    report, manifest = bundle.manifest.parity, bundle.manifest
    assert report.skipped is None and report.pictures == 2 and "transformers" in report.reference
    assert report.checks and all(check.passed for check in report.checks)
    assert all((c.value <= c.limit) if c.rule == "at most" else (c.value >= c.limit) for c in report.checks)
    for budget in ("0.2", "1.0"):
        about = {check.name.split(":")[-1].strip() for check in report.checks if check.budget == budget}
        assert any(name.startswith("greedy text of") for name in about)
        assert about >= {"logits", "projected tokens", "indices equal the method's"}
    for field, value in plan.items():
        assert getattr(manifest.plan, field) == value
    assert manifest.family == variant.get("family", "llava_next")


def test_between_them_the_gated_exports_cover_every_family() -> None:
    def values(key: str, default: Any = None) -> set[Any]:
        return {variant.get(key, default) for variant, _ in GATED}

    assert values("tower") == {"clip", "vit", "dinov2", "deit", "siglip"}
    assert values("decoder") == {"llama", "mistral", "qwen2"}
    assert values("rope", "default") == {"default", "linear", "llama3", "yarn"}
    assert values("names") == {"old", "new", "hub"} and values("family", "llava_next") == {"llava_next", "llava"}
    for flag in ("tied", "multi_head", "attention_bias", "swiglu"):
        assert values(flag, False) == {False, True}
    assert {plan.get("positions", "keep") for _, plan in GATED} == {"keep", "renumber"}
    assert {plan.get("separators", "all") for _, plan in GATED} == {"all", "rows", "none"}
    assert {plan.get("budget_of", "largest") for _, plan in GATED} == {"largest", "picture"}


def test_deit_is_answered_as_transformers_does_or_refused(tmp_path: Path) -> None:
    """Its distillation token reaches the connector in transformers: a bundle without it would be silently wrong."""
    folder = tiny_checkpoint(family="llava", tower="deit", decoder="qwen2")
    try:
        bundle = export(folder, tmp_path / "bundle", options(("0.5", "1.0")))
    except CheckpointError as error:
        assert "deit" in str(error).lower()
        assert list(tmp_path.iterdir()) == []
    else:
        full = [s.keep for s in bundle.manifest.selections if s.whole]
        assert full == [bundle.manifest.picture.tile.patches**2 + 1]


def test_a_gate_that_did_not_run_is_recorded(tiny_bundle: Path) -> None:
    report = Bundle.open(tiny_bundle, verify=False).manifest.parity
    assert report.skipped == "switched off by --no-parity" and report.checks == ()


def test_steps_are_announced_as_they_are_taken() -> None:
    bundle = Bundle.open(exported(GATED[0][0], plan=GATED[0][1]), verify=False)
    taken: list[None] = []
    checkpoint = open_checkpoint(tiny_checkpoint(**GATED[0][0]))
    check_parity(bundle, checkpoint, plan_of(bundle, checkpoint), lambda: taken.append(None))
    assert len(taken) == cases(bundle.manifest.picture, bundle.manifest.selections)


# ------------------------------------------------------------------------------------------------- what the gate finds


def plan_of(bundle: Bundle, checkpoint: Checkpoint) -> MethodPlan:
    return method_plan(bundle.manifest.plan, checkpoint.spec)


def place_of(bundle: Path, tensor: str) -> tuple[int, int]:
    """(offset, bytes) of a tensor in the weights file, as the graphs refer to it."""
    for path in bundle.glob("*.onnx"):
        for found in onnx.load(path, load_external_data=False).graph.initializer:
            if found.name == tensor:
                entries = {entry.key: entry.value for entry in found.external_data}
                return int(entries["offset"]), int(entries["length"])
    raise AssertionError(f"no graph refers to {tensor}")


def spoil(bundle: Path, tensor: str) -> None:
    """Change every 50th number of one tensor."""
    offset, size = place_of(bundle, tensor)
    weights = np.memmap(bundle / "weights.bin", np.uint8, "r+")
    values = weights[offset : offset + size].view(np.float32)
    values[::50] += 0.5
    weights.flush()


@pytest.mark.parametrize(
    ("tensor", "where"),
    [
        ("tower.position", "tower: "),
        ("tower.1.fc2.weight", "tower: features"),
        ("connector.2.bias", "select-hired-k36: projected tokens at budget 0.2"),
        ("rotary.sin", "prefill and head: logits"),
        ("layers.1.down.weight", "prefill and head: logits"),
        ("layers.0.qkv.bias", "prefill and head: logits"),
        ("norm.weight", "prefill and head: logits"),
    ],
)
def test_a_changed_weight_is_found_and_its_graph_named(tensor: str, where: str, tmp_path: Path) -> None:
    variant, plan = GATED[0]
    bundle = own_bundle(exported(variant, plan=plan), tmp_path)
    spoil(bundle, tensor)
    with pytest.raises(ParityError) as caught:
        opened = Bundle(bundle, Bundle.open(bundle, verify=False).manifest)
        checkpoint = open_checkpoint(tiny_checkpoint(**variant))
        check_parity(opened, checkpoint, plan_of(opened, checkpoint), lambda: None)
    assert f"differ in {where}" in str(caught.value)
    assert "nothing was sealed" in str(caught.value)


def test_a_failed_gate_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = checks.ParityLimits(
        pixels=1e-5, attention=1e-3, features=0.0, kept=1.0, visual=1e-3, logits=5e-3, greedy=5e-3
    )
    monkeypatch.setitem(checks.LIMITS, "fp32", strict)
    with pytest.raises(ParityError, match="tower: features.*--no-parity"):
        export(tiny_checkpoint(), tmp_path / "bundle", options(("40",), plan={"method": "random"}))
    assert list(tmp_path.iterdir()) == []


def test_int8_is_exported_and_its_gate_sealed() -> None:
    bundle = Bundle.open(exported(budgets=["0.2"], precision="int8"))
    report = bundle.manifest.parity
    assert bundle.manifest.precision == "int8"
    assert report.skipped is None and all(check.passed for check in report.checks)
    assert {"prefill and head: logits", "tower: features"} <= {check.name for check in report.checks}
    whole = Bundle.open(exported(budgets=["0.2", "0.5", "40", "1.0"], parity=False, controls=True), verify=False)
    assert bundle.graph("prefill").weight_bytes < 0.5 * whole.graph("prefill").weight_bytes
