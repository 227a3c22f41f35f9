from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeprune_profiles.measure.stages import ONE_PROCESS, OWN_PROCESS, Case, case_of, profile
from edgeprune_profiles.record.profile import BudgetRecord, BundleRef
from edgeprune_profiles.report.summary import StageTime, summarise
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.energy import EnergyReading
from edgeprune_runtime.meters.environment import environment
from edgeprune_runtime.meters.memory import MemoryReading

FULL = BudgetRecord("1.0", "full", None, 1.0)
FIFTH = BudgetRecord("0.2", "hired", 576, 0.2)
ENVIRONMENT = environment(Path("/nowhere"))
CASES = [Case(Path("/somewhere/a.png"), "what?"), Case(Path("/somewhere/b.png"), "where?")]
MEMORY = MemoryReading("fake", 10, 30, 20, None)


class FakeMeter:
    """Gives the same reading for every window."""

    def __init__(self, reading, why=None):
        self.name, self._reading, self._why = "fake", reading, why

    def why_unavailable(self):
        return self._why

    @contextmanager
    def window(self):
        yield self

    def reading(self):
        return self._reading


def run(runner, budgets=(FULL, FIFTH), cases=CASES, **options):
    options.setdefault("energy", FakeMeter(EnergyReading("rapl:package-0", 2.0, 1.0)))
    options.setdefault("memory", FakeMeter(MEMORY))
    bundle = BundleRef("demo", "ab" * 32)
    return profile(runner, budgets, cases, bundle=bundle, environment=ENVIRONMENT, command="test", max_tokens=5,
                   **options)  # fmt: skip


def test_every_round_asks_every_budget_about_every_case(runner):
    report = run(runner, repetitions=7, warmup_rounds=2)
    asked = runner.asked[4:-2]  # without 2 warm-up rounds of 2 budgets, and one request for memory per budget
    assert len(asked) == 7 * 2 * 2
    for start in range(0, len(asked), 2):
        pair = asked[start : start + 2]
        assert {budget for budget, _ in pair} == {"1.0", "0.2"}
        assert len({image for _, image in pair}) == 1
    assert [len(result.samples) for result in report.budgets] == [14, 14]


def test_order_within_a_round_varies_so_that_no_budget_is_always_first(runner):
    run(runner, repetitions=20, warmup_rounds=0)
    first = Counter(budget for budget, _ in runner.asked[:-2:2])
    assert min(first["1.0"], first["0.2"]) > 10


def test_warm_up_is_counted_and_not_recorded(runner):
    report = run(runner, repetitions=1, warmup_rounds=3)
    assert report.warmup_rounds == 3
    assert runner.asked[:6] == [("1.0", "a.png"), ("0.2", "a.png")] * 3
    assert sum(len(result.samples) for result in report.budgets) == 4


def test_stages_sum_to_hand_computed_times(runner):
    summary = summarise(run(runner, repetitions=6))
    full, fifth = summary.budgets
    assert full.ttft_s.p50 == pytest.approx(0.05 + 0.2 + 0.01 + 1.0)
    assert fifth.ttft_s.p50 == pytest.approx(0.05 + 0.2 + 0.01 + 0.25)
    assert fifth.ttft_gain.point == pytest.approx(1.26 / 0.51)
    assert fifth.ttft_gain.n == 12
    assert fifth.ttft_gain.distinguishable
    assert fifth.untouched == pytest.approx(0.25 / 0.51)
    assert (fifth.stages["tower"].wall_s, fifth.stages["tower"].cpu_s) == pytest.approx((0.2, 0.4))
    assert fifth.stages["decode"] == StageTime(pytest.approx(0.01), pytest.approx(0.02))
    assert fifth.tpot_s.p50 == pytest.approx(0.01)
    assert fifth.tokens_per_s == pytest.approx(100)
    assert not fifth.tpot_gain.distinguishable
    assert full.ttft_gain is None
    assert (full.visual_tokens, fifth.visual_tokens) == (2880, 576)


def test_one_token_answers_have_no_time_per_further_token(runner):
    bundle = BundleRef("demo", "ab" * 32)
    report = profile(runner, [FULL, FIFTH], CASES[:1], bundle=bundle, environment=ENVIRONMENT, command="x",
                     max_tokens=1, repetitions=1, memory=FakeMeter(MEMORY))  # fmt: skip
    summary = summarise(report).budgets[1]
    assert (summary.tpot_s, summary.tokens_per_s, summary.tpot_gain) == (None, None, None)


def test_energy_is_recorded_per_request_with_its_source(runner):
    report = run(runner, repetitions=1)
    assert report.energy_source == "rapl:package-0"
    assert summarise(report).budgets[0].energy_j == 2.0


def test_unknown_energy_stays_unknown(runner):
    why = "unknown: no sensor"
    report = run(runner, repetitions=1, energy=FakeMeter(EnergyReading(why, None, 1.0), why))
    assert report.energy_source == why
    assert summarise(report).budgets[0].energy_j is None


def test_memory_is_read_apart_from_the_timed_requests(runner):
    report = run(runner, repetitions=1)
    assert [result.memory for result in report.budgets] == [MEMORY, MEMORY]
    assert report.memory_scope == ONE_PROCESS


def test_memory_of_a_process_of_its_own_is_preferred(runner):
    report = run(runner, repetitions=1, memory_apart=lambda budget: MEMORY if budget is FULL else None)
    assert [result.memory for result in report.budgets] == [MEMORY, None]
    assert report.memory_scope == OWN_PROCESS


def test_an_absent_memory_meter_reads_none(runner):
    report = run(runner, repetitions=1, memory=FakeMeter(MEMORY, "not here"))
    assert [result.memory for result in report.budgets] == [None, None]


def test_progress_counts_every_request_once(runner):
    seen = []
    run(runner, repetitions=2, warmup_rounds=1, progress=lambda done, total, label: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(13))
    assert {total for _, total in seen} == {2 * (1 + 2 * 2 + 1)}


def test_only_names_of_pictures_are_recorded(runner):
    assert run(runner, repetitions=1).cases == ("a.png", "b.png")


def test_pictures_are_recorded_by_the_hash_of_their_file(runner, tmp_path):
    (tmp_path / "a.png").write_bytes(b"abc")
    case = case_of(tmp_path / "a.png", "what?")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-2
    assert run(runner, cases=[case], repetitions=1).pictures_sha256 == (digest,)
    assert case_of(tmp_path / "none.png", "what?").sha256 is None


@pytest.mark.parametrize(("budgets", "cases", "n"), [((), CASES, 1), ((FULL,), (), 1), ((FULL,), CASES, 0)])
def test_nothing_to_measure_is_refused(runner, budgets, cases, n):
    with pytest.raises(MeasurementError, match="nothing to measure"):
        run(runner, budgets=budgets, cases=cases, repetitions=n)


def test_a_budget_given_twice_is_refused(runner):
    with pytest.raises(MeasurementError, match="same name"):
        run(runner, budgets=(FULL, FIFTH, FULL))
