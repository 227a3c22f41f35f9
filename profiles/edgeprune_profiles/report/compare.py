"""Two reports held against each other, budget by budget and stage by stage.

Requests are paired by round and case where both reports asked the same question about the same pictures: pairs take out what a
picture costs, so a few rounds are enough. Otherwise each side is resampled by itself. An interval holds what varied within the two
runs, not what changed between them, such as temperature or other programs: repeat both runs before believing a small difference.
Joules of power windows are one measurement each; their range is the error of the method. Peaks of memory are one reading each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from edgeprune_profiles.record.power_profile import PIECES, REQUEST, EnergyRatio, energy_ratio, unit_energies
from edgeprune_profiles.record.profile import DECODE, STAGES, BudgetResult, Report, RequestSample
from edgeprune_profiles.report import units
from edgeprune_profiles.report.busy import busy_sentence
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import LEAST, Ratio, paired_ratio, unpaired_ratio

FIRST = "first token"
FURTHER = "further token"

_TIME = {FIRST: "to the first token", FURTHER: "per further token"}
#: What should be the same on both sides, besides what is compared.
_FACTS: Mapping[str, Callable[[Report], object]] = {
    "bundle": lambda r: f"{r.bundle.name} ({r.bundle.sha256[:12]})",
    "processor": lambda r: r.environment.cpu_model,
    "usable cores": lambda r: r.environment.cores_usable,
    "memory": lambda r: units.size(r.environment.memory_bytes),
    "system": lambda r: f"{r.environment.system}, {r.environment.kernel}",
    "power mode": lambda r: r.environment.power_mode,
    "governor": lambda r: r.environment.governor,
    "software": lambda r: ", ".join(f"{name} {version}" for name, version in r.environment.versions.items()),
    "backend": lambda r: r.backend.name if r.backend else None,
    "engines": lambda r: r.backend.engines.sha256[:12] if r.backend and r.backend.engines else None,
    "threads": lambda r: r.threads or "as the backend chooses",
    "pictures": lambda r: ", ".join(dict.fromkeys(r.cases)),
    "question": lambda r: r.question,
    "tokens per answer": lambda r: r.max_tokens,
    "rounds": lambda r: r.repetitions,
    "warm-up rounds": lambda r: r.warmup_rounds,
}

SampleValue = Callable[[RequestSample], float | None]


@dataclass(frozen=True, slots=True)
class ComparisonLine:
    """One quantity at one budget: seconds, joules or bytes, by `unit`. `ratio` is A / B; None, with the reason in `note`."""

    budget: str
    quantity: str
    unit: str
    a: float | None
    b: float | None
    ratio: Ratio | EnergyRatio | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReportComparison:
    """`differs`: sentences on what is not the same on both sides, besides what is compared. `paired`: by round and case."""

    paired: bool
    differs: tuple[str, ...]
    lines: tuple[ComparisonLine, ...]
    verdict: tuple[str, ...]


def compare(a: Report, b: Report) -> ReportComparison:
    """Raises MeasurementError where the two have no budget in common, or one measured nothing."""
    theirs = {result.budget.name: result for result in b.budgets}
    common = [(mine, theirs[mine.budget.name]) for mine in a.budgets if mine.budget.name in theirs]
    if not common:
        held = " and ".join(", ".join(result.budget.name for result in report.budgets) or "none" for report in (a, b))
        raise MeasurementError(f"the reports have no budget in common ({held}); profile one budget in both")
    if not all(result.samples for pair in common for result in pair):
        raise MeasurementError("one of the reports holds no requests; run `edgeprune profile` again")
    paired = _same_requests(a, b)
    lines = tuple(line for pair in common for line in _lines(*pair, a, b, paired))
    return ReportComparison(paired, tuple(_differences(a, b, common)), lines, tuple(_verdict(lines)))


def _same_requests(a: Report, b: Report) -> bool:
    hashes = (a.pictures_sha256, b.pictures_sha256)
    same = hashes[0] == hashes[1] if all(hashes) else a.cases == b.cases
    return same and a.question == b.question


def _lines(mine: BudgetResult, other: BudgetResult, a: Report, b: Report, paired: bool) -> Iterator[ComparisonLine]:
    def timed(quantity: str, read: SampleValue, unit: str = "s") -> Iterator[ComparisonLine]:
        sides = [[value for s in result.samples if (value := read(s))] for result in (mine, other)]
        pairs = _pairs(mine.samples, other.samples, read) if paired else []
        if pairs:
            ratio = paired_ratio([x for x, _ in pairs], [y for _, y in pairs], seed=a.seed)
        elif all(sides):
            ratio = unpaired_ratio(*sides, seed=a.seed)
        else:
            return
        yield ComparisonLine(mine.budget.name, quantity, unit, median(sides[0]), median(sides[1]), ratio)

    def stage_s(stage: str) -> SampleValue:
        return lambda sample: sum(sample.wall_s.get(stage, ()))

    yield from timed(FIRST, lambda s: s.ttft_s)
    yield from timed(f"{FIRST}, processor time", lambda s: s.ttft_cpu_s)
    if a.second_question == b.second_question:
        yield from timed(f"{FIRST}, second question", lambda s: None if s.second is None else s.second.ttft_s)
    for stage in _stages(mine, other):
        yield from timed(stage, stage_s(stage))
    yield from timed(FURTHER, lambda s: s.tpot_s)
    same_length = a.max_tokens == b.max_tokens
    if same_length and a.energy_source == b.energy_source:
        yield from timed("energy counted around a request", lambda s: s.energy_j, "J")
    yield from _energies(mine, other, same_length)
    if mine.memory is not None and other.memory is not None:
        peaks = mine.memory.peak_bytes, other.memory.peak_bytes
        yield ComparisonLine(mine.budget.name, "peak memory", "B", *peaks, None, "one reading each")


def _energies(mine: BudgetResult, other: BudgetResult, same_length: bool) -> Iterator[ComparisonLine]:
    ours, theirs = unit_energies(mine.power), unit_energies(other.power)
    for piece in PIECES:
        if piece not in ours or piece not in theirs:
            continue
        x, y = ours[piece], theirs[piece]
        note = "doubtful" if x.flags or y.flags else ""
        if piece == REQUEST and not same_length:
            ratio, note = None, "answers differ in length"
        elif x.covers != y.covers:
            ratio, note = None, f"one is of {units.covers(x.covers)}, the other of {units.covers(y.covers)}"
        else:
            ratio = energy_ratio(x, y)
        yield ComparisonLine(mine.budget.name, f"energy {PIECES[piece]}", "J", x.gross_j, y.gross_j, ratio, note)


def _pairs(
    mine: Sequence[RequestSample], other: Sequence[RequestSample], read: SampleValue
) -> list[tuple[float, float]]:
    """Where both have a value above 0: a stage that did not run on one side has no ratio."""
    theirs = {(s.repetition, s.case): s for s in other}
    both = [(s, theirs[s.repetition, s.case]) for s in mine if (s.repetition, s.case) in theirs]
    return [(x, y) for p, q in both if (x := read(p)) and (y := read(q))]


def _stages(mine: BudgetResult, other: BudgetResult) -> list[str]:
    """Stages before the first token that ran on both sides."""
    seen = [{stage for sample in result.samples for stage in sample.wall_s} for result in (mine, other)]
    both = (seen[0] & seen[1]) - {DECODE}
    return [*(stage for stage in STAGES if stage in both), *sorted(both.difference(STAGES))]


def _differences(a: Report, b: Report, common: Sequence[tuple[BudgetResult, BudgetResult]]) -> Iterator[str]:
    for name, read in _FACTS.items():
        x, y = (units.UNKNOWN if (value := read(report)) is None else str(value) for report in (a, b))
        if x != y:
            yield f"{name}: {x} in A, {y} in B"
    signs = [busy_sentence(report) for report in (a, b)]
    if signs[0] != signs[1]:
        yield "; ".join(f"{side}: {text or 'the machine was quiet'}" for side, text in zip("AB", signs, strict=True))
    if a.cases == b.cases and not (a.pictures_sha256 and b.pictures_sha256):
        yield "pictures: not both reports hold their hashes, so equal names are taken for equal pictures"
    elif a.cases == b.cases and a.pictures_sha256 != b.pictures_sha256:
        yield "pictures: equal names, other files"
    for mine, other in common:
        if mine.budget.method != other.budget.method:
            yield f"method at {mine.budget.name}: {mine.budget.method} in A, {other.budget.method} in B"


def _verdict(lines: Sequence[ComparisonLine]) -> Iterator[str]:
    for line in lines:
        if line.quantity not in (FIRST, FURTHER) or not isinstance(line.ratio, Ratio):
            continue
        where, ratio = f"At budget {line.budget} the time {_TIME[line.quantity]}", line.ratio
        both = f"{units.seconds(line.b)} instead of {units.seconds(line.a)}"
        if ratio.distinguishable:
            how, change = ("shorter", ratio) if ratio.point > 1 else ("longer", ratio.inverse)
            yield f"{where} is {units.times(change)} {how} in B: {both}.{_apart(line)}"
        elif ratio.n < LEAST:
            yield f"{where} is not distinguishable: {ratio.n} requests on a side, {LEAST} are needed."
        else:
            yield f"{where} is not distinguishable: A / B is {ratio.point:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]."


def _apart(line: ComparisonLine) -> str:
    if line.a is None or not line.b or not isinstance(line.ratio, Ratio):
        return ""
    return units.apart(line.ratio, line.a / line.b)
