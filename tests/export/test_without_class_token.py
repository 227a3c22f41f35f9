"""SigLIP has no class token: methods that need one are refused before any work, all others work as with any tower."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.errors import PlanError
from edgeprune.plan import MethodPlan
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.readings import Read, union
from edgeprune_export.commands import export as exporting
from edgeprune_export.commands.export import export
from edgeprune_runtime import Bundle
from tests.checkpoints import tiny_checkpoint
from tests.commands import complaint
from tests.exports import exported, options

LAYERS = MethodPlan(feature_layer=2, last_layer=2, class_token=False)
NEEDING = [name for name in METHODS if "class token" in METHODS[name].reads(LAYERS).needs]
FITTING = [name for name in METHODS if name not in NEEDING]
SIGLIP = {"family": "llava", "tower": "siglip"}


@pytest.mark.parametrize("family", ["llava", "llava_next"])
@pytest.mark.parametrize("method", NEEDING)
def test_a_method_that_reads_the_class_token_is_refused_before_any_work(
    method: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "staging", lambda *_, **__: pytest.fail("work was begun"))
    folder = tiny_checkpoint(family=family, tower="siglip")
    with pytest.raises(PlanError) as caught:
        export(folder, tmp_path / "bundle", options(plan={"method": method}))
    found, why, _, fitting, _ = _parts(str(caught.value))
    assert found == f"method {method} does not fit this model"
    assert why == "it reads the class token, and the siglip tower has none"
    assert set(fitting.split(", ")) == set(FITTING)
    assert {"divprune", "dart", "fopru", "hiprune", "received", "mmtok", "vflowopt", "uniform", "full"} <= set(FITTING)
    assert {"visionzip", "vispruner"} <= set(FITTING), "attention received ranks there"
    assert {"hired", "prumerge", "todre", "recoverable", "flowcut"} <= set(NEEDING)
    assert list(tmp_path.iterdir()) == []


def _parts(message: str) -> list[str]:
    """found, why, "methods that fit", names, what to do."""
    found, why, rest = message.split(": ", 1)[0], *message.split(": ", 1)[1].split("; ", 1)
    title, names = rest.split(": ", 1)
    return [found, why, title, *names.split("; ", 1)]


def test_the_default_method_is_refused_in_one_line_that_says_what_to_type(tmp_path: Path) -> None:
    line = complaint("export", tiny_checkpoint(**SIGLIP), "--budget", "0.2", "--out", tmp_path / "bundle")
    assert "method hired does not fit this model" in line and "divprune" in line
    assert line.endswith("choose one, as in --method divprune")


def test_everything_that_the_other_methods_read_passes_the_gate() -> None:
    chosen, settings = ["vflowopt", "mmtok", "visionzip", "vispruner"], {"entropy_weight": 1.0}
    plan = replace(LAYERS, settings=settings)
    read = union(METHODS[name].reads(plan) for name in chosen)
    every = union(METHODS[name].reads(plan) for name in FITTING)
    assert kinds(read) == kinds(every) >= {"map", "received", "keys", "projected", "question", "entropy"}
    asked = {"method": chosen[0], "settings": settings}
    bundle = Bundle.open(exported(SIGLIP, budgets=("0.3",), plan=asked, more_methods=chosen[1:]))
    assert {selection.method for selection in bundle.manifest.selections} == set(chosen)
    assert bundle.manifest.parity.skipped is None
    shapes = {spec.name: spec.shape for spec in bundle.graph("tower").outputs}
    assert shapes["features"] == (1, 36, 48) and shapes["projected"] == (1, 36, 64)
    assert {shape for name, shape in shapes.items() if name.startswith("map_")} == {(1, 36, 36)}
    assert shapes["received_2"] == (1, 36) and shapes["keys_2"][:2] == (1, 36)


def kinds(read: Iterable[Read]) -> set[str]:
    return {one.kind for one in read}


def test_int8_passes_the_gate() -> None:
    bundle = Bundle.open(exported(SIGLIP, budgets=("0.3",), plan={"method": "uniform"}, precision="int8"))
    assert bundle.manifest.parity.skipped is None
