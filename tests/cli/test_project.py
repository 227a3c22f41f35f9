"""devices, project, recommend and export --fit as a user calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeprune_profiles.boards.device import DeviceMemory
from edgeprune_profiles.boards.device_file import device_names, write_device
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.spec import GraphWork
from tests.checkpoints import tiny_checkpoint
from tests.commands import answer, complaint, invoke
from tests.profiles.made_boards import board, figure


@pytest.fixture
def here(tmp_path: Path) -> Path:
    path = tmp_path / "here.toml"
    write_device(board("here", kind="cpu"), path)
    return path


def test_devices_lists_all_and_shows_one_with_its_sources() -> None:
    assert [d["name"] for d in answer("devices")["devices"]] == list(device_names())
    assert "unknown" in invoke("devices").stdout
    shown = invoke("devices", "orin-nano-8gb-super").stdout
    assert "https://developer.nvidia.com/blog/nvidia-jetson-orin-nano-developer-kit-gets-a-super-boost/" in shown
    assert "102 GB/s" in shown
    assert answer("devices", "t4")["peak_per_s"]["int8"] == {"value": 130e12, "source": "geektopia", "how": ""}
    assert "unknown device 'nonsense'" in complaint("devices", "nonsense")


def test_this_processor_is_measured_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeprune_profiles.boards import measure_cpu

    monkeypatch.setattr(measure_cpu, "_SIDE", 32)
    monkeypatch.setattr(measure_cpu, "_COPY_BYTES", 1 << 20)
    path = tmp_path / "mine.toml"
    found = answer("devices", "mine", "--measure-cpu", "--out", path)
    assert (found["name"], found["kind"]) == ("mine", "cpu")
    assert answer("devices", path) == found


def test_a_projection_has_an_interval_a_basis_and_memory(tiny_bundle: Path) -> None:
    found = answer(
        "project", tiny_bundle, "--device", "orin-nano-8gb", "--device", "agx-orin-64gb", "-b", "0.2", "-b", "1.0"
    )
    assert found["basis"] == "projected"
    assert [(p["device"], p["budget"]) for p in found["projections"]] == [
        (d, b) for d in ("orin-nano-8gb", "agx-orin-64gb") for b in ("0.2", "1.0")
    ]
    for one in found["projections"]:
        assert one["precision"] == "fp16"
        assert one["ttft_s"]["low"] < one["ttft_s"]["point"] < one["ttft_s"]["high"]
        assert [stage["stage"] for stage in one["stages"]] == ["tower", "select", "prefill", "decode"]
        assert one["memory"]["verdict"] == "fits"
    text = invoke("project", tiny_bundle, "--device", "orin-nano-8gb", "-b", "0.2").stdout
    assert "Projected, not measured" in text
    assert "note: orin-nano-8gb: preprocessing" in text


def test_times_of_a_small_model_keep_their_digits(tiny_bundle: Path) -> None:
    for command in ("project", "recommend"):
        text = invoke(command, tiny_bundle, "--device", "orin-nano-8gb", "-b", "0.2").stdout
        assert "TTFT ms" in text and " 0.00" not in text
    assert "TTFT s" in invoke("project", "llava-next-7b", "--device", "orin-nano-8gb", "-b", "1.0").stdout


def test_a_figure_that_is_unknown_is_named(tiny_bundle: Path) -> None:
    assert "raspberry-pi-5 cannot be projected: its peak rate in fp32 is unknown" in complaint(
        "project", tiny_bundle, "-d", "raspberry-pi-5"
    )
    assert "its peak rate in fp16 is unknown" in complaint("project", tiny_bundle, "-d", "orin-nano-8gb-super@7W")


def test_a_projection_learns_from_a_run(tiny_bundle: Path, measured: tuple[Path, dict[str, Any]], here: Path) -> None:
    path, _ = measured
    question = ["--prompt", "What is in this picture?", "--max-tokens", 3]
    found = answer("project", tiny_bundle, "-d", here, "--report", f"{here},{path}", "-b", "0.2", *question)
    (one,) = found["projections"]
    assert one["basis"] == "this model here"
    assert one["preprocess_s"] > 0
    assert "expected DEVICE,REPORT.json" in complaint("project", tiny_bundle, "-d", here, "--report", "x")


def test_the_backtest_prints_its_coverage() -> None:
    found = answer("project", "--backtest")
    assert found["coverage"]["all"]["n"] == len(found["trials"])
    assert "inside the 95 % interval" in invoke("project", "--backtest").stdout
    assert invoke("project").exit_code == 2


def test_a_recommendation_tells_measured_from_projected(
    tiny_bundle: Path, measured: tuple[Path, dict[str, Any]], here: Path
) -> None:
    path, _ = measured
    found = answer(
        "recommend", tiny_bundle, "--ttft", "1s", "--tokens-per-s", 10, "--max-power", "15W", "--max-memory", "8GB", "--max-price", 500,
        "--report", f"{here},{path}", "-b", "0.2", "-b", "1.0", "--max-tokens", 3,
    )  # fmt: skip
    by = {(c["device"], c["budget"]): c for c in found["choices"]}
    assert by["here", "0.2"]["basis"] == "measured"
    assert by["here", "0.2"]["confidence"] == "high"
    assert by["orin-nano-8gb", "0.2"]["basis"] == "projected"
    assert by["rtx-4090", "0.2"]["answers"]["power"] == "no"
    assert by["rtx-4090", "0.2"]["meets"] == "no"
    assert "peak rate in fp32" in found["left_out"]["raspberry-pi-5"]
    assert any(c["pareto"] for c in found["choices"])
    order = [c["meets"] for c in found["choices"]]
    assert order == sorted(order, key=["yes", "open", "unknown", "no"].index)


def test_what_to_measure_next_is_a_command(tiny_bundle: Path) -> None:
    text = invoke("recommend", tiny_bundle, "--ttft", "3ms", "-d", "orin-nano-8gb", "-b", "1.0").stdout
    assert f"To be sure, on orin-nano-8gb:\n  edgeprune profile {tiny_bundle} --budget 1.0" in text
    assert "--ttft is 'soon'" in complaint("recommend", tiny_bundle, "--ttft", "soon")


def test_export_fit_takes_the_largest_budget_that_meets_the_target(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tower="clip", decoder="llama")
    words = ["export", checkpoint, "--no-parity", "--no-controls", "--chunk", 32]
    fit = ["--fit", "device=orin-nano-8gb,ttft=1s", "--budget", "1.0"]  # the same budget twice is one
    whole = answer(*words, *fit, "--out", tmp_path / "whole.bundle")
    assert {s["budget"] for s in whole["selections"]} == {"1.0"}
    assert "no budget meets device=orin-nano-4gb,ttft=1ms" in complaint(
        *words, "--fit", "device=orin-nano-4gb,ttft=1ms", "--out", tmp_path / "x"
    )
    assert "expected device=NAME" in complaint(*words, "--fit", "ttft=1s", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_export_fit_refuses_a_board_whose_memory_cannot_hold_the_model_and_names_what_limits(tmp_path: Path) -> None:
    checkpoint, small = tiny_checkpoint(tower="clip", decoder="llama"), tmp_path / "small.toml"
    write_device(board("small", memory=DeviceMemory(figure(1e9), figure(100e9))), small)
    words = ["export", checkpoint, "--no-parity", "--chunk", 32, "--out", tmp_path / "x", "--fit"]
    said = complaint(*words, f"device={small},ttft=100s")
    assert "no budget fits small: at least 1" in said
    assert "it has 954 MiB" in said
    assert "tower limits" in complaint(*words, "device=orin-nano-4gb,ttft=1ms")
    assert "decode limits" in complaint(*words, "device=orin-nano-4gb,tokens-per-s=1000000")


def test_recommend_names_the_stage_that_limits_and_refuses_what_does_not_fit(tiny_bundle: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.toml"
    write_device(board("small", memory=DeviceMemory(figure(1e9), figure(100e9))), small)
    found = answer("recommend", tiny_bundle, "--ttft", "0.001ms", "--tokens-per-s", 1e9, "-d", small, "-b", "1.0")
    (choice,) = found["choices"]
    assert (choice["meets"], choice["answers"]["fits"]) == ("no", "no")
    assert choice["limited_by"]["fits"] == "runtime"
    assert choice["limited_by"]["tokens/s"] == "decode"
    assert choice["limited_by"]["ttft"] in ("tower", "select", "prefill")
    text = invoke("recommend", tiny_bundle, "--tokens-per-s", 1e9, "-d", small, "-d", "t4", "-b", "1.0").stdout
    assert "no, does not fit (runtime): small" in text and "no, too few tokens/s (decode): t4" in text


def test_more_time_never_makes_the_fitted_budget_smaller(tmp_path: Path) -> None:
    """On a processor of 1 GFLOP/s the budget grows with the target, from none to all."""
    from edgeprune.models import open_checkpoint
    from edgeprune_export.bundle.counts import count_spec
    from edgeprune_profiles.boards.fit_budget import fit_target_from_text, fitted_budget

    slow, checkpoint = tmp_path / "slow.toml", tiny_checkpoint(tower="clip", decoder="llama")
    write_device(board("slow", kind="cpu", peak_per_s={"fp32": figure(1e9)}), slow)
    spec = open_checkpoint(checkpoint).spec

    def work(keep: int) -> dict[str, GraphWork]:
        return count_spec(spec, "fp32", 32, keep)

    kept = []
    for milliseconds in range(700, 1300, 50):
        try:
            target = fit_target_from_text(f"device={slow},ttft={milliseconds}ms")
            found = fitted_budget(target, spec.source, spec.picture, "fp32", 32, work)
        except MeasurementError:
            kept.append(0)
        else:
            kept.append(10**6 if found.budget == "1.0" else found.keep)
    assert kept == sorted(kept)
    assert 0 < min(k for k in kept if k) < 10**6
    assert kept[-1] == 10**6
    middle = 700 + 50 * next(i for i, k in enumerate(kept) if 0 < k < 10**6)
    words = ["export", checkpoint, "--no-parity", "--no-controls", "--chunk", 32, "--out", tmp_path / "fitted.bundle"]
    made = answer(*words, "--fit", f"device={slow},ttft={middle}ms")
    assert {s["keep"] for s in made["selections"]} == {min(k for k in kept if k)}
