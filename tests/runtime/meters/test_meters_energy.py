from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgeprune_runtime.meters.energy import EnergyMeter, find_domains


class Tree:
    """A made powercap folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def domain(self, folder: str, name: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
        path = self.root / folder
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
        (path / "energy_uj").write_text(f"{energy_uj}\n")
        return path / "energy_uj"

    def meter(self, *ticks_ns: int) -> EnergyMeter:
        return EnergyMeter(self.root, clock_ns=iter(ticks_ns or (0, 3_000_000_000)).__next__)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_adds_up_packages_in_joules(tree):
    first = tree.domain("intel-rapl:0", "package-0", 100_000)
    second = tree.domain("intel-rapl:1", "package-1", 700_000)
    with tree.meter().window() as window:
        first.write_text("350000")
        second.write_text("950000")
    reading = window.reading()
    assert reading.source == "rapl:package-0+package-1"
    assert reading.energy_j == pytest.approx(0.5)
    assert reading.duration_s == 3.0


def test_parts_of_a_package_and_the_whole_platform_are_not_counted_again(tree):
    tree.domain("intel-rapl:0", "package-0", 0)
    tree.domain("intel-rapl:0:0", "core", 0)
    tree.domain("intel-rapl:0:1", "dram", 0)
    tree.domain("intel-rapl:1", "psys", 0)
    tree.domain("intel-rapl-mmio:0", "package-0", 0)
    assert [domain.file.parent.name for domain in find_domains(tree.root)] == ["intel-rapl:0"]


def test_a_counter_that_wraps_around_is_unrolled(tree):
    counter = tree.domain("intel-rapl:0", "package-0", 900_000, range_uj=1_000_000)
    with tree.meter().window() as window:
        counter.write_text("200000")
    assert window.reading().energy_j == pytest.approx(0.3)


def test_several_wraps_are_counted_by_the_samples_in_between(tree):
    counter = tree.domain("intel-rapl:0", "package-0", 0, range_uj=1_000_000)
    with tree.meter().window() as window:
        for value in (800_000, 400_000, 0, 600_000):  # +0.8 +0.6 +0.6 +0.6
            counter.write_text(str(value))
            window.sample()
    assert window.reading().energy_j == pytest.approx(2.6)


def test_no_sensor_reads_unknown_and_never_zero(tmp_path):
    meter = EnergyMeter(tmp_path / "absent", clock_ns=iter((0, 10**9)).__next__)
    with meter.window() as window:
        pass
    reading = window.reading()
    assert reading.energy_j is None
    assert reading.duration_s == 1.0
    assert reading.source == f"unknown: {meter.why_unavailable()}"


def test_a_counter_that_stands_still_is_no_measurement(tree):
    tree.domain("intel-rapl:0", "package-0", 5)
    with tree.meter().window() as window:
        pass
    assert window.reading().energy_j is None
    assert "did not move" in window.reading().source


def test_a_counter_that_vanishes_makes_the_whole_window_unknown(tree):
    counter = tree.domain("intel-rapl:0", "package-0", 5)
    with tree.meter().window() as window:
        counter.unlink()
    assert window.reading().energy_j is None
    assert "stopped answering" in window.reading().source


@pytest.mark.parametrize(("number", "root_helps"), [(errno.EACCES, True), (errno.ENODATA, False), (errno.EIO, False)])
def test_an_unreadable_counter_says_what_to_do(tree, monkeypatch, number, root_helps):
    tree.domain("intel-rapl:0", "package-0", 5)
    read = Path.read_text

    def refuse(path, *arguments, **named):
        if path.name == "energy_uj":
            raise OSError(number, os.strerror(number))
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    why = tree.meter().why_unavailable() or ""
    assert os.strerror(number) in why
    assert ("sudo chmod a+r" in why) == root_helps


def test_no_package_domain_says_what_to_do(tree):
    tree.domain("intel-rapl:0", "psys", 5)
    assert "modprobe" in (tree.meter().why_unavailable() or "")


def test_a_readable_package_is_available(tree):
    tree.domain("intel-rapl:0", "package-0", 5)
    assert tree.meter().why_unavailable() is None
