"""What else a machine does, read from made files of a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune_runtime.meters import MachineUse, look, machine_use
from edgeprune_runtime.meters.boards.nvml import open_nvml
from tests.runtime.meters.test_meters_nvml import Library, only

TICKS = 100  # of a second: a made kernel's, and Linux' on every machine that runs these tests


def machine(root: Path, *, user: int = 0, steal: int = 0, load: str = "0.10", held_us: int | None = None) -> Path:
    """Two processors; counters are sums over both, in ticks."""
    (root / "proc").mkdir(parents=True, exist_ok=True)
    line = f"{user} 0 0 5000 40 0 0 {steal} 0 0"
    (root / "proc/stat").write_text(f"cpu  {line}\ncpu0 {line}\ncpu1 {line}\nctxt 12\n")
    (root / "proc/loadavg").write_text(f"{load} 0.20 0.30 1/100 4242\n")
    if held_us is not None:
        (root / "sys/fs/cgroup").mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup/cpu.stat").write_text(f"usage_usec 1\nthrottled_usec {held_us}\n")
    return root


def use(root: Path, seconds: float = 10.0, **later: object) -> MachineUse:
    first = look(machine(root, held_us=0 if "held_us" in later else None), now_s=100.0)
    return machine_use([first, look(machine(root, **later), now_s=100.0 + seconds)])  # type: ignore[arg-type]


def test_other_programs_are_what_the_machine_did_without_this_one(tmp_path: Path) -> None:
    found = use(tmp_path, user=12 * TICKS)
    assert found.cores == 2
    assert found.other_cores == pytest.approx(1.2, abs=0.05), "12 s of work in 10 s, this process next to nothing"


def test_the_time_of_this_process_is_not_that_of_others(tmp_path: Path) -> None:
    first = look(machine(tmp_path), now_s=0.0)
    while look(tmp_path).own_s < first.own_s + 0.05:
        sum(range(10_000))
    last = look(machine(tmp_path, user=TICKS), now_s=1.0)
    assert machine_use([first, last]).other_cores == pytest.approx(1.0 - (last.own_s - first.own_s))


def test_time_that_the_host_takes_is_a_share_of_all_processors(tmp_path: Path) -> None:
    assert use(tmp_path, steal=4 * TICKS).stolen_share == pytest.approx(0.2)


def test_a_limit_of_the_container_and_the_load_are_read(tmp_path: Path) -> None:
    found = use(tmp_path, load="3.50", held_us=2_500_000)
    assert (found.held_back_s, found.load) == (2.5, 3.5)


def test_what_cannot_be_read_is_unknown_and_not_quiet(tmp_path: Path) -> None:
    found = machine_use([look(tmp_path, now_s=0.0), look(tmp_path, now_s=1.0)])
    assert (found.cores, found.other_cores, found.stolen_share, found.held_back_s, found.load) == (None,) * 5
    assert found.flags == ()


def test_damaged_counters_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  many of them\n")
    (tmp_path / "proc/loadavg").write_text("high\n")
    assert (look(tmp_path).busy_s, look(tmp_path).load) == (None, None)


def test_throttling_and_clocks_that_fell_become_sentences(tmp_path: Path) -> None:
    def at(t: float, khz: int, slowed: int) -> object:
        clock = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
        cooling = tmp_path / "sys/class/thermal/cooling_device0"
        for folder in (clock, cooling):
            folder.mkdir(parents=True, exist_ok=True)
        (clock / "scaling_cur_freq").write_text(f"{khz}\n")
        (cooling / "type").write_text("cpufreq-cpu0\n")
        (cooling / "cur_state").write_text(f"{slowed}\n")
        return look(tmp_path, now_s=t)

    found = machine_use([at(0, 3_000_000, 0), at(1, 3_000_000, 0), at(9, 2_000_000, 1), at(10, 2_000_000, 1)])  # type: ignore[list-item]
    assert any("throttled in 50%" in flag for flag in found.flags)
    assert any("clock of cpu fell from 3000 to 2000 MHz" in flag for flag in found.flags)


def test_a_gpu_that_works_is_asked_for_its_load_and_its_limits(tmp_path: Path) -> None:
    library = Library()
    gpu = open_nvml(load=only(library), environ={})
    found = machine_use([look(tmp_path, now_s=t, gpu=gpu) for t in (0.0, 1.0)])
    assert found.gpu_load == pytest.approx(0.37)
    assert found.board is not None and found.board.hottest_c["nvml gpu"] == 64
    assert any("nvml" in flag for flag in found.flags), "what holds its clocks back"
    assert machine_use([look(tmp_path, now_s=t) for t in (0.0, 1.0)]).gpu_load is None
