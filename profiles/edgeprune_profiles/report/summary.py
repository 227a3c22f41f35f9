"""What a report says, computed from its raw samples: percentiles, ratios to full budget, what pruning cannot touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, median

from edgeprune_profiles.record.power_profile import REQUEST, UnitEnergy, doubts, unit_energies
from edgeprune_profiles.record.profile import DECODE, STAGES, Accuracy, AccuracyRow, BudgetRecord, BudgetResult, Report
from edgeprune_profiles.record.sustain import SoakSummary, soak_summary
from edgeprune_runtime.budgets import asked_for, by_method, on_tiles, staying
from edgeprune_runtime.statistics import Percentiles, Ratio, paired_ratio, percentiles

FIXED = ("preprocess", "tower")
PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class StageTime:
    """Median per request. For `decode` per token, so that answers of different length compare."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class SecondSummary:
    """Second questions about the pictures of requests: medians, and first / second by pairs of one request."""

    ttft_s: Percentiles
    prefill_s: float
    prompt_tokens: int
    cached_tokens: int
    gain: Ratio


@dataclass(frozen=True, slots=True)
class BudgetSummary:
    """Derived numbers of one budget. Ratios are full budget / this one: above 1 = this one is faster."""

    result: BudgetResult
    visual_tokens: int | None  # median over requests: they differ by picture at full budget
    stages: dict[str, StageTime]
    ttft_s: Percentiles | None
    tpot_s: Percentiles | None
    tokens_per_s: float | None  # decode only
    energy_j: float | None  # median per request, of a counter that was read around each
    power: Mapping[str, UnitEnergy]  # by piece, of power windows
    ttft_gain: Ratio | None
    ttft_cpu_gain: Ratio | None  # in processor time
    tpot_gain: Ratio | None
    untouched: (
        float | None
    )  # median share of preprocess and tower in TTFT, which pruning after the tower cannot shorten
    second: SecondSummary | None = None

    @property
    def name(self) -> str:
        return self.result.budget.name

    @property
    def with_method(self) -> str:
        """The budget and its method, in the words of `edgeprune eval`: "hired@0.2 on one view"; one that drops nothing has none."""
        asked = asked_for(self.name)
        if self.result.budget.keep_ratio == 1.0 or asked.method is not None:
            return self.name
        return on_tiles(staying(by_method(asked.budget, self.result.budget.method), asked.inside), asked.tiles)

    @property
    def ttft_cpu_s(self) -> float | None:
        """Median processor time up to the first token."""
        samples = self.result.samples
        return median(sample.ttft_cpu_s for sample in samples) if samples else None

    @property
    def full(self) -> bool:
        return self.result.budget.full

    @property
    def answer_j(self) -> float | None:
        """Joules of an answer: of its power window, or else of the counter."""
        window = self.power.get(REQUEST)
        return self.energy_j if window is None else window.gross_j

    @property
    def answer_doubtful(self) -> bool:
        window = self.power.get(REQUEST)
        return window is not None and bool(window.flags)


@dataclass(frozen=True, slots=True)
class Summary:
    report: Report
    budgets: tuple[BudgetSummary, ...]
    soak: SoakSummary | None = None

    @property
    def doubts(self) -> dict[str, list[str]]:
        """What makes energies doubtful, and which."""
        return doubts({b.name: b.power for b in self.budgets})

    @property
    def smallest(self) -> BudgetSummary | None:
        """The budget that keeps least, if any keeps less than everything: the one to lead with."""
        pruned = [b for b in self.budgets if not b.full]
        return min(pruned, key=lambda b: b.result.budget.keep_ratio, default=None)

    @property
    def stages(self) -> tuple[str, ...]:
        """All stages that ran, in order of time; ones this version does not know come last."""
        seen = {stage for b in self.budgets for stage in b.stages}
        return (*(s for s in STAGES if s in seen), *sorted(seen.difference(STAGES)))


def summarise(report: Report) -> Summary:
    full = next((result for result in report.budgets if result.budget.full), None)
    soak = None if report.soak is None else soak_summary(report.soak, report.seed)
    return Summary(report, tuple(_budget(result, full, report.seed) for result in report.budgets), soak)


def accuracy_of(accuracy: Accuracy, budget: BudgetRecord) -> AccuracyRow | None:
    """The row of this budget, by method, keep ratio and tiles; None when it was not evaluated."""
    return next((row for row in _alike(accuracy, budget) if row.method == budget.method or budget.full), None)


