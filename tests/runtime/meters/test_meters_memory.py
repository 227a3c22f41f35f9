from __future__ import annotations

import sys

import pytest

from edgeprune_runtime.meters.memory import MemoryMeter, MemoryReading, ProcSource

PAGE = 4096


class ScriptedSource:
    """Resident sizes in order, the last one for ever; high-water marks likewise."""

    name = "fake"

    def __init__(self, sizes: list[tuple[int, int | None]], marks: list[int | None]) -> None:
        self._sizes, self._marks = sizes, marks

    def resident(self):
        return self._sizes.pop(0) if len(self._sizes) > 1 else self._sizes[0]

    def high_water(self):
        return self._marks.pop(0) if len(self._marks) > 1 else self._marks[0]

    def pss(self):
        return 77


def measure(sizes, marks) -> MemoryReading:
    with MemoryMeter(ScriptedSource(sizes, marks), period_s=60).window() as window:
        pass
    return window.reading()


def test_highest_sample_is_the_peak_when_the_kernel_mark_did_not_move():
    # baseline, sample on entering, sample on leaving
    reading = measure([(100, 40), (130, 60), (120, 50)], [500])
    assert reading == MemoryReading("fake every 60000 ms", 100, 130, 60, 77)


def test_kernel_mark_is_the_peak_when_it_rose_in_the_window():
    reading = measure([(100, 40), (130, 60), (120, 50)], [110, 400])
    assert (reading.source, reading.peak_bytes, reading.anonymous_bytes) == ("proc:VmHWM", 400, 60)


def test_a_missing_kernel_mark_is_not_zero():
    assert measure([(100, None)], [None]) == MemoryReading("fake every 60000 ms", 100, 100, None, 77)


def test_reading_an_open_window_is_a_programming_error():
    with MemoryMeter(ScriptedSource([(1, 1)], [1])).window() as window, pytest.raises(RuntimeError, match="open"):
        window.reading()


def test_proc_files_are_read_in_bytes(tmp_path):
    (tmp_path / "statm").write_text("999 300 100 1 0 200 0\n")
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t    1500 kB\nVmRSS:\t 1200 kB\n")
    (tmp_path / "smaps_rollup").write_text("00-ff ---p 0 0 0 [rollup]\nRss: 1200 kB\nPss:     900 kB\nPss_Anon: 1 kB\n")
    source = ProcSource(tmp_path, PAGE)
    assert source.resident() == (300 * PAGE, 200 * PAGE)
    assert source.high_water() == 1500 * 1024
    assert source.pss() == 900 * 1024


def test_proc_files_that_a_sandbox_hides_read_none(tmp_path):
    assert ProcSource(tmp_path, PAGE).pss() is None
    assert ProcSource(tmp_path, PAGE).high_water() is None
    assert "No such file" in (MemoryMeter(ProcSource(tmp_path, PAGE)).why_unavailable() or "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_sees_an_allocation_of_this_process():
    meter = MemoryMeter()
    assert meter.why_unavailable() is None
    with meter.window() as window:
        block = bytearray(b"x") * (48 << 20)
    reading = window.reading()
    assert len(block) == 48 << 20
    assert reading.peak_bytes - reading.baseline_bytes > 40 << 20
    assert reading.anonymous_bytes is not None
    assert reading.anonymous_bytes > 40 << 20
