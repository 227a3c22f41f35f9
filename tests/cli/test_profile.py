from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from edgeprune_profiles import load_report
from edgeprune_profiles.measure import session
from edgeprune_profiles.measure.picture import draw_picture, write_picture
from edgeprune_profiles.record.power_profile import EnergyPiece, PowerWindow
from edgeprune_profiles.record.profile import BackendUse
from edgeprune_profiles.record.sustain import Soak
from edgeprune_profiles.report import units
from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters import MachineUse, SourceCandidate
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Grids, NearestRatio, Single, Split
from tests.commands import answer, complaint, invoke
from tests.exports import exported
from tests.profiles.powered import RAILS, soaked, window
from tests.tilings import canvases, tile_spec

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


def test_first_and_second_question_are_measured_apart(measured):
    for result in load_report(measured[0]).budgets:
        for first in result.samples:
            assert {"tower", "select", "prefill"} <= set(first.wall_s) and first.second is not None
            assert set(first.second.wall_s) == {"preprocess", "prefill"}
    fifth, full = (budget["second"] for budget in measured[1]["budgets"])
    assert full["gain"]["n"] == full["ttft_s"]["n"] == 6
    assert 0 < fifth["cached_tokens"] < full["cached_tokens"] < full["prompt_tokens"]
    assert measured[1]["second_question"] == "What else is in it?"


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
    for text in (
        "Time to first token (TTFT)",
        "TTFT of a second question about the same picture",
        "Time per output token (TPOT)",
        "hired@0.5",
        "warm-up rounds",
        "Unknown here: ",
        "no baseline",
    ):
        assert text in result.stdout
    assert "No picture was given" not in result.stdout


def test_without_full_budget_says_how_to_get_a_baseline(tiny_bundle, monkeypatch):
    monkeypatch.setattr("edgeprune_profiles.measure.session.measure_apart", lambda request: None)
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
    monkeypatch.setattr("edgeprune_profiles.measure.session.measure_apart", lambda request: None)
    found = answer("profile", tiny_bundle, "--budget", "0.2", *QUICK, "--eval", evaluated[0])
    assert found["accuracy"]["rows"][0]["name"] == "1.0"


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--budget", "0.3"], "no budget '0.3'"), (["--budget", "many"], "no budget 'many'"), (["--image", "no.png"], "no.png")],
)  # fmt: skip
def test_mistakes_are_one_line(tiny_bundle, options, text):
    assert text in complaint("profile", tiny_bundle, *options, *QUICK)


@pytest.mark.parametrize(
    ("rule", "size", "tiles"),
    [
        (canvases(48, (1, 2), (2, 3)), (96, 144), 7), (Single(resize_shortest=48), (48, 48), 1),
        (NearestRatio(1, 6), (48, 288), 7), (Split(144), (144, 144), 10),
    ],
)  # fmt: skip
def test_the_generated_picture_fills_the_largest_canvas(rule, size, tiles, tmp_path):
    spec = PictureSpec(tile_spec(48, 6), rule)
    path, said = write_picture(tmp_path, spec)
    with Image.open(path) as drawn:
        assert (drawn.height, drawn.width) == size
    assert spec.place(*size).tiles == tiles and f"({tiles} tiles)" in said


@pytest.mark.parametrize(
    ("size", "drawn", "said"),
    [
        (
            None,
            (64, 48),
            "of 48 x 64 pixels, seen on the largest grid of 64x48 pixels (12 visual tokens), the most work",
        ),
        ((30, 90), (30, 90), "of 90 x 30 pixels, seen on a grid of 32x64 pixels (8 visual tokens)."),
    ],
)
def test_on_grids_the_generated_picture_fills_the_largest_or_has_the_size_that_is_asked(size, drawn, said, tmp_path):
    spec = PictureSpec(tile_spec(64, 8, merge=2), Grids(((32, 64), (64, 48))))
    path, sentence = write_picture(tmp_path, spec, size)
    with Image.open(path) as picture:
        assert (picture.height, picture.width) == drawn
    assert said in sentence


def test_a_picture_of_another_size_is_smaller_work_and_given_pictures_have_sizes_of_their_own(
    tiny_bundle, no_memory, tmp_path
):
    found = answer("profile", tiny_bundle, *QUICK, "--size", "40x30")
    assert any("40 x 30 pixels, seen on" in note for note in found["notes"])
    assert "expected WIDTHxHEIGHT" in complaint("profile", tiny_bundle, *QUICK, "--size", "40")
    draw_picture(30, 40).save(tmp_path / "own.png")
    said = complaint("profile", tiny_bundle, *QUICK, "--size", "40x30", "--image", tmp_path / "own.png")
    assert "pictures are given" in said


