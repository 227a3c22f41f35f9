"""Which source is picked and why, and windows over a source that a thread samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.boards.jetson_rails import open_rails
from edgeprune_runtime.meters.power.base import Tick
from edgeprune_runtime.meters.power.source_meter import SourceMeter
from edgeprune_runtime.meters.power.sources import SOURCES, SourceCandidate, open_source, pick, power_sources
from tools import fake_board

BOARD = SourceCandidate("jetson_rails", "ina3221:VDD_IN", "module", None)
GPU = SourceCandidate("nvml", "nvml:energy_counter", "gpu", None)
CPU = SourceCandidate("rapl", "rapl:package-0", "cpu", None)
NO_BOARD = SourceCandidate("jetson_rails", None, None, "no rails")
NO_GPU = SourceCandidate("nvml", None, None, "no driver")
NO_CPU = SourceCandidate("rapl", None, None, "only root may read it")


@pytest.mark.parametrize(
    ("candidates", "device", "kind"),
    [
        ((BOARD, GPU, CPU), "gpu", "jetson_rails"),
        ((BOARD, GPU, CPU), "cpu", "jetson_rails"),
        ((NO_BOARD, GPU, CPU), "gpu", "nvml"),
        ((NO_BOARD, GPU, CPU), "cpu", "rapl"),
        ((NO_BOARD, GPU, NO_CPU), "cpu", "none"),
    ],
)
def test_the_source_that_covers_the_working_device_is_picked(candidates, device, kind):
    assert pick(candidates, device).kind == kind


def test_with_no_source_every_reason_is_given():
    picked = pick((NO_BOARD, GPU, NO_CPU), "cpu")
    assert picked.why_not == (
        "no power sensor for this work. jetson_rails: no rails. "
        "nvml: it covers the gpu only, and the work runs on the cpu. rapl: only root may read it"
    )


def rapl(root: Path) -> Path:
    folder = root / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    for name, text in {"name": "package-0", "max_energy_range_uj": "1000000", "energy_uj": "900000"}.items():
        (folder / name).write_text(text)
    return folder / "energy_uj"


def test_a_board_with_rails_is_found_by_looking(tmp_path):
    fake_board.build(fake_board.describe("thor"), tmp_path)
    found = {candidate.kind: candidate for candidate in power_sources(tmp_path)}
    assert found["jetson_rails"] == SourceCandidate("jetson_rails", "ina238:VIN", "board", None)
    assert "does not exist" in found["rapl"].why_not


def test_a_rapl_counter_is_a_source_that_unrolls_and_counts_its_wraps(tmp_path):
    counter = rapl(tmp_path)
    source = SOURCES["rapl"](tmp_path)
    assert source.read() == Tick(energy_j=0.0)
    counter.write_text("200000")  # +0.1 J to the end of the range and +0.2 J after it
    assert source.read() == Tick(energy_j=pytest.approx(0.3), wraps=1)
    counter.unlink()
    assert source.read() == Tick()


def test_an_unknown_kind_reads_nothing_and_says_so(tmp_path):
    source = open_source("telepathy", tmp_path, "")
    assert "known: jetson_rails, nvml, rapl" in source.name
    assert source.read() == Tick()


class Scripted:
    name, covers, parts = "fake:rail", "module", ()

    def __init__(self, ticks, averaging_s=None):
        self._ticks, self.averaging_s = list(ticks), averaging_s

    def read(self):
        return self._ticks.pop(0)


def meter(ticks, averaging_s=None, seconds=(0, 2)):
    """Read once on entering and once on leaving: the thread waits for longer than any test."""
    source = Scripted(ticks, averaging_s)
    return SourceMeter("fake", lambda: source, iter(t * 1_000_000_000 for t in seconds).__next__)


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr("edgeprune_runtime.meters.power.source_meter.period_for", lambda averaging_s: 60.0)


def reading(meter):
    with meter.window() as window, pytest.raises(RuntimeError, match="still open"):
        window.reading()
    return window.reading()


def test_a_window_over_power_is_its_integral(patient):
    found = reading(meter([Tick(5.0), Tick(7.0)]))
    assert (found.source, found.energy_j, found.duration_s) == ("fake:rail", pytest.approx(12.0), 2.0)


def test_a_window_over_a_counter_is_its_difference(patient):
    assert reading(meter([Tick(energy_j=3.0), Tick(energy_j=10.0)])).energy_j == pytest.approx(7.0)


def test_a_window_shorter_than_two_averages_is_unknown_and_says_how_long_to_measure(patient):
    found = reading(meter([Tick(5.0), Tick(5.0)], averaging_s=1.5))
    assert found.energy_j is None
    assert "averages over 1.5 s; measure 3 s or longer, not 2 s" in found.source


def test_a_sensor_that_is_lost_makes_the_window_unknown(patient):
    found = reading(meter([Tick(5.0), Tick()]))
    assert found.energy_j is None
    assert "stopped answering" in found.source


def test_a_meter_without_a_source_reads_unknown(patient):
    def refuse():
        raise MeasurementError("no rails; buy some")

    meter = SourceMeter("fake", refuse)
    assert meter.why_unavailable() == "no rails; buy some"
    with meter.window() as window:
        pass
    assert (window.reading().source, window.reading().energy_j) == ("unknown: no rails; buy some", None)


def test_a_made_board_is_measured_by_a_thread(tmp_path):
    fake_board.build(fake_board.describe("nano"), tmp_path)
    with SourceMeter("jetson_rails", lambda: open_rails(tmp_path)).window() as window:
        pass
    found = window.reading()
    assert found.energy_j == pytest.approx(2.4 * found.duration_s)
