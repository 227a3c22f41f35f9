"""Rails of four boards, made from descriptions; the expected watts are mV * mA / 1e6 by hand."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.boards.jetson_rails import find_rails, open_rails
from tools import fake_board

ORIN_NANO = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
AGX_ORIN = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


@pytest.fixture
def board(tmp_path: Path):
    def make(name: str) -> Path:
        fake_board.build(fake_board.describe(name), tmp_path)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("name", "source", "covers", "watts", "averaging_s"),
    [
        ("nano", "ina3221x:POM_5V_IN", "module", 2.4, None),
        ("orin_nano", "ina3221:VDD_IN", "module", 12.0, 0.43),
        ("agx_orin", "ina3221:VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0", "module", 5.7 + 1.9 + 5.0, 0.43),
        ("thor", "ina238:VIN", "board", 25.1, None),
    ],
)
def test_the_total_is_the_input_rail_or_the_named_sum(board, name, source, covers, watts, averaging_s):
    opened = open_rails(board(name))
    assert (opened.name, opened.covers, opened.averaging_s) == (source, covers, averaging_s)
    assert opened.read().power_w == pytest.approx(watts)
    assert opened.read().energy_j is None


@pytest.mark.parametrize(
    ("name", "rails"),
    [
        ("nano", {"POM_5V_IN": 2.4, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.5}),
        ("orin_nano", {"VDD_IN": 12.0, "VDD_CPU_GPU_CV": 4.0, "VDD_SOC": 2.5}),
        ("agx_orin", {"VDD_GPU_SOC": 5.7, "VDD_CPU_CV": 1.9, "VIN_SYS_5V0": 5.0, "VDDQ_VDD2_1V8AO": 1.0}),
        ("thor", {"VDD_GPU": -0.392, "VDD_CPU_SOC_MSS": 6.0, "VIN_SYS_5V0": 6.0, "VIN": 25.1}),
    ],
)
def test_every_rail_keeps_the_label_of_the_board_and_its_own_watts(board, name, rails):
    opened = open_rails(board(name))
    assert dict(zip(opened.parts, opened.read().parts_w, strict=True)) == pytest.approx(rails)


def test_what_the_driver_averages_is_recorded(board):
    rail = find_rails(board("orin_nano"))[0]
    assert (rail.samples, rail.average_s) == (512, 0.43)


def test_a_negative_rail_counts_as_it_reads_in_a_sum(board):
    root = board("agx_orin")
    (root / AGX_ORIN / "curr1_input").write_text("-20\n")  # 19000 mV * -20 mA = -0.38 W
    assert open_rails(root).read().power_w == pytest.approx(-0.38 + 1.9 + 5.0)


def test_a_rail_that_stops_answering_makes_the_sum_unknown_and_not_smaller(board):
    root = board("agx_orin")
    opened = open_rails(root)
    (root / AGX_ORIN / "curr2_input").unlink()
    tick = opened.read()
    assert tick.power_w is None
    assert tick.parts_w == (5.7, None, 5.0, 1.0)


def test_a_rail_beside_the_input_may_be_missing(board):
    root = board("orin_nano")
    opened = open_rails(root)
    (root / ORIN_NANO / "in3_input").write_text("\n")
    assert (opened.read().power_w, opened.read().parts_w[2]) == (12.0, None)


def test_what_is_left_of_a_sum_is_not_the_board(board):
    root = board("agx_orin")
    for number in (1, 2, 3):
        (root / AGX_ORIN / f"in{number}_label").write_text("NC\n")
    with pytest.raises(MeasurementError, match="VDDQ_VDD2_1V8AO do not make up a board"):
        open_rails(root)


def test_a_monitor_that_two_folders_lead_to_is_read_once(board):
    root = board("agx_orin")
    (root / "sys/class/hwmon").mkdir(parents=True)
    (root / "sys/class/hwmon/hwmon3").symlink_to(root / AGX_ORIN)
    assert len(find_rails(root)) == 4


def test_other_monitors_of_a_machine_are_no_rails(board, tmp_path):
    root = board("nano")
    for name, text in {"name": "nct6775", "in1_label": "VIN", "in1_input": "12000", "curr1_input": "9000"}.items():
        path = root / "sys/class/hwmon/hwmon9" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert [rail.label for rail in find_rails(root)] == ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"]


def test_no_monitor_says_which_boards_have_one(tmp_path):
    with pytest.raises(MeasurementError, match="only Jetson boards have them"):
        open_rails(tmp_path)


def test_an_input_rail_that_cannot_be_read_is_named(board):
    root = board("orin_nano")
    (root / ORIN_NANO / "in1_input").unlink()
    (root / ORIN_NANO / "in1_input").mkdir()  # fails to read for root too, unlike a file without permission
    with pytest.raises(MeasurementError, match="VDD_IN: is a directory"):
        open_rails(root)


def add_monitor(root: Path, folder: str, **files: object) -> Path:
    place = root / "sys/class/hwmon" / folder
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_text(f"{content}\n")
    return place


def fan_monitor(root: Path, folder: str = "hwmon6") -> Path:
    return add_monitor(root, folder, name="ina238", in1_input=12000, curr1_input=50, power1_input=600000)


@pytest.mark.parametrize(
    ("name", "source", "watts"),
    [
        ("orin_nano", "ina3221:VDD_IN", 12.0),
        ("agx_orin", "ina3221:VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0", 12.6),
        ("nano", "ina3221x:POM_5V_IN", 2.4),
    ],
)
def test_a_monitor_that_was_added_is_a_rail_and_never_the_board(board, name, source, watts):
    root = board(name)
    fan_monitor(root)
    add_monitor(root, "hwmon7", name="ina3221", in1_label="VIN", in1_input=5000, curr1_input=10)
    opened = open_rails(root)
    assert (opened.name, opened.covers) == (source, "module")
    assert opened.read().power_w == pytest.approx(watts)
    assert "ina238 1" in opened.parts


def test_with_two_unlabelled_monitors_none_is_the_carriers_input(board):
    root = board("thor")
    fan_monitor(root)
    opened = open_rails(root)
    assert (opened.name, opened.covers) == ("ina3221:VDD_GPU+VDD_CPU_SOC_MSS+VIN_SYS_5V0", "module")


def test_two_rails_of_one_name_are_refused(board):
    root = board("orin_nano")
    add_monitor(root, "hwmon7", name="ina3221", in1_label="VDD_IN", in1_input=5000, curr1_input=10)
    with pytest.raises(MeasurementError, match="two monitors have a power rail called VDD_IN"):
        open_rails(root)


def test_renamed_rails_are_not_added_up(board):
    root = board("orin_nano")
    (root / ORIN_NANO / "in1_label").write_text("MY_INPUT\n")
    with pytest.raises(MeasurementError, match="MY_INPUT.*do not make up a board: expected VDD_IN"):
        open_rails(root)


@pytest.mark.parametrize("label", ["VDD_IN", "CPU"])
def test_monitors_of_a_machine_that_is_no_jetson_are_not_its_power(tmp_path, label):
    add_monitor(tmp_path, "hwmon3", name="ina3221", in1_label=label, in1_input=5000, curr1_input=10)
    fan_monitor(tmp_path)
    with pytest.raises(MeasurementError, match=f"power monitors.*{label}.*nothing says that this is a Jetson"):
        open_rails(tmp_path)


def test_a_container_that_hides_the_device_tree_still_has_the_labels(board):
    root = board("orin_nano")
    (root / "proc/device-tree/compatible").unlink()
    (root / "sys/devices/soc0").mkdir(parents=True)
    (root / "sys/devices/soc0/family").write_text("Tegra\n")
    fan_monitor(root)
    assert open_rails(root).name == "ina3221:VDD_IN"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENODATA, "no value now"), (errno.EACCES, "only root may read it"), (errno.EIO, "input/output error")],
)
def test_a_silent_rail_says_why(board, monkeypatch, number, words):
    root = board("orin_nano")
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "curr1_input":
            raise OSError(number, os.strerror(number))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(MeasurementError, match=f"VDD_IN: .*{words}"):
        open_rails(root)