def test_the_generated_picture_is_always_the_same():
    assert draw_picture(96, 144).size == (144, 96)
    assert draw_picture(20, 30).tobytes() == draw_picture(20, 30).tobytes()


def test_limits_of_tiles_are_measured_beside_all_of_them(tiny_bundle, no_memory, tmp_path):
    tiles = ("--tiles", "none", "--tiles", 2)
    report = answer(
        "profile", tiny_bundle, "--budget", "1.0", "--budget", "0.2", *tiles, *QUICK, "--out", tmp_path / "r.json"
    )
    names = [row["budget"] for row in report["budgets"]]
    assert names == ["1.0", "0.2", "1.0 on one view", "0.2 on one view", "1.0 on 2 tiles", "0.2 on 2 tiles"]
    read = load_report(tmp_path / "r.json")
    towers = {one.budget.name: len(one.samples[0].wall_s["tower"]) for one in read.budgets}
    visual = {one.budget.name: one.samples[0].visual_tokens for one in read.budgets}
    assert visual["1.0 on one view"] < visual["1.0 on 2 tiles"] < visual["1.0"]
    assert towers == dict.fromkeys(names, 1)


def test_further_methods_are_measured_beside_the_bundles_own(tiny_bundle, no_memory, tmp_path):
    methods = ("--method", "hired", "--method", "random", "--tiles", 2)
    found = answer("profile", tiny_bundle, "--budget", "0.2", "--budget", "1.0", *methods, *QUICK)
    names = ["0.2", "random@0.2", "1.0"]
    assert [(b["budget"], b["method"]) for b in found["budgets"]] == [
        (name + on, method)
        for on in ("", " on 2 tiles")
        for name, method in zip(names, ("hired", "random", "full"), strict=True)
    ]
    assert "no method 'nonsense'" in complaint("profile", tiny_bundle, "--method", "nonsense", *QUICK)


def test_caches_before_and_behind_a_cut_are_counted_by_themselves(no_memory, tmp_path):
    """Caches of layers 0 and 1 hold all rows, those of layers 2 and 3 what went on."""
    bundle = exported({"layers": 4}, budgets=("1.0",), inside=["pdrop@2:8"], stage_chunk=8, parity=False)
    report = answer("profile", bundle, "--inside", "8", "--inside", "0", *QUICK, "--out", tmp_path / "r.json")
    names = ["1.0", "1.0, inside 8", "1.0, inside 0"]
    assert [row["budget"] for row in report["budgets"]] == names
    found = {one.budget.name: one.budget.cache_bytes for one in load_report(tmp_path / "r.json").budgets}
    spec = Bundle.open(bundle, verify=False).manifest.language
    row = 2 * 4 * spec.kv_heads[0] * spec.head_dim
    visual = load_report(tmp_path / "r.json").budgets[0].samples[0].visual_tokens
    for name, left in zip(names[1:], (visual - 8, visual), strict=True):
        fewer = (found["1.0"] - found[name]) / (2 * row)  # rows, in whole runs of 8, of layers 2 and 3
        assert fewer % 8 == 0 and abs(fewer - left) < 8
    assert "1.0, inside 8" in invoke("report", tmp_path / "r.json").stdout


def test_a_busy_machine_is_warned_of_before_the_work_and_told_in_the_result(tiny_bundle, no_memory, monkeypatch):
    busy = MachineUse(0.5, 2, 1.3, 0.0, None, 2.0, None)
    monkeypatch.setattr(session, "use_while_resting", lambda look: busy)
    result = invoke("profile", tiny_bundle, "--budget", "0.2", *QUICK)
    assert "other programs kept 1.3 of 2 cores busy" in result.stderr
    assert "The machine was not quiet: before the profile, other programs" in result.stdout


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune_profiles.measure.session.measure_apart", lambda request: None)


