from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune_profiles import load_report
from edgeprune_profiles.picture import draw_picture, largest_size
from edgeprune_runtime import Model
from edgeprune_runtime.spec import Preprocess
from tests.commands import answer, complaint, invoke

QUICK = ["--runs", 1, "--warmup", 0, "--max-tokens", 2, "--threads", 1]


def test_every_budget_generates_the_same_number_of_tokens(measured):
    report = load_report(measured[0])
    assert {sample.generated_tokens for result in report.budgets for sample in result.samples} == {3}


def test_says_what_was_kept_at_each_budget(measured):
    fifth, full = measured[1]["budgets"]
    assert (fifth["budget"], fifth["method"], fifth["keep"], fifth["visual_tokens"]) == ("0.2", "hired", 36, 36)
    assert (full["budget"], full["method"], full["keep"], full["keep_ratio"]) == ("1.0", "full", None, 1.0)


def test_times_are_split_by_stage_in_wall_and_processor_time(measured):
    for budget in measured[1]["budgets"]:
        assert set(budget["stages"]) == {"preprocess", "tower", "select", "prefill", "decode"}
        assert all(time["wall_s"] > 0 and time["cpu_s"] > 0 for time in budget["stages"].values())
        assert budget["ttft_s"]["n"] == 6
        assert 0 < budget["fixed_share"] < 1


def test_ratios_are_to_full_budget_and_have_an_interval(measured):
    fifth, full = measured[1]["budgets"]
    for name in ("ttft_full_over_this", "ttft_cpu_full_over_this", "tpot_full_over_this"):
        assert full[name] is None
        assert fifth[name]["low"] <= fifth[name]["point"] <= fifth[name]["high"]
        assert fifth[name]["n"] == 6


def test_memory_is_read_in_a_process_per_budget(measured, tiny_bundle):
    found = measured[1]
    assert found["memory_scope"] == "each budget had a process of its own"
    with Model.open(tiny_bundle) as model:
        language = model.bundle.manifest.language
        row = model.language.cache_bytes // language.capacity
    for budget in found["budgets"]:
        assert budget["memory"]["peak_bytes"] > budget["memory"]["baseline_bytes"] > 0
        assert budget["weights_bytes"] == (tiny_bundle / "weights.bin").stat().st_size
        assert budget["cache_bytes"] % (language.chunk * row) == 0
    fifth, full = found["budgets"]
    assert fifth["cache_bytes"] < full["cache_bytes"]


def test_unknown_energy_is_said_and_never_zero(measured):
    found = measured[1]
    for budget in found["budgets"]:
        assert budget["energy_j"] is None if found["energy_source"].startswith("unknown") else budget["energy_j"] > 0


def test_the_generated_picture_and_the_warm_up_are_stated(measured):
    found = measured[1]
    assert found["pictures"] == ["generated.png"]
    assert any("No picture was given" in note for note in found["notes"])
    assert found["warmup_rounds"] == 1


def test_the_report_holds_no_path_of_this_machine(measured):
    content = load_report(measured[0])
    assert content.bundle.name
    assert "/" not in content.bundle.name + "".join(content.cases)


def test_people_get_tables_and_conditions(tiny_bundle, tmp_path):
    draw_picture(48, 96).save(tmp_path / "wide.png")
    result = invoke("profile", tiny_bundle, "--budget", "0.5", "--image", tmp_path / "wide.png", *QUICK)
    assert result.exit_code == 0, result.output
    for text in ("To the first token", "Further tokens", "0.5 hired", "warm-up rounds", "Energy:", "no baseline"):
        assert text in result.stdout
    assert "No picture was given" not in result.stdout


def test_without_full_budget_says_how_to_get_a_baseline(tiny_bundle, monkeypatch):
    monkeypatch.setattr("edgeprune_profiles.memory_apart.measure_apart", lambda request: None)
    found = answer("profile", tiny_bundle, "--budget", "40", *QUICK)
    assert any("no baseline" in note and "--budget 1.0" in note for note in found["notes"])
    (budget,) = found["budgets"]
    assert (budget["keep"], budget["keep_ratio"]) == (40, 40 / 180)
    assert budget["ttft_full_over_this"] is None


def test_memory_stays_unknown_when_its_process_dies(tiny_bundle, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    result = invoke("profile", tiny_bundle, "--budget", "0.2", *QUICK, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["budgets"][0]["memory"] is None
    assert "memory unknown" in result.stderr


def test_an_evaluation_can_stand_beside_the_times(tiny_bundle, evaluated, monkeypatch, tmp_path):
    monkeypatch.setattr("edgeprune_profiles.memory_apart.measure_apart", lambda request: None)
    found = answer("profile", tiny_bundle, "--budget", "0.2", *QUICK, "--eval", evaluated[0])
    assert found["accuracy"]["rows"][0]["name"] == "1.0"


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--budget", "0.3"], "no budget '0.3'"), (["--budget", "many"], "no budget 'many'"), (["--image", "no.png"], "no.png")],
)  # fmt: skip
def test_mistakes_are_one_line(tiny_bundle, options, text):
    assert text in complaint("profile", tiny_bundle, *options, *QUICK)


def test_the_generated_picture_fills_the_largest_grid_and_is_always_the_same():
    wide = Preprocess(True, 48, 6, ((48, 96), (96, 144)), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert largest_size(wide) == (96, 144)
    assert largest_size(Preprocess(False, 48, 6, (), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))) == (48, 48)
    assert draw_picture(96, 144).size == (144, 96)
    assert draw_picture(20, 30).tobytes() == draw_picture(20, 30).tobytes()


def test_help_lists_every_option_without_opening_anything():
    text = invoke("profile", "--help").stdout
    assert all(option in text for option in ("--budget", "--image", "--warmup", "--eval", "--json"))
    assert Path("report.json").exists() is False
