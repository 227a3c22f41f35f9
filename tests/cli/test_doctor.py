from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from edgeprune import doctor
from edgeprune_runtime import backends
from edgeprune_runtime.errors import BackendUnavailable
from tests.commands import answer, invoke


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """An Arm board with little in it."""
    for name, text in {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n",
        "proc/meminfo": "MemTotal: 4000 kB\nMemAvailable: 1000 kB\n",
        "sys/fs/cgroup/memory.max": "2048000\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "powersave\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def lacks(monkeypatch, *missing):
    version = metadata.version

    def found(name):
        if name in missing:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", found)


def test_says_what_is_installed_and_what_works():
    found = answer("doctor")
    assert found["healthy"] is True
    gpu = {"tensorrt", "tensorrt_rtx", "onnxruntime_cuda", "onnxruntime_tensorrt"}
    assert {part["name"] for part in found["backends"]} == gpu | {"onnxruntime"}
    assert next(part for part in found["backends"] if part["name"] == "onnxruntime")["usable"] is True
    meters = {"board", "energy", "jetson_board", "jetson_rails", "memory", "nvml", "rapl"}
    assert {part["name"] for part in found["meters"]} == meters
    base = {p["name"] for p in found["packages"] if not p["extra"]}
    assert {"numpy", "onnxruntime", "typer"} <= base
    assert "export" in found["extras"] and "dev" not in found["extras"]


def test_whatever_is_not_usable_has_a_reason_and_a_way_out():
    found = answer("doctor")
    for part in [*found["backends"], *found["meters"]]:
        assert part["usable"] or part["why"]
    for package in found["packages"]:
        assert package["ok"] or "pip install" in package["why"]


def test_what_another_python_needs_is_not_asked_of_this_one() -> None:
    names = {package["name"] for package in answer("doctor")["packages"]}
    assert ("tomli" in names) == (sys.version_info < (3, 11))


def test_people_get_tables():
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    for text in ("Backends and instruments", "Packages", "int8:", "memory:"):
        assert text in result.stdout


def test_a_missing_extra_names_its_install_command(monkeypatch):
    lacks(monkeypatch, "torch")
    found = doctor.examine()
    torch = next(p for p in found.packages if p.name == "torch")
    assert (torch.ok, torch.installed) == (False, None)
    assert "`pip install 'torch>=" in torch.why
    assert found.extras["export"] is False
    assert found.healthy


def test_a_machine_that_cannot_run_bundles_is_exit_code_1(monkeypatch):
    def unavailable(name="auto", *, threads=0):
        raise BackendUnavailable("broken; mend it")

    monkeypatch.setattr(backends, "backend", unavailable)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "broken; mend it" in result.stdout
    assert "cannot run bundles yet" in result.stdout


def test_facts_that_matter_for_int8_come_from_the_processor(machine):
    found = doctor.examine(machine)
    assert found.cpu.features == ("Arm dot product", "Arm i8mm")
    assert found.cpu.fast_int8 is True
    (machine / "proc/cpuinfo").write_text("processor: 0\nflags: sse4_2 avx2\n")
    assert doctor.examine(machine).cpu.fast_int8 is False
    (machine / "proc/cpuinfo").unlink()
    assert doctor.examine(machine).cpu.fast_int8 is None


def test_memory_and_its_limit_are_bytes(machine):
    assert doctor.examine(machine).memory == doctor.MachineMemory(4000 * 1024, 1000 * 1024, 2048000)


def test_advice_for_steady_measurements(machine):
    advice = " ".join(doctor.examine(machine).advice)
    assert "powersave" in advice
    assert "--threads 1" in advice


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("2.13.0+cpu", ">=2.6", True), ("2.5.1", ">=2.6", False), ("2.6", ">=2.6.0", True), ("6.0.0", "<6,>=5.0", False),
        ("5.23.0", "<6,>=5.0", True), ("1.0rc1", "", True), ("built here", ">=1", False),
    ],
)  # fmt: skip
def test_versions_are_held_against_their_bounds(version, bounds, fits):
    assert doctor._within(version, SpecifierSet(bounds)) is fits


# --------------------------------------------------------------------------------------- what the machine can do, first

ABILITIES = ["export checkpoints", "run bundles on the CPU", "build engines for RTX GPUs", "run bundles on a GPU"]
DOCTOR = [sys.executable, "-c", "from edgeprune.cli import main; main()", "doctor"]


def test_the_first_lines_say_what_this_machine_can_do() -> None:
    found = answer("doctor")["abilities"]
    assert [one["name"] for one in found] == ABILITIES
    assert all(one["why"] if one["can"] is not True else one["why"] is None for one in found)
    title, _, *lines = invoke("doctor").stdout.splitlines()
    assert title == "What this machine can do"
    assert [line for line in lines if line.startswith(tuple(ABILITIES))] == [
        line for line in lines[:12] if line[:1] != " "
    ][:4]


def test_a_missing_package_is_why_there_is_no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.abilities.EXPORTING", ("numpy", "nowhere"))
    ability = doctor.examine().abilities[0]
    assert ability.can is False and ability.why == "not installed: nowhere; `pip install nowhere`"


def test_what_fails_on_a_strange_machine_is_unknown_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such machine")

    monkeypatch.setattr("edgeprune_runtime.backends.tensorrt_api.load", broken)
    monkeypatch.setattr("edgeprune.abilities.LOWERING", ())
    found = doctor.examine()
    assert found.healthy
    rtx = next(one for one in found.abilities if "RTX" in one.name)
    assert rtx.can is None and "no such machine" in str(rtx.why)
    assert next(one for one in found.backends if one.name == "tensorrt").usable is None


def test_without_proc_and_sys_what_cannot_be_known_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a chroot: psutil reads /proc too."""
    import psutil

    def no_proc(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/meminfo")

    for name in ("virtual_memory", "cpu_count"):
        monkeypatch.setattr(psutil, name, no_proc)
    found = doctor.examine(tmp_path)
    assert found.memory == doctor.MachineMemory(None, None, None)
    assert found.environment.cores_physical is None and found.cpu.fast_int8 is None
    assert [one.name for one in found.abilities] == ABILITIES


@pytest.mark.skipif(not shutil.which("unshare") or os.geteuid() != 0, reason="needs root and unshare")
def test_the_doctor_works_where_proc_is_not_mounted() -> None:
    words = " ".join(f"'{word}'" for word in DOCTOR)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"umount -l /proc || exit 77; exec {words}"], capture_output=True, text=True
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody unmount /proc")
    if "OnnxRuntimeException" in done.stderr:
        pytest.skip("this old onnxruntime ends every process that imports it where there is no /proc")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.startswith("What this machine can do") and "memory: unknown, unknown available" in done.stdout


@pytest.mark.parametrize(
    ("redirection", "settings"),
    [
        ("", {"TERM": "dumb"}),
        ("", {"PYTHONIOENCODING": "ascii"}),
        ("", {"COLUMNS": "20"}),
        (">&-", {}),
        (">&- 2>&-", {}),
        ("<&-", {}),
    ],
)
def test_the_doctor_needs_no_console(redirection: str, settings: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *DOCTOR],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.isascii() or not settings.get("PYTHONIOENCODING")
