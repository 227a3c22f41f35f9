"""Published times: sourced, and covered by intervals that never saw their own board."""

from __future__ import annotations

import math

import pytest

from edgeprune_profiles.boards.backtest import Coverage, Trial, coverage, leave_one_device_out
from edgeprune_profiles.boards.device import board_of
from edgeprune_profiles.boards.device_file import device_names, load_device
from edgeprune_profiles.boards.fit import estimate, stage_seconds
from edgeprune_profiles.boards.published import PublishedRow, published, published_samples, row_sample
from edgeprune_profiles.boards.roofline import ideal
from edgeprune_profiles.measure.work import Load, Stage
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import Interval


def test_every_published_time_has_its_source_and_the_boards_are_the_promised_ones() -> None:
    found = published()
    assert {row.source for row in found.rows} == set(found.sources)
    assert {board_of(row.device) for row in found.rows} == {"p40", "agx-thor", "dgx-spark", "orin-nano-8gb", "rtx-4090"}
    assert all(source.title and source.date for source in found.sources.values())


def test_a_row_becomes_an_efficiency_by_hand() -> None:
    """T4: 65 TFLOP/s in fp16; 1e9 parameters x 512 tokens are 1.024e12 operations: 15.75 ms; 63 ms published."""
    row = PublishedRow(
        "t4", "m", "prefill", "s", seconds=0.063015, parameters=1e9, weight_bytes=1e9, precision="fp16", tokens=512
    )
    found = row_sample(row)
    assert (found.bound, found.stage) == ("compute", "prefill")
    assert found.efficiency == pytest.approx(0.25, rel=1e-3)
    step = PublishedRow("t4", "m", "decode", "s", 0.02, 1e9, 1e9, "fp16", tokens=1, context=1000, cache_bytes=600_000)
    assert row_sample(step).bound == "memory"
    assert row_sample(step).efficiency == pytest.approx(1.6e9 / 320e9 / 0.02)


def test_a_board_is_projected_from_other_boards_only() -> None:
    """Two boards alike and a third that is ten times less efficient: only its own trials miss."""
    rows = [
        PublishedRow(device, "m", "decode", "s", seconds, 1e9, 1e9, "fp16", tokens=1)
        for device, seconds in (("t4", 1 / 320 / 0.5), ("l4", 1 / 300 / 0.5), ("rtx-3060", 1 / 360 / 0.005))
    ]
    trials = leave_one_device_out(rows)
    assert trials[2].projected_s.point == pytest.approx(1 / 360 / 0.5)
    assert trials[2].factor == pytest.approx(100)
    assert not trials[2].inside


def test_super_mode_does_not_teach_its_own_board() -> None:
    rows = [
        PublishedRow(device, "m", "decode", "s", 1.0, 1e9, 1e9, "fp16", tokens=1)
        for device in ("orin-nano-8gb", "orin-nano-8gb-super", "t4")
    ]
    first, second, _ = leave_one_device_out(rows)
    share_of_t4 = 1e9 / 320e9
    assert first.projected_s.point == pytest.approx(1e9 / 68e9 / share_of_t4)
    assert second.projected_s.point == pytest.approx(1e9 / 102e9 / share_of_t4)


def test_coverage_counts_and_measures() -> None:
    trials = (
        Trial("b", "n", "s", "compute", Interval(1, 2, 4), 4),
        Trial("b", "n", "s", "compute", Interval(1, 2, 4), 0.5),
    )
    found = coverage(trials)
    assert (found.n, found.inside, found.share) == (2, 1, 0.5)
    assert found.typical_factor == pytest.approx(math.sqrt(2 * 4))
    assert found.typical_width == pytest.approx(2)


def test_published_times_are_covered_as_often_as_the_interval_says() -> None:
    found: Coverage = coverage(leave_one_device_out(published().rows))
    assert found.n >= 30
    assert found.share >= 0.9


def test_times_of_eager_scripts_are_tested_but_not_learned_from() -> None:
    held = [row for row in published().rows if not row.learn]
    assert held
    assert {row.source for row in held} == {"hired"}
    assert len(published_samples()) == len(published().rows) - len(held)


def decode_of(weights: float, nodes: int) -> Stage:
    return Stage("decode", ((1.0, Load({"fp16": weights / 2}, weights, nodes, weights)),))


@pytest.mark.parametrize("name", device_names())
def test_a_model_of_seven_billion_never_decodes_faster_than_the_memory_allows(name: str) -> None:
    """13.2 GB of weights in half precision: 76 tokens per second at the most on an RTX 4090."""
    device, work = load_device(name), decode_of(13.2e9, 500)
    try:
        found = ideal(device, work)
    except MeasurementError:  # a figure of the board is unknown: it is not projected at all
        return
    step = stage_seconds(found, estimate(published_samples(), name, "made", found))
    bandwidth = device.memory.bandwidth_bytes_per_s
    assert bandwidth is not None
    assert 1 / step.low <= bandwidth.value / 13.2e9
    assert step.low <= step.point <= step.high


def test_a_tiny_model_is_all_overhead_and_is_said_to_be() -> None:
    """300 nodes of 1 MB in all: 15 us of memory on an Orin Nano, and a millisecond and a half of launches in the middle."""
    found = ideal(load_device("orin-nano-8gb"), decode_of(1e6, 300))
    step = stage_seconds(found, estimate(published_samples(), "orin-nano-8gb", "made", found))
    assert 1e-3 < step.point < 3e-3
    assert step.low > 300 * 0.1e-6
