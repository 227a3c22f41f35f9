from __future__ import annotations

import shutil

import msgspec
import pytest

from edgeprune_profiles import load_report, save_report
from tests.commands import answer, complaint, invoke
from tests.runtime.test_claims import another_run


@pytest.fixture
def other(measured, tmp_path):
    """The measured report with every time doubled, as from a board of half the speed."""
    report = load_report(measured[0])

    def slower(sample):
        return msgspec.structs.replace(
            sample, wall_s={stage: tuple(2 * t for t in times) for stage, times in sample.wall_s.items()}
        )

    results = [msgspec.structs.replace(r, samples=tuple(map(slower, r.samples))) for r in report.budgets]
    save_report(msgspec.structs.replace(report, budgets=tuple(results), threads=2), tmp_path / "slow.json")
    return tmp_path / "slow.json"


def test_says_what_is_faster_and_what_differs(measured, other):
    result = invoke("compare", other, measured[0])
    assert result.exit_code == 0, result.output
    assert "At budget 0.2 the time to the first token is 2.00x" in result.stdout
    assert "shorter in B" in result.stdout
    assert "differs: threads: 2 in A, 1 in B" in result.stdout
    assert "paired by round and case" in result.stdout
    assert "peak memory" in result.stdout


def test_a_run_against_itself_is_not_distinguishable(measured):
    found = answer("compare", measured[0], measured[0])
    assert found["comparison"]["paired"] is True
    assert found["comparison"]["differs"] == []
    assert all("not distinguishable" in sentence for sentence in found["comparison"]["verdict"])
    ratios = [line["ratio"] for line in found["comparison"]["lines"] if line["ratio"]]
    assert ratios and all(ratio["point"] == 1.0 and not ratio["distinguishable"] for ratio in ratios)


def test_writes_markdown_when_asked(measured, other, tmp_path):
    assert invoke("compare", other, measured[0], "--markdown", tmp_path / "c.md").exit_code == 0
    text = (tmp_path / "c.md").read_text()
    assert text.startswith("A is `slow.json`, B is `report.json`.")
    assert "| 0.2 | first token |" in text


@pytest.mark.parametrize("content", [None, "", "{}", '{"schema": 99}'])
def test_unusable_reports_are_one_line(measured, content, tmp_path):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    assert "r.json" in complaint("compare", measured[0], path)


def test_reports_without_a_common_budget_are_one_line(measured, tmp_path):
    report = load_report(measured[0])
    for name, result in zip(("a.json", "b.json"), report.budgets, strict=True):
        save_report(msgspec.structs.replace(report, budgets=(result,)), tmp_path / name)
    assert "no budget in common (0.2 and 1.0)" in complaint("compare", tmp_path / "a.json", tmp_path / "b.json")
    shutil.copy(tmp_path / "a.json", tmp_path / "c.json")
    assert invoke("compare", tmp_path / "a.json", tmp_path / "c.json").exit_code == 0


def test_tables_that_another_run_is_writing_are_refused(measured, other, tmp_path):
    target = tmp_path / "tables.md"
    with another_run(target, "claimed(Path(sys.argv[1]))"):
        assert "another run is writing" in complaint("compare", other, measured[0], "--markdown", target)
    assert invoke("compare", other, measured[0], "--markdown", target).exit_code == 0 and target.is_file()