def full_score(accuracy: Accuracy) -> float | None:
    """What full budget scored in the leading metric; None where it was not evaluated."""
    return next((row.scores[accuracy.headline] for row in accuracy.rows if is_whole(row)), None)


def is_whole(row: AccuracyRow) -> bool:
    """Neither tokens nor tiles are left out, and nobody leaves inside."""
    asked = asked_for(row.name)
    return row.keep_ratio == 1.0 and asked.tiles is None and asked.inside == "none"


def controls_of(accuracy: Accuracy, budget: BudgetRecord) -> tuple[AccuracyRow, ...]:
    """The other methods at the same keep ratio, on as many tiles, best first."""
    rows = [row for row in _alike(accuracy, budget) if row.method != budget.method]
    return tuple(sorted(rows, key=lambda row: -row.scores[accuracy.headline]))


def _alike(accuracy: Accuracy, budget: BudgetRecord) -> list[AccuracyRow]:
    mine = asked_for(budget.name)
    alike = [row for row in accuracy.rows if row.keep_ratio == budget.keep_ratio]
    return [row for row in alike if (named := asked_for(row.name)).tiles == mine.tiles and named.inside == mine.inside]


def _budget(result: BudgetResult, full: BudgetResult | None, seed: int) -> BudgetSummary:
    samples = result.samples
    stages = {stage: _stage(result, stage) for stage in sorted({s for sample in samples for s in sample.wall_s})}
    ttft = percentiles([sample.ttft_s for sample in samples])
    tpot = percentiles([t for sample in samples if (t := sample.tpot_s) is not None])
    joules = [sample.energy_j for sample in samples if sample.energy_j is not None]
    gains = (None, None, None) if full is None or full is result else _gains(full, result, seed)
    return BudgetSummary(
        result=result,
        visual_tokens=round(median(sample.visual_tokens for sample in samples)) if samples else None,
        stages=stages,
        ttft_s=ttft,
        tpot_s=tpot,
        tokens_per_s=1 / tpot.p50 if tpot and tpot.p50 > 0 else None,
        energy_j=median(joules) if joules and len(joules) == len(samples) else None,
        power=unit_energies(result.power),
        ttft_gain=gains[0],
        ttft_cpu_gain=gains[1],
        tpot_gain=gains[2],
        untouched=_untouched(result),
        second=_second(result, seed),
    )


def _second(result: BudgetResult, seed: int) -> SecondSummary | None:
    pairs = [(sample, sample.second) for sample in result.samples if sample.second is not None]
    times = percentiles([second.ttft_s for _, second in pairs])
    gain = _ratio([(first.ttft_s, second.ttft_s) for first, second in pairs], seed)
    if times is None or gain is None:
        return None
    return SecondSummary(
        times,
        median(sum(second.wall_s.get(PREFILL, ())) for _, second in pairs),
        round(median(second.prompt_tokens for _, second in pairs)),
        round(median(second.cached_tokens for _, second in pairs)),
        gain,
    )


def _untouched(result: BudgetResult) -> float | None:
    shares = [sum(sum(s.wall_s.get(stage, ())) for stage in FIXED) / s.ttft_s for s in result.samples if s.ttft_s > 0]
    return median(shares) if shares else None


def _stage(result: BudgetResult, stage: str) -> StageTime:
    runs = [(s.wall_s[stage], s.cpu_s.get(stage, ())) for s in result.samples if s.wall_s.get(stage)]
    fold = mean if stage == DECODE else sum
    return StageTime(median(fold(wall) for wall, _ in runs), median(fold(cpu) if cpu else 0.0 for _, cpu in runs))


def _gains(full: BudgetResult, result: BudgetResult, seed: int) -> tuple[Ratio | None, ...]:
    """Full budget / this budget, paired by round and case."""
    mine = {(s.repetition, s.case): s for s in result.samples}
    pairs = [(s, mine[s.repetition, s.case]) for s in full.samples if (s.repetition, s.case) in mine]
    first = [(a.ttft_s, b.ttft_s) for a, b in pairs]
    busy = [(a.ttft_cpu_s, b.ttft_cpu_s) for a, b in pairs if a.ttft_cpu_s > 0 and b.ttft_cpu_s > 0]
    later = [(x, y) for a, b in pairs if (x := a.tpot_s) is not None and (y := b.tpot_s) is not None]
    return tuple(_ratio(pairs_of, seed) for pairs_of in (first, busy, later))


def _ratio(pairs: list[tuple[float, float]], seed: int) -> Ratio | None:
    return paired_ratio([a for a, _ in pairs], [b for _, b in pairs], seed=seed) if pairs else None
