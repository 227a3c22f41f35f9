from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters import METERS, environment, meter, survey

CPUINFO = """processor\t: {0}
model name\t: Made-up CPU
physical id\t: 0
core id\t\t: {1}
flags\t\t: fpu {2}
"""


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_reads_a_bare_machine(tmp_path):
    cpu = "sys/devices/system/cpu/cpufreq/policy"
    root = make(tmp_path, {
        "proc/cpuinfo": "\n".join(CPUINFO.format(i, i // 2, "avx2") for i in range(4)),
        "proc/meminfo": "MemTotal:       1024 kB\nMemFree: 1 kB\n",
        "etc/os-release": 'NAME=x\nPRETTY_NAME="Test OS 1"\n',
        f"{cpu}0/scaling_governor": "powersave\n", f"{cpu}1/scaling_governor": "performance\n",
        f"{cpu}0/scaling_min_freq": "800000\n", f"{cpu}0/scaling_max_freq": "3000000\n",
        f"{cpu}1/scaling_min_freq": "400000\n", f"{cpu}1/scaling_max_freq": "4200000\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
    })  # fmt: skip
    found = environment(root)
    assert (found.cpu_model, found.cores_logical, found.cores_physical) == ("Made-up CPU", 4, 2)
    assert found.governor == "performance, powersave"
    assert (found.frequency_min_hz, found.frequency_max_hz) == (400_000_000, 4_200_000_000)
    assert (found.memory_bytes, found.system, found.cpu_quota_cores) == (1024 * 1024, "Test OS 1", 1.5)
    assert found.isolation is None


def test_unknown_stays_none(tmp_path):
    found = environment(tmp_path)
    assert (found.governor, found.frequency_max_hz, found.cpu_quota_cores, found.isolation) == (None,) * 4


@pytest.mark.parametrize("quota", ["max 100000", "", "garbage"])
def test_no_limit_is_none(tmp_path, quota):
    assert environment(make(tmp_path, {"sys/fs/cgroup/cpu.max": quota})).cpu_quota_cores is None


def test_names_virtual_machine_and_container(tmp_path):
    files = {"proc/cpuinfo": CPUINFO.format(0, 0, "hypervisor"), "sys/class/dmi/id/sys_vendor": "QEMU\n"}
    root = make(tmp_path, {**files, ".dockerenv": ""})
    assert environment(root).isolation == "virtual machine (QEMU), container (docker)"


def test_an_arm_board_names_itself(tmp_path):
    files = {"proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n"}
    root = make(tmp_path, {**files, "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"})
    assert environment(root).cpu_model == "NVIDIA Jetson Orin Nano"


def test_an_arm_core_without_a_board_name_is_given_by_part(tmp_path):
    root = make(tmp_path, {"proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n"})
    assert environment(root).cpu_model == "ARM implementer 0x41 part 0xd42"


def test_a_jetson_has_the_power_mode_that_nvpmodel_prints(tmp_path):
    tegra = {"proc/device-tree/compatible": "nvidia,p3767\0nvidia,tegra234\0"}
    assert environment(make(tmp_path / "orin", tegra), lambda: "NV Power Mode: 15W\n0\n").power_mode == "15W"
    assert environment(make(tmp_path / "pc", {}), lambda: "NV Power Mode: 15W\n0\n").power_mode is None


def test_versions_name_what_is_installed(tmp_path):
    found = environment(tmp_path)
    assert set(found.versions) == {"edgeprune", "numpy", "onnxruntime"}
    assert found.versions["numpy"]
    assert found.providers is not None
    assert "CPUExecutionProvider" in found.providers


def test_every_registered_meter_says_whether_it_can_measure():
    assert set(survey()) == set(METERS) == {"board", "energy", "jetson_board", "jetson_rails", "memory", "nvml", "rapl"}
    assert all(why is None or len(why) > 20 for why in survey().values())


@pytest.mark.parametrize("name", METERS.names())
def test_every_meter_gives_a_reading_with_a_source(name):
    with meter(name).window() as window:
        pass
    assert window.reading().source


def test_an_unknown_meter_is_answered_with_a_suggestion():
    with pytest.raises(MeasurementError, match="did you mean 'energy'"):
        meter("enregy")


def test_a_meter_name_is_taken_once():
    with pytest.raises(MeasurementError, match="registered twice"):
        METERS.add("energy", lambda: meter("energy"))
