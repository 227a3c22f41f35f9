from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edgeprune_profiles.record.profile import SCHEMA, RequestSample, load_accuracy, load_report
from edgeprune_profiles.record.saving import save_report
from edgeprune_profiles.report.summary import summarise
from edgeprune_profiles.report.verdict import verdict
from edgeprune_runtime.errors import MeasurementError, OutputError
from tests.profiles.powered import powered_report


def test_a_report_survives_the_round_trip(report, tmp_path):
    save_report(report, tmp_path / "new" / "report.json")
    assert load_report(tmp_path / "new" / "report.json") == report


def test_what_was_not_measured_is_null_in_the_file(report, tmp_path):
    save_report(report, tmp_path / "r.json")
    sample = json.loads((tmp_path / "r.json").read_text())["budgets"][0]["samples"][0]
    assert sample["energy_j"] is None


def test_power_and_a_soak_survive_the_round_trip(tmp_path):
    report = powered_report()
    save_report(report, tmp_path / "r.json")
    assert load_report(tmp_path / "r.json") == report


def test_a_report_of_schema_1_reads_as_one_without_power(report, tmp_path):
    save_report(report, tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    added = ("backend", "pictures_sha256", "power_source", "soak", "use_before", "use_during", "derived")
    old = {name: value for name, value in content.items() if name not in added} | {"schema": 1}
    for result in old["budgets"]:
        del result["power"]
    del old["environment"]["power_mode"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert load_report(tmp_path / "old.json") == msgspec.structs.replace(report, schema=1)


def test_percentiles_stand_in_the_file_for_others_and_are_not_read_back(report, tmp_path):
    save_report(report, tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    first = content["derived"]["budgets"][0]["ttft_s"]
    assert first["p50"] == summarise(report).budgets[0].ttft_s.p50
    assert content["derived"]["verdict"] == list(verdict(summarise(report)))
    content["derived"] = "altered"
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert load_report(tmp_path / "r.json") == report


def test_saving_replaces_and_leaves_nothing_beside_it(report, tmp_path):
    (tmp_path / "r.json").write_text("old")
    save_report(report, tmp_path / "r.json")
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_a_failed_save_keeps_the_old_file(report, tmp_path, monkeypatch):
    (tmp_path / "r.json").write_text("old")

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="disk full"):
        save_report(report, tmp_path / "r.json")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("r.json", "old")]


def test_a_place_that_cannot_be_written_is_named(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_report(report, tmp_path / "file" / "r.json")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": "x"}', "\x00"])
def test_a_broken_report_is_refused(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(MeasurementError, match="not a usable report"):
        load_report(tmp_path / "r.json")


def test_a_newer_report_says_to_upgrade(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"schema": SCHEMA + 1, "something": "else"}))
    with pytest.raises(MeasurementError, match="upgrade"):
        load_report(tmp_path / "r.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MeasurementError, match=r"absent\.json"):
        load_report(tmp_path / "absent.json")
    with pytest.raises(MeasurementError, match=r"absent\.json"):
        load_accuracy(tmp_path / "absent.json")


def test_ttft_is_everything_but_decode_even_stages_of_a_later_version():
    sample = RequestSample(
        0, 0, 1, 3, {"preprocess": (1.0,), "tower": (2.0, 3.0), "new": (4.0,), "decode": (8.0, 10.0)}, {}
    )
    assert sample.ttft_s == 10.0
    assert sample.tpot_s == 9.0
