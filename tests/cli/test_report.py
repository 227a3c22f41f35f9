from __future__ import annotations

import shutil

import msgspec
import pytest

from edgeprune_profiles import load_report, save_report
from tests.commands import answer, complaint, invoke
from tests.runtime.test_claims import another_run


@pytest.fixture
def report_json(measured, tmp_path):
    return shutil.copy(measured[0], tmp_path / "run.json")


def test_writes_one_page_beside_the_report_and_prints_the_verdict(report_json):
    result = invoke("report", report_json)
    assert result.exit_code == 0, result.output
    page = report_json.with_suffix(".html").read_text()
    assert "<html" in page
    assert "Accuracy was not evaluated" in result.stdout
    assert "written:" in result.stdout


def test_writes_only_the_forms_that_are_named(report_json, tmp_path):
    found = answer("report", report_json, "--markdown", tmp_path / "a" / "r.md", "--csv", tmp_path / "r.csv")
    assert found["written"] == [str(tmp_path / "a" / "r.md"), str(tmp_path / "r.csv")]
    assert (tmp_path / "a" / "r.md").read_text().count("| 0.2 | hired |") == 1
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1 + 2 * 6
    assert not report_json.with_suffix(".html").exists()


def test_puts_the_evaluation_beside_the_times(report_json, evaluated):
    result = invoke("report", report_json, "--eval", evaluated[0])
    assert result.exit_code == 0, result.output
    assert "over 6 questions" in result.stdout
    page = report_json.with_suffix(".html").read_text()
    assert "hired@0.2" in page and "uniform@0.2" in page


def test_memory_is_held_against_a_limit_that_is_given(report_json):
    result = invoke("report", report_json, "--max-memory", "8GiB")
    assert result.exit_code == 0, result.output
    assert "The limit is 8.00\N{NO-BREAK SPACE}GiB" in report_json.with_suffix(".html").read_text()
    assert "--max-memory" in complaint("report", report_json, "--max-memory", "lots")


def test_an_evaluation_of_another_bundle_is_refused(report_json, evaluated):
    report = load_report(report_json)
    other = msgspec.structs.replace(report, bundle=msgspec.structs.replace(report.bundle, sha256="f" * 64))
    save_report(other, report_json)
    assert "evaluate the bundle that was profiled" in complaint("report", report_json, "--eval", evaluated[0])


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"schema": 99}'])
def test_unusable_reports_are_one_line_and_nothing_is_written(content, tmp_path):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    assert "r.json" in complaint("report", path)
    assert not (tmp_path / "r.html").exists()


def test_a_place_that_cannot_be_written_to_is_one_line(report_json):
    assert "choose another place" in complaint("report", report_json, "--html", report_json / "page.html")


def test_needs_are_answered_first_in_the_terminal_and_on_the_page(report_json, evaluated):
    result = invoke("report", report_json, "--eval", evaluated[0], "--ttft", "100s", "--max-memory", "8GB")
    assert result.exit_code == 0, result.output
    first, why, *_ = result.stdout.splitlines()
    assert first.startswith("Take budget ") and "of memory" in first
    assert "most accurate of 2, all of which are sure" in why
    assert 'class="lead">Take budget ' in report_json.with_suffix(".html").read_text()


def test_needs_that_nothing_meets_say_which(report_json):
    found = answer("report", report_json, "--ttft", "1ms", "--tokens-per-s", "1")
    assert found["advice"][0] == "No profiled budget meets what was asked."
    assert found["advice"][1] == "Fails in time to first token: 0.2, 1.0."
    assert found["choice"]["taken"] is None
    assert {one["answers"]["tokens/s"] for one in found["choice"]["budgets"]} == {"yes"}


def test_without_needs_the_words_for_them_are_named_and_what_is_unknown_is_one_line(report_json):
    text = invoke("report", report_json).stdout
    assert "add --ttft 500ms, --accuracy -3, --max-memory 4GB" in text
    (line,) = [line for line in text.splitlines() if line.startswith("Unknown here: accuracy, ")]
    assert line.endswith(".")


@pytest.mark.parametrize("options", [("--ttft", "soon"), ("--max-energy", "5W"), ("--max-memory", "8")])
def test_needs_that_mean_nothing_are_one_line(report_json, options):
    assert options[0] in complaint("report", report_json, *options)


def test_an_accuracy_needs_an_evaluation(report_json, evaluated):
    alone = invoke("report", report_json, "--accuracy", "-3")
    assert alone.exit_code == 2 and "--accuracy needs --eval FILE" in alone.stderr
    assert "--accuracy is '0.5'" in complaint("report", report_json, "--eval", evaluated[0], "--accuracy", "0.5")
    found = answer("report", report_json, "--eval", evaluated[0], "--accuracy", "-3")
    assert {one["budget"]: one["answers"]["accuracy"] for one in found["choice"]["budgets"]}["1.0"] == "yes"


@pytest.mark.parametrize("form", ["--html", "--markdown", "--csv"])
def test_a_form_that_another_run_is_writing_is_refused(form, report_json, tmp_path):
    target = tmp_path / "form.html"
    with another_run(target, "claimed(Path(sys.argv[1]))"):
        assert "another run is writing" in complaint("report", report_json, form, target)
    assert invoke("report", report_json, form, target).exit_code == 0 and target.is_file()


@pytest.mark.parametrize("form", ["--html", "--markdown", "--csv"])
def test_a_form_that_is_there_is_replaced_with_force_only(form, report_json, tmp_path):
    target = tmp_path / "form.html"
    target.write_text("mine")
    line = complaint("report", report_json, form, target)
    assert line == f"error: {target} exists; choose another name or replace it with --force"
    assert target.read_text() == "mine"
    assert invoke("report", report_json, form, target, "--force").exit_code == 0 and target.read_text() != "mine"


def test_the_page_beside_the_report_is_kept_too(report_json):
    assert invoke("report", report_json).exit_code == 0
    assert "run.html exists" in complaint("report", report_json)


def test_a_page_is_called_html(report_json, tmp_path):
    line = complaint("report", report_json, "--html", tmp_path / "x.txt")
    assert line == "error: --html writes a page, not .txt; name it .html" and not (tmp_path / "x.txt").exists()
    assert "not page; name it .html" in complaint("report", report_json, "--html", tmp_path / "page")


def test_profile_and_evaluation_are_told_apart(report_json, evaluated):
    said = complaint("compare", report_json, evaluated[0])
    assert f"{evaluated[0]} is an evaluation, not a profile" in said and "with --eval" in said
    said = complaint("report", report_json, "--eval", report_json)
    assert f"{report_json} is a profile, not an evaluation; give the file of `edgeprune eval --out`" in said
