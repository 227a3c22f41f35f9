"""The tables of a profile at 80 columns, with power and a soak in them."""

from __future__ import annotations

import msgspec
import pytest

from edgeprune.cli.measure.profile_table import show
from edgeprune_profiles.record.power_profile import PowerWindow
from edgeprune_profiles.report import units
from edgeprune_runtime.statistics import paired_ratio
from tests.profiles.powered import powered_report


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    report = powered_report()
    raw = msgspec.to_builtins(report.budgets[2].power[0])
    raw["run"]["trace"]["flags"] = ["the sampler died"]
    doubtful = msgspec.structs.replace(
        report.budgets[2], power=(msgspec.convert(raw, PowerWindow), *report.budgets[2].power[1:])
    )
    show(msgspec.structs.replace(report, budgets=(*report.budgets[:2], doubtful, report.budgets[3])))
    return capsys.readouterr().out.replace(units.NBSP, " ").splitlines()


def test_every_line_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(capsys, monkeypatch)
    assert max(map(len, lines)) <= 80
    titles = ("Time to first token (TTFT)", "Time per output token (TPOT)", "Memory and energy", "Soak of 10 min")
    assert all(any(line.startswith(title) for line in lines) for title in titles)


def test_no_number_is_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(shown(capsys, monkeypatch))
    assert "2.81x [2.72, 2.92]" in text and "58.29 ± 0.06 J" in text and "1.93 GiB" in text


def test_a_doubtful_energy_is_marked_where_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(capsys, monkeypatch)
    assert any(line.startswith("hired@0.2") and "request" in line and "22.90 ± 0.02 J *" in line for line in lines)
    assert "* 0.2 request: the sampler died" in lines


def test_one_pair_has_no_interval_and_is_said_to_have_none() -> None:
    one = paired_ratio([2.0], [1.0], seed=0)
    assert units.short_times(one) == "~2.00x (1 pair)"
    assert units.short_times(paired_ratio([2.0, 2.0], [1.0, 1.0], seed=0)) == "~2.00x [2.00, 2.00]"
    assert units.times(one) == "not distinguishable (1 of 6 pairs needed)"
