"""Lines of four boards, and the odd forms, against what a person reads in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_runtime.meters.boards.tegrastats import Engine, RailPower, TegrastatsLine, parse
from tools import fake_board

MIB = 1 << 20
OFF = Engine(on=False)


def line(name: str) -> TegrastatsLine:
    return parse(fake_board.describe(name)["tegrastats"])


def test_orin_nano_with_jetpack_6():
    read = line("orin_nano")
    assert read.date == "05-01-2025 10:00:01"
    assert read.memory_bytes == {"RAM": (5100 * MIB, 7620 * MIB), "SWAP": (12 * MIB, 16384 * MIB)}
    assert read.largest_free_block_bytes == MIB
    assert read.cores[0] == Engine(True, 0.71, (1.728e9,)) and read.cores[5] == OFF and len(read.cores) == 6
    assert read.engines["GR3D_FREQ"] == Engine(True, 0.77, (612e6,))
    assert read.engines["EMC_FREQ"] == Engine(True, 0.21, (3199e6,))
    assert read.engines["VIC"] == Engine(True, 0.02, (115e6,))
    assert read.engines["NVJPG1"] == OFF and read.engines["APE"].load is None
    assert read.temperature_c == {"cpu": 55.125, "gpu": 54.5, "tj": 55.75, "soc0": 52.031, "cv0": 52.5}
    assert read.power == {
        "VDD_IN": RailPower(11.85, 10.42), "VDD_CPU_GPU_CV": RailPower(5.12, 4.31), "VDD_SOC": RailPower(2.98, 2.71)
    }  # fmt: skip


def test_agx_orin_with_jetpack_7_has_highest_values():
    read = line("agx_orin")
    assert set(read.memory_bytes) == {"RAM"}
    assert read.engines["GR3D_FREQ"] == Engine(True, 0.35, (1020e6, 1020e6))
    assert read.temperature_c == {"cpu": 48.5, "gpu": 45.125}
    assert read.power == {
        "VDD_GPU_SOC": RailPower(6.2, 5.8, 7.1), "VDD_CPU_CV": RailPower(2.1, 2.0, 2.6), "VIN_SYS_5V0": RailPower(5.3, 5.25, 5.6)
    }  # fmt: skip


def test_thor_has_clocks_without_a_load():
    read = line("thor")
    assert read.cores == (Engine(True, 0.55, (2.601e9,)), OFF, Engine(True, 0.04, (2.601e9,)))
    assert read.engines["NVENC0_FREQ"] == Engine(True, None, (1691e6,))
    assert read.engines["GR3D_FREQ"] == Engine(True, 0.6, (1.4e9, 1.4e9, 1.4e9))
    assert read.power["VIN"] == RailPower(61.0, 34.0, 63.0) and len(read.power) == 4


def test_nano_with_jetpack_4_has_powers_without_a_unit():
    read = line("nano")
    assert read.date is None
    assert read.memory_bytes == {"RAM": (1500 * MIB, 3964 * MIB), "SWAP": (0, 2048 * MIB), "IRAM": (0, 252 << 10)}
    assert read.largest_free_block_bytes == 4 * MIB
    assert read.power == {
        "POM_5V_IN": RailPower(2.4, 2.41),
        "POM_5V_GPU": RailPower(0.0, 0.0),
        "POM_5V_CPU": RailPower(0.5, 0.51),
    }
    assert read.temperature_c["PMIC"] == 100.0


@pytest.mark.parametrize(
    ("text", "name", "engine"),
    [
        ("GR3D_FREQ 45%@318", "GR3D_FREQ", Engine(True, 0.45, (318e6,))),
        ("GR3D_FREQ 0%@[0,0]", "GR3D_FREQ", Engine(True, 0.0, (0.0, 0.0))),
        ("GR3D_FREQ @[1400,1400,1400]", "GR3D_FREQ", Engine(True, None, (1.4e9, 1.4e9, 1.4e9))),
        ("GR3D_FREQ 0%@114 GR3D2_FREQ 3%@114", "GR3D2_FREQ", Engine(True, 0.03, (114e6,))),
        ("GR3D 3%@76", "GR3D", Engine(True, 0.03, (76e6,))),
        ("EMC_FREQ 0%", "EMC_FREQ", Engine(True, 0.0)),
        ("EMC_FREQ @4266", "EMC_FREQ", Engine(True, None, (4266e6,))),
        ("NVDLA0_FREQ off", "NVDLA0_FREQ", OFF),
        ("NVDEC 192 APE 25", "NVDEC", Engine(True, None, (192e6,))),
        ("VIC_FREQ 729 APE 174", "APE", Engine(True, None, (174e6,))),
        ("APE 150 MTS fg 1% bg 2%", "MTS fg", Engine(True, 0.01)),
        ("APE 150 MTS fg 1% bg 2%", "MTS bg", Engine(True, 0.02)),
    ],
)
def test_every_form_of_an_engine_is_read(text, name, engine):
    assert parse(text).engines[name] == engine


def test_cores_of_an_idle_thor_share_one_clock():
    assert parse("CPU [0%,5%,off]@2601").cores == (Engine(True, 0.0, (2.601e9,)), Engine(True, 0.05, (2.601e9,)), OFF)


def test_cores_of_jetpack_3_are_in_small_letters():
    """A TX1: four cores of one clock; a TX2: each core has its own."""
    line = "RAM 3121/3983MB (lfb 48x4MB) cpu [17%,13%,29%,5%]@408 EMC 1%@408 APE 25 GR3D 3%@76"
    assert parse(line).cores == tuple(Engine(True, load, (408e6,)) for load in (0.17, 0.13, 0.29, 0.05))
    assert parse(line).engines.keys() == {"EMC", "APE", "GR3D"}
    assert parse("cpu [0%@1994,1%@2035]").cores == (Engine(True, 0.0, (1.994e9,)), Engine(True, 0.01, (2.035e9,)))


def test_a_power_is_no_clock_and_a_clock_no_power():
    found = parse("GPU 509/409 CPU 679/679 APE 150 VIN 2935mW")
    assert found.engines == {"APE": Engine(True, None, (150e6,))}
    assert found.power == {"GPU": RailPower(0.509, 0.409), "CPU": RailPower(0.679, 0.679), "VIN": RailPower(2.935)}


@pytest.mark.parametrize(
    ("text", "power"),
    [
        ("VDD_IN 4000mW", RailPower(4.0)),
        ("VDD_IN 4000mW/3000mW", RailPower(4.0, 3.0)),
        ("VDD_IN 4000/3000", RailPower(4.0, 3.0)),
        ("VDD_IN 4000mW/3000mW/5000mW", RailPower(4.0, 3.0, 5.0)),
        ("VDD_IN -392mW/-100mW/0mW", RailPower(-0.392, -0.1, 0.0)),
    ],
)
def test_one_to_three_powers_are_read(text, power):
    assert parse(text).power == {"VDD_IN": power}


def test_a_sensor_that_is_switched_off_has_no_temperature():
    assert parse("CV0@-256C GPU@40C").temperature_c == {"GPU": 40.0}


def test_small_free_blocks_are_in_kilobytes():
    assert parse("RAM 1/2MB (lfb 1x512kB)").largest_free_block_bytes == 512 << 10


def test_tokens_that_nobody_knows_are_passed_over():
    known = "GR3D_FREQ 45%@318 VDD_IN 4000mW/3000mW cpu@50C"
    assert parse(f"NEWTHING {{7}} {known} WHAT?? 12q FOO@bar") == parse(known)


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text):
    assert isinstance(parse(text), TegrastatsLine)
