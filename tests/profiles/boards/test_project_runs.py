"""Runs as something to learn from: the right clock, the right request, the right bundle; and projections built on them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeprune_profiles.boards.device import Device
from edgeprune_profiles.boards.device_file import load_device
from edgeprune_profiles.boards.fit import THIS_BOARD, THIS_MODEL, EfficiencySample
from edgeprune_profiles.boards.model import ProjectedRequest, model_of_bundle
from edgeprune_profiles.boards.project import PREPROCESS_FACTOR, first_token_s, project, project_stages, target
from edgeprune_profiles.boards.roofline import ideal
from edgeprune_profiles.measure.runs import own_trials, run_preprocess_s, run_samples, stage_medians
from edgeprune_profiles.measure.work import request_shape, request_stages
from edgeprune_profiles.record.profile import SCHEMA, BudgetRecord, BudgetResult, BundleRef, Report
from edgeprune_profiles.record.profile import RequestSample as Request
from edgeprune_runtime import Bundle
from edgeprune_runtime.errors import MeasurementError
from tests.profiles.conftest import ENVIRONMENT
from tests.profiles.made_boards import board

BUDGETS = ("0.2", "1.0")
CPU = board("cpu", kind="cpu")
ASKED = ProjectedRequest("what ?", 3, None)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def slowed(bundle: Bundle, factor: float, device: Device = CPU) -> Report:
    """A report in which every stage took `factor` times its roofline on the device, and the clock twice that."""
    results = []
    for name in BUDGETS:
        shape = request_shape(bundle, name, "what ?", 3)
        times = {}
        for stage in request_stages(bundle.manifest.language.chunk, bundle.manifest.work, shape, None):
            found = ideal(device, stage)
            times[stage.name] = (factor * found.seconds + found.launch_s,) * (2 if stage.name == "decode" else 1)
        busy = {"preprocess": (0.25, 0.25), **times}
        wall = {stage: tuple(2 * t for t in values) for stage, values in busy.items()}
        requests = tuple(Request(i, 0, shape.visual, 3, wall, busy) for i in range(3))
        results.append(BudgetResult(BudgetRecord(name, shape.method, None, shape.keep_ratio), requests))
    return Report(
        schema=SCHEMA, created="", command="", bundle=BundleRef("b", bundle.sha256), environment=ENVIRONMENT, cases=("p",), max_tokens=3,
        warmup_rounds=0, repetitions=3, seed=0, energy_source="", memory_scope="", budgets=tuple(results), question="what ?", threads=1,
    )  # fmt: skip


def test_one_thread_of_a_processor_is_read_on_its_own_clock(bundle: Bundle) -> None:
    report = slowed(bundle, 2.0)
    result = report.budgets[0]
    busy = stage_medians(report, result, CPU)
    assert busy["preprocess"] == 0.5, "two spans of one request add up"
    assert stage_medians(report, result, board()) == {stage: pytest.approx(2 * t) for stage, t in busy.items()}
    many = msgspec.structs.replace(report, threads=4)
    assert stage_medians(many, result, CPU)["preprocess"] == 1.0
    assert run_preprocess_s(report, CPU) == 0.5


def test_a_run_at_half_the_roofline_has_the_efficiency_one_half(bundle: Bundle) -> None:
    found = run_samples(bundle, slowed(bundle, 2.0), target(CPU, "fp32"))
    assert len(found) == 4 * len(BUDGETS)
    # an efficiency counts launches of at most nine tenths of the time
    assert {s.stage for s in found} == {"tower", "select", "prefill", "decode"}
    assert all(s.efficiency == pytest.approx(0.5) for s in found if s.stage in ("tower", "prefill"))
    assert {(s.device, s.model) for s in found} == {("cpu", bundle.manifest.name)}


def test_runs_of_another_bundle_or_of_other_pictures_are_refused(bundle: Bundle) -> None:
    report = slowed(bundle, 2.0)
    other = msgspec.structs.replace(report, bundle=BundleRef("x", "f" * 64))
    with pytest.raises(MeasurementError, match="ffffffffffff.*--report DEVICE,REPORT.json,BUNDLE"):
        run_samples(bundle, other, target(CPU, "fp32"))
    height, width = bundle.manifest.picture.largest
    with pytest.raises(MeasurementError, match="visual tokens.*--size"):
        run_samples(bundle, report, target(CPU, "fp32"), (height, width // 2))


def test_a_projection_from_a_run_gives_the_run_back(bundle: Bundle) -> None:
    report = slowed(bundle, 2.0)
    where = target(CPU, "fp32")
    samples = run_samples(bundle, report, where)
    shape = request_shape(bundle, "0.2", "what ?", 3)
    found = project(model_of_bundle(bundle, ASKED), shape, where, samples, preprocess_s=0.5)
    measured = stage_medians(report, report.budgets[0], CPU)
    assert found.ttft_s.low < found.ttft_s.point < found.ttft_s.high
    assert found.ttft_s.holds(sum(measured[stage] for stage in ("preprocess", "tower", "select", "prefill")))
    assert found.tokens_per_s.holds(1 / measured["decode"])
    assert found.basis == THIS_MODEL
    assert found.energy_j is not None
    assert found.energy_j.point == pytest.approx(10 * (found.ttft_s.point + 2 / found.tokens_per_s.point))
    assert found.preprocess_s == 0.5
    assert not any("preprocessing" in note for note in found.notes)


def test_preprocessing_without_a_run_is_left_out_and_said_so(bundle: Bundle) -> None:
    where = target(CPU, "fp32")
    samples = run_samples(bundle, slowed(bundle, 2.0), where)
    shape = request_shape(bundle, "0.2", "what ?", 3)
    bare = project(model_of_bundle(bundle, ASKED), shape, where, samples)
    whole = project(model_of_bundle(bundle, ASKED), shape, where, samples, preprocess_s=0.5)
    assert whole.ttft_s.high - bare.ttft_s.high == pytest.approx(0.5 * PREPROCESS_FACTOR)
    assert any("preprocessing" in note for note in bare.notes)


def test_without_power_there_is_no_energy_and_the_least_certain_stage_names_the_basis(bundle: Bundle) -> None:
    device = board("cpu", kind="cpu", power_modes=())
    where = target(device, "fp32")
    samples = [s for s in run_samples(bundle, slowed(bundle, 2.0), where) if s.stage != "select"]
    bounds = {s.bound for s in samples}
    samples += [
        EfficiencySample("cpu", "m", "tower", bound, "fp32", 0.5, "r")
        for bound in ("compute", "memory")
        if bound not in bounds
    ]  # type: ignore[arg-type]
    found = project(model_of_bundle(bundle, ASKED), request_shape(bundle, "0.2", "what ?", 3), where, samples)
    assert found.energy_j is None
    assert found.basis == THIS_BOARD


def test_own_runs_are_tested_without_the_budget_that_is_projected(bundle: Bundle) -> None:
    report, where = slowed(bundle, 2.0), target(CPU, "fp32")
    samples = run_samples(bundle, report, where)
    asked: list[str] = []

    def learn(name: str) -> list[EfficiencySample]:
        asked.append(name)
        return [s for s in samples if s.run != name]

    trials = own_trials(bundle, report, where, learn)
    assert asked == list(BUDGETS)
    assert [(t.left_out, t.stage) for t in trials] == [(b, s) for b in BUDGETS for s in ("first token", "per token")]
    assert all(t.inside for t in trials), "every stage is exactly twice its roofline"


def test_a_run_that_was_twice_as_slow_as_the_others_is_found_outside(bundle: Bundle) -> None:
    report, where = slowed(bundle, 40.0), target(CPU, "fp32")
    learned = run_samples(bundle, slowed(bundle, 20.0), where)
    assert not any(
        t.inside for t in own_trials(bundle, report, where, lambda name: learned) if t.stage == "first token"
    )


def test_a_gpu_computes_halves_unless_asked_and_never_an_int8_bundle() -> None:
    assert target(board(), "fp32").precision == "fp16"
    assert target(board(), "fp32", "fp32").precision == "fp32"
    assert target(CPU, "int8").precision is None
    with pytest.raises(MeasurementError, match="int8 weights are for processors"):
        target(board(), "int8")
    with pytest.raises(MeasurementError, match="int4 weights are for processors"):
        target(board(), "int4")
    with pytest.raises(MeasurementError, match="computes what the bundle stores"):
        target(CPU, "fp32", "fp16")


def test_a_board_whose_tensorrt_is_too_old_is_refused() -> None:
    assert target(load_device("orin-nano-8gb"), "fp32").precision == "fp16"
    with pytest.raises(
        MeasurementError, match="jetson-nano cannot be projected: its TensorRT 8.2.1 is older than 10.3"
    ):
        target(load_device("jetson-nano"), "fp32")


def test_the_first_token_comes_after_all_but_decode(bundle: Bundle) -> None:
    where = target(CPU, "fp32")
    samples = run_samples(bundle, slowed(bundle, 2.0), where)
    shape = request_shape(bundle, "0.2", "what ?", 3)
    stages = project_stages(
        bundle.manifest.name, bundle.manifest.language.chunk, bundle.manifest.work, shape, where, samples
    )
    assert first_token_s(stages).point == pytest.approx(sum(stage.time_s.point for stage in stages[:3]))
