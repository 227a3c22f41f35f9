"""GPU, memory, fan, power mode, temperatures, clocks and throttling of made boards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune_runtime.meters.boards.jetson import (
    JetsonPowerMode,
    JetsonState,
    is_jetson,
    jetson_state,
    power_mode,
)
from edgeprune_runtime.meters.clocks import BoardState, board_state, state_summary
from edgeprune_runtime.meters.snapshots import board_meter, jetson_meter
from edgeprune_runtime.meters.thermal import slowed_by, temperatures_c, throttle_events
from tools import fake_board

KIB = 1024


def board(name: str, root: Path) -> Path:
    fake_board.build(fake_board.describe(name), root)
    return root


EXPECTED = {
    # 125 and 770 per mille; 51 and 102 of 255
    "nano": JetsonState(
        0.125, 76_800_000, 1_600_000_000, 0.2, None, JetsonPowerMode("MAXN", 0), 2523136 * KIB, 120000 * KIB, None
    ),
    "orin_nano": JetsonState(
        0.77, 612_000_000, None, 0.4, 2140, JetsonPowerMode("MAXN_SUPER", 2), 2580480 * KIB, 1048576 * KIB, 2048 * KIB
    ),
    "agx_orin": JetsonState(
        0.35, 1_020_000_000, None, None, None, JetsonPowerMode("30W", 2), 55000000 * KIB, None, None
    ),
    "thor": JetsonState(None, 1_400_000_000, None, None, None, JetsonPowerMode("120W", 1), 119000000 * KIB, None, None),
}


@pytest.mark.parametrize("name", fake_board.names())
def test_the_state_of_every_board_is_read_and_what_it_lacks_is_unknown(name, tmp_path):
    root = board(name, tmp_path)
    assert is_jetson(root)
    assert jetson_state(root, lambda: fake_board.describe(name)["nvpmodel"]) == EXPECTED[name]


def test_a_machine_that_is_no_jetson_knows_nothing_of_it(tmp_path):
    assert not is_jetson(tmp_path)
    assert jetson_state(tmp_path, lambda: None) == JetsonState(*(None,) * 9)


@pytest.mark.parametrize(
    ("output", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", JetsonPowerMode("MAXN", 0)),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: 25W\r\n1\r\n", JetsonPowerMode("25W", 1)),
        ("NV Power Mode: MAXN_SUPER\nNV Fan Mode:quiet\n", JetsonPowerMode("MAXN_SUPER", None)),
        ("NV Power Mode: 15W", JetsonPowerMode("15W", None)),
        ("NVPM ERROR: cannot open /etc/nvpmodel.conf\n", None),
        ("", None),
    ],
)
def test_the_power_mode_is_what_nvpmodel_prints(output, mode):
    assert power_mode(output) == mode


def test_zones_that_sleep_or_are_switched_off_have_no_temperature(tmp_path):
    orin = board("orin_nano", tmp_path / "orin")  # cv0-thermal sleeps
    agx = board("agx_orin", tmp_path / "agx")  # cv1-thermal reads -256
    assert temperatures_c(orin) == {"cpu-thermal": 55.125, "gpu-thermal": 54.5, "tj-thermal": 55.75}
    assert temperatures_c(agx) == {"cpu-thermal": 48.5, "gpu-thermal": 45.125}


def test_two_zones_of_one_type_are_kept_apart(tmp_path):
    fake_board.build({"zone": [{"type": "acpitz", "milli": 30000}, {"type": "acpitz", "milli": 41000}]}, tmp_path)
    assert temperatures_c(tmp_path) == {"acpitz": 30.0, "acpitz (thermal_zone1)": 41.0}


def test_what_slows_the_board_is_throttling_and_a_fan_is_not(tmp_path):
    coolers = ["pwm-fan", "gpu-throttle-alert", "cpu-throttle-alert", "LCD", "thermal-cpufreq-0", "thermal-cpufreq-0"]
    states = [3, 1, 0, 7, 2, 2]
    fake_board.build(
        {"cooler": [{"type": t, "state": s} for t, s in zip(coolers, states, strict=True)]},
        tmp_path,
    )
    assert slowed_by(tmp_path) == ("gpu-throttle-alert", "thermal-cpufreq-0")


def test_where_nothing_says_whether_it_throttles_that_is_unknown_and_not_no(tmp_path):
    state = board_state(board("nano", tmp_path), 1.0)  # its only cooling device is the fan
    assert state.throttle is None
    assert state_summary([state], 0, 2).throttled_share is None


def test_events_are_those_of_jetson_and_the_sums_of_x86(tmp_path):
    board("orin_nano", tmp_path)
    for cpu, kind, count in ((0, "package", 5), (0, "core", 2), (11, "core", 3)):
        file = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle/{kind}_throttle_count"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{count}\n")
    assert throttle_events(tmp_path) == {"oc1 events": 0, "oc3 events": 37, "core throttle": 5, "package throttle": 5}


def test_a_board_state_has_the_clock_of_the_fastest_core(tmp_path):
    state = board_state(board("orin_nano", tmp_path), 2.5)
    assert state.t_s == 2.5
    assert state.clock_hz == {"cpu": 1_728_000_000, "gpu": 612_000_000}
    assert state.throttle == ()


def series() -> list[BoardState]:
    """Three minutes, a look every 30 s: the clock halves at 90 s, when throttling begins."""
    states = []
    for t in range(0, 181, 30):
        hot = t >= 90
        throttle, hertz = (("gpu-throttle-alert",), 5e8) if hot else ((), 1e9)
        states.append(BoardState(t, {"gpu": 50 + t / 10}, {"gpu": hertz}, throttle, {"oc3 events": 7 if hot else 4}))
    return states


def test_the_first_minute_is_held_against_the_last():
    first, last = state_summary(series(), 0, 60), state_summary(series(), 120, 180)
    assert (first.mean_hz, first.hottest_c, first.throttled_share) == ({"gpu": 1e9}, {"gpu": 56.0}, 0.0)
    assert (last.mean_hz, last.hottest_c, last.throttled_share) == ({"gpu": 5e8}, {"gpu": 68.0}, 1.0)
    assert last.throttle == ("gpu-throttle-alert",)


def test_only_events_that_grew_in_the_spell_are_events_of_the_spell():
    assert state_summary(series(), 0, 60).events == {}
    assert state_summary(series(), 60, 180).events == {"oc3 events": 3}


def test_a_spell_without_a_look_is_unknown():
    assert state_summary(series(), 200, 300) is None


def test_the_board_meter_looks_at_the_beginning_and_at_the_end(tmp_path):
    meter = board_meter(board("nano", tmp_path))
    assert meter.why_unavailable() is None
    with meter.window() as window, pytest.raises(RuntimeError, match="still open"):
        (tmp_path / "sys/class/thermal/thermal_zone2/temp").write_text("61000\n")
        window.reading()
    looks = window.reading()
    assert (looks.first.temperature_c["GPU-therm"], looks.last.temperature_c["GPU-therm"]) == (25.5, 61.0)


def test_the_jetson_meter_sees_memory_that_the_gpu_takes(tmp_path):
    meter = jetson_meter(board("orin_nano", tmp_path))
    assert meter.why_unavailable() is None
    with meter.window() as window:
        (tmp_path / "proc/meminfo").write_text("MemAvailable: 2056192 kB\nNvMapMemUsed: 1572864 kB\n")
    looks = window.reading()
    assert looks.first.memory_available_bytes - looks.last.memory_available_bytes == 524288 * KIB
    assert looks.last.nvmap_bytes - looks.first.nvmap_bytes == 524288 * KIB


def test_a_machine_that_hides_its_sensors_says_so(tmp_path):
    assert "measure on the board itself" in (board_meter(tmp_path).why_unavailable() or "")
    assert "no Jetson" in (jetson_meter(tmp_path).why_unavailable() or "")


def test_the_tool_writes_a_board_once(tmp_path):
    command = [sys.executable, fake_board.__file__, "thor", "--out", str(tmp_path / "thor")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert is_jetson(tmp_path / "thor")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode != 0 and "name a new folder" in again.stderr
