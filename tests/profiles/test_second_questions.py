"""First and second questions are measured and shown apart: a request begins with nothing, what is asked afterwards need not."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeprune.cli.measure.profile_table import show
from edgeprune_export.gate.pictures import fixed_pictures
from edgeprune_profiles import render_csv, render_html, render_markdown
from edgeprune_profiles.measure.runner import ModelRunner
from edgeprune_profiles.measure.stages import Case, Run, profile
from edgeprune_profiles.record.profile import BudgetRecord, BundleRef, Report, SecondQuestion
from edgeprune_profiles.report import units
from edgeprune_profiles.report.compare import compare
from edgeprune_profiles.report.digest import digest
from edgeprune_profiles.report.summary import summarise
from edgeprune_profiles.report.verdict import verdict
from edgeprune_runtime import Model
from edgeprune_runtime.meters import EnergyReading
from edgeprune_runtime.timing import Span
from tests.profiles.conftest import ENVIRONMENT, FIFTH, FULL, FakeRunner, full_report

QUESTION, SECOND = "what is this ?", "and the number ?"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    fixed_pictures()[0].save(tmp_path / "a.png")
    return tmp_path / "a.png"


def with_seconds() -> Report:
    """Prefill of a second question takes a tenth of the first one's; nothing else is left of it."""
    report = full_report()
    budgets = []
    for result in report.budgets:
        samples = []
        for one in result.samples:
            wall = {"preprocess": (1e-4,), "prefill": (one.wall_s["prefill"][0] / 10,)}
            samples.append(msgspec.structs.replace(one, second=SecondQuestion(640, 512, wall, wall)))
        budgets.append(msgspec.structs.replace(result, samples=tuple(samples)))
    return msgspec.structs.replace(report, budgets=tuple(budgets), second_question=SECOND)


def test_a_measured_request_never_begins_with_what_the_last_one_left(opened: Model, picture: Path) -> None:
    runner = ModelRunner(opened)
    for budget in ("1.0", "0.2", "1.0", "1.0"):
        run = runner.run(budget, picture, QUESTION, 3)
        assert run.cached_tokens == 0 and run.prompt_tokens > 0
        stages = {span.name for span in run.spans}
        assert stages == {"preprocess", "tower", "select", "prefill", "decode"}


def test_a_second_question_sees_the_same_picture_and_starts_behind_it(opened: Model, picture: Path) -> None:
    runner = ModelRunner(opened)
    first = runner.run("1.0", picture, QUESTION, 3)
    second = runner.second(SECOND)
    assert second.visual_tokens == first.visual_tokens
    assert 0 < second.cached_tokens < second.prompt_tokens
    assert {span.name for span in second.spans} == {"preprocess", "prefill"}


def test_a_prefill_that_is_measured_alone_is_a_whole_one(opened: Model, picture: Path) -> None:
    prefill = next(one for one in ModelRunner(opened).pieces("1.0", picture, QUESTION, 2) if one.name == "prefill")
    for _ in range(2):
        prefill.work()
        assert opened.language.reused == 0


class Energy:
    """Notes what happens while a window is open."""

    name = "noting"

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened

    def why_unavailable(self) -> str | None:
        return None

    def window(self) -> Energy:
        return self

    def __enter__(self) -> Energy:
        self._happened.append("open")
        return self

    def __exit__(self, *_: Any) -> None:
        self._happened.append("closed")

    def reading(self) -> EnergyReading:
        return EnergyReading("noting", 1.0, 1.0)


def test_second_questions_follow_each_request_outside_its_energy(runner: FakeRunner) -> None:
    happened: list[str] = []

    def second() -> Run:
        happened.append("second")
        return Run((Span("preprocess", 0.01, 0.01), Span("prefill", 0.04, 0.08)), 576, (1,), 640, 512)

    report = profile(
        runner, [FULL, FIFTH], [Case(Path("a.png"), QUESTION)], bundle=BundleRef("demo", "ab" * 32),
        environment=ENVIRONMENT, command="x", max_tokens=3, repetitions=6, warmup_rounds=1, energy=Energy(happened),
        memory_apart=lambda budget: None, second_question=SECOND, second=second,
    )  # fmt: skip
    assert happened == ["second"] * 2 + ["open", "closed", "second"] * 12
    assert report.second_question == SECOND
    full, fifth = summarise(report).budgets
    for budget, first in ((full, 1.26), (fifth, 0.51)):
        assert budget.second is not None
        assert budget.second.ttft_s.p50 == pytest.approx(0.05)
        assert budget.second.gain.point == pytest.approx(first / 0.05) and budget.second.gain.distinguishable
        assert (budget.second.cached_tokens, budget.second.prompt_tokens) == (512, 640)
        assert budget.ttft_s is not None and budget.ttft_s.p50 == pytest.approx(first)


def test_without_second_questions_nothing_is_said_of_them() -> None:
    report = full_report()
    page = render_html(report) + render_markdown(report) + " ".join(verdict(summarise(report)))
    assert "second question" not in page
    assert digest(report)["budgets"][0]["second"] is None


def test_every_form_of_a_report_shows_the_second_question(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    report = with_seconds()
    show(report)
    text = capsys.readouterr().out.replace(units.NBSP, " ")
    assert max(map(len, text.splitlines())) <= 80
    assert "TTFT of a second question about the same picture" in text and "512 of 640" in text
    found = digest(report)["budgets"][0]["second"]
    (said,) = (one for one in verdict(summarise(report)) if "second question" in one)
    assert (
        said.startswith("A second question about the same picture gets its first token ") and "earlier: after" in said
    )
    for page in (render_html(report), render_markdown(report)):
        assert units.seconds(found.ttft_s.p50) in page and "512 of 640" in page
    row = next(iter(csv.DictReader(io.StringIO(render_csv(report)))))
    second = report.budgets[0].samples[0].second
    assert second is not None
    assert float(row["second_ttft_s"]) == pytest.approx(second.ttft_s)
    assert (row["second_prompt_tokens"], row["second_cached_tokens"]) == ("640", "512")


def test_second_questions_are_compared_where_they_are_the_same() -> None:
    report, quantity = with_seconds(), "first token, second question"
    other = msgspec.structs.replace(report, second_question="and now ?")
    for against, held in ((report, True), (other, False), (full_report(), False)):
        assert (quantity in {line.quantity for line in compare(report, against).lines}) == held


def test_a_budget_without_second_questions_leaves_the_others_theirs() -> None:
    report = with_seconds()
    bare = msgspec.structs.replace(
        report.budgets[0],
        budget=BudgetRecord("0.3", "hired", 800, 0.3),
        samples=tuple(msgspec.structs.replace(one, second=None) for one in report.budgets[0].samples),
    )
    found = summarise(msgspec.structs.replace(report, budgets=(bare, *report.budgets)))
    assert [b.second is None for b in found.budgets] == [True, False, False, False, False]