@pytest.fixture
def rails(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A board with a power sensor, where every window and every soak is over at once; says what was measured."""
    done: list[str] = []

    def window_of(piece: EnergyPiece, chosen: SourceCandidate) -> PowerWindow:
        piece.work()
        done.append(f"{piece.name} {piece.units}")
        return window(piece.name, piece.unit, piece.units, 0.5, 10.0)

    def soak_of(budget: str, work: Callable[[], object], chosen: SourceCandidate, seconds: float) -> Soak:
        work()
        done.append(f"soak {budget} {seconds:g}")
        return soaked(seconds=seconds)

    monkeypatch.setattr("edgeprune_profiles.measure.session.power_sources", lambda: (RAILS,))
    monkeypatch.setattr(session, "with_power", partial(session.with_power, window=window_of))
    monkeypatch.setattr(session, "with_soak", partial(session.with_soak, soak=soak_of))
    return done


def test_power_measures_a_request_and_its_pieces_at_each_budget(tiny_bundle, rails, no_memory, tmp_path):
    out = tmp_path / "r.json"
    found = answer("profile", tiny_bundle, "--budget", "0.2", "--budget", "1.0", *QUICK, "--power", "--out", out)
    assert rails == ["request 1", "image 1", "select 1", "prefill 1", "decode 1"] * 2
    assert found["power_source"] == "ina3221:VDD_IN"
    for budget in found["budgets"]:
        assert budget["power"]["request"]["gross_j"] == pytest.approx(5.0, rel=0.01)  # 10 W for 0.5 s
        assert budget["power"]["decode"]["unit"] == "token"
    assert load_report(out).budgets[1].power[0].run.trace.power_w


def test_a_soak_asks_the_first_budget_for_as_long_as_was_said(tiny_bundle, rails, no_memory):
    result = invoke("profile", tiny_bundle, "--budget", "0.2", *QUICK, "--sustain", "5m")
    assert result.exit_code == 0, result.output
    assert rails == ["soak 0.2 300"]
    said = result.stdout.replace(units.NBSP, " ")
    assert "Soak of 5 min at budget 0.2" in said
    assert "requests take 1.50x [1.50, 1.50] as long in the last minute as in the first" in said


def test_without_a_sensor_power_is_one_sentence_and_the_times_are_kept(tiny_bundle, no_memory, monkeypatch):
    monkeypatch.setattr(
        "edgeprune_profiles.measure.session.power_sources",
        lambda: (SourceCandidate("rapl", None, None, "hidden here"),),
    )
    result = invoke("profile", tiny_bundle, "--budget", "0.2", *QUICK, "--power")
    assert result.exit_code == 0, result.output
    assert "energy unknown: no power sensor for this work. rapl: hidden here" in result.stderr
    assert "Energy is unknown: no power sensor could measure this work." in result.stdout


def test_what_was_measured_stays_when_a_later_part_fails(tiny_bundle, no_memory, monkeypatch, tmp_path):
    def broken(*_: object) -> None:
        raise MeasurementError("the power sampler did not start")

    monkeypatch.setattr("edgeprune_profiles.measure.session.power_sources", lambda: (RAILS,))
    monkeypatch.setattr(session, "with_soak", partial(session.with_soak, soak=broken))
    result = invoke("profile", tiny_bundle, "--budget", "0.2", *QUICK, "--sustain", "2m", "--out", tmp_path / "r.json")
    assert result.exit_code == 1
    assert "did not start" in result.stderr
    assert len(load_report(tmp_path / "r.json").budgets[0].samples) == 1


@pytest.mark.parametrize("text", ["90s", "soon", "0m"])
def test_a_soak_that_cannot_be_is_refused_before_the_bundle_is_opened(tmp_path, text):
    assert "--sustain" in complaint("profile", tmp_path / "no.bundle", "--sustain", text)


def test_the_report_says_what_ran_it_and_how_to_repeat_it(measured):
    report = load_report(measured[0])
    assert report.schema == 4
    assert (report.backend.name, report.backend.device) == ("onnxruntime", "cpu")
    assert len(report.pictures_sha256) == 1
    assert report.command.split()[0] == "edgeprune"
    assert len(report.bundle.sha256) == 64


def test_counters_and_memory_of_the_host_are_not_taken_for_those_of_a_gpu(tiny_bundle, no_memory, monkeypatch):
    monkeypatch.setattr(session, "backend_use", lambda model: BackendUse("tensorrt", "", "gpu"))
    found = answer("profile", tiny_bundle, "--budget", "0.2", *QUICK)
    assert found["energy_source"].startswith("unknown: the work runs on a GPU")
    assert any("what the GPU allocates is not in it" in note for note in found["notes"])


def test_a_backend_that_cannot_run_here_is_one_line(tiny_bundle):
    assert "nonsense" in complaint("profile", tiny_bundle, "--backend", "nonsense", *QUICK)


def test_help_lists_every_option_without_opening_anything():
    text = invoke("profile", "--help").stdout
    assert all(
        option in text
        for option in ("--budget", "--image", "--warmup", "--eval", "--json", "--power", "--sustain", "--backend")
    )
    assert Path("report.json").exists() is False
