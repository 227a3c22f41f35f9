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
from tests.commands import complaint, invoke
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


def test_hired_where_it_was_asked_for_is_refused_in_one_line_that_says_what_to_type(tmp_path: Path) -> None:
    asked = ("--budget", "0.2", "--method", "hired", "--out", tmp_path / "bundle")
    line = complaint("export", tiny_checkpoint(**SIGLIP), *asked)
    assert "method hired does not fit this model" in line and "divprune" in line
    assert line.endswith("choose one, as in --method divprune")


def test_without_a_method_the_default_that_fits_is_taken_and_said_in_one_line(tmp_path: Path) -> None:
    asked = ("--budget", "0.2", "--budget", "1.0", "--no-controls", "--no-parity", "--out", tmp_path / "bundle")
    done = invoke("export", tiny_checkpoint(**SIGLIP), *asked)
    assert done.exit_code == 0, done.output
    said = "note: method divprune, as hired does not fit: it reads the class token, and the siglip tower has none"
    assert said in done.stderr.splitlines()
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert manifest.plan.method == "divprune"
    assert {one.method for one in manifest.selections if one.own} == {"divprune", "full"}


def test_a_budget_that_drops_nothing_has_no_method_to_speak_of(tmp_path: Path) -> None:
    told: list[str] = []
    export(tiny_checkpoint(**SIGLIP), tmp_path / "bundle", options(("1.0",), parity=False), tell=told.append)
    assert not told and (tmp_path / "bundle" / "manifest.json").is_file()


def test_a_recipe_and_its_forecast_take_the_same_default(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[tokens]\nbudgets = [0.2]\n[export]\ncontrols = false\n")
    said = "method divprune, as hired does not fit"
    seen = invoke("forecast", tiny_checkpoint(**SIGLIP), "--recipe", recipe, "--no-time")
    assert seen.exit_code == 0 and said in seen.stderr, seen.output
    out = tmp_path / "bundle"
    done = invoke("export", tiny_checkpoint(**SIGLIP), "--recipe", recipe, "--no-parity", "--out", out)
    assert done.exit_code == 0 and said in done.stderr, done.output
    recipe.write_text('[tokens]\nbudgets = [0.2]\nmethod = "hired"\n')
    assert "method hired does not fit this model" in complaint(
        "forecast", tiny_checkpoint(**SIGLIP), "--recipe", recipe, "--no-time"
    )


def test_settings_are_for_the_method_that_is_taken_and_do_not_choose_it(tmp_path: Path) -> None:
    line = complaint("export", tiny_checkpoint(), "--budget", "0.2", "--set", "early_layer=99", "--out", tmp_path / "b")
    assert "setting early_layer is 99" in line
    line = complaint(
        "export", tiny_checkpoint(**SIGLIP), "--budget", "0.2", "--set", "alpha=1", "--out", tmp_path / "b"
    )
    assert "none of divprune, random, uniform, downsample has a setting 'alpha'" in line


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
