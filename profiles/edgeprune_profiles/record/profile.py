"""One profile as data: what was run, on what, and every raw number. JSON in and out (msgspec).

Statistics are functions of this (`summary.py`). A saved file has those of the day under `derived`, for readers without
edgeprune; they are not read back, so a report cannot disagree with its samples. `docs/schema/profile.json` is the schema.
Names carry units: seconds, bytes, joules. None = unknown. Paths are recorded in the command only; all else is names and hashes.
Schema 2 added backend, hashes of pictures and engines, power windows and the soak; schema 3 what else the machine did; schema 4 second
questions. A file of an earlier schema reads as one without.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeprune_profiles.record.power_profile import PowerWindow
from edgeprune_profiles.record.sustain import Soak
from edgeprune_runtime.budgets import asked_for
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.busy import MachineUse
from edgeprune_runtime.meters.environment import Environment
from edgeprune_runtime.meters.memory import MemoryReading
from edgeprune_runtime.statistics import PairedDifference

SCHEMA = 4
STAGES = ("preprocess", "tower", "select", "prefill", "decode")
DECODE = "decode"


class Record(msgspec.Struct, frozen=True):
    """Base of all report data: immutable, equal by value."""


class BudgetRecord(Record, frozen=True):
    """One way of choosing visual tokens that the bundle holds. `keep_ratio` 1.0 drops nothing; its `keep` is None.

    name            a budget, the method where it is not the bundle's own, and on how many tiles where that was limited
                    (`edgeprune_runtime.budgets.asked_for`)
    weights_bytes   the bundle's one weights file, which all budgets share
    cache_bytes     rows of the KV cache that the longest request writes
    """

    name: str
    method: str
    keep: int | None
    keep_ratio: float
    weights_bytes: int | None = None
    cache_bytes: int | None = None

    @property
    def full(self) -> bool:
        """Whether nothing is left out: neither tokens nor tiles."""
        asked = asked_for(self.name)
        return self.keep_ratio == 1.0 and asked.tiles is None and asked.inside == "none"


class SecondQuestion(Record, frozen=True):
    """Another question about the picture of a request, asked right after it up to its first token: the picture was encoded, and the first
    `cached_tokens` of its `prompt_tokens` lay in the cache. Stage -> seconds as in RequestSample.
    """

    prompt_tokens: int
    cached_tokens: int
    wall_s: dict[str, tuple[float, ...]]
    cpu_s: dict[str, tuple[float, ...]]

    @property
    def ttft_s(self) -> float:
        """Time to first token."""
        return sum(sum(times) for stage, times in self.wall_s.items() if stage != DECODE)


class RequestSample(Record, frozen=True):
    """One request, computed from its first row on. Stage -> seconds of each time it ran, in order: one per tile for `tower`, one per token
    in `decode`.

    wall_s   on the clock
    cpu_s    processor seconds of all threads of the process
    second   what was asked afterwards; None: nothing was
    """

    repetition: int
    case: int
    visual_tokens: int
    generated_tokens: int
    wall_s: dict[str, tuple[float, ...]]
    cpu_s: dict[str, tuple[float, ...]]
    energy_j: float | None = None
    second: SecondQuestion | None = None

    @property
    def ttft_s(self) -> float:
        """Time to first token: everything that is not decode, so preprocessing and the vision tower included."""
        return sum(sum(times) for stage, times in self.wall_s.items() if stage != DECODE)

    @property
    def ttft_cpu_s(self) -> float:
        """Processor seconds up to the first token."""
        return sum(sum(times) for stage, times in self.cpu_s.items() if stage != DECODE)

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first: mean of the decode steps. None when there was no step."""
        steps = self.wall_s.get(DECODE, ())
        return sum(steps) / len(steps) if steps else None


class BudgetResult(Record, frozen=True):
    """`power` holds one window for each piece of a request; none without --power, or without a sensor."""

    budget: BudgetRecord
    samples: tuple[RequestSample, ...]
    memory: MemoryReading | None = None
    power: tuple[PowerWindow, ...] = ()


class BundleRef(Record, frozen=True):
    """Which bundle: the folder's own name and the hash of its manifest."""

    name: str
    sha256: str


class EnginesRef(Record, frozen=True):
    """Which engines ran: their folder inside the bundle and the hash of its engines.json."""

    folder: str
    sha256: str


class BackendUse(Record, frozen=True):
    """What ran the graphs, and why no backend that is preferred to it. `device` is "cpu" or "gpu"."""

    name: str
    why: str
    device: str
    engines: EnginesRef | None = None


class AccuracyRow(Record, frozen=True):
    """One selection on one data file. Scores are in 0..1 by metric name; `over` is the lead over each other method there."""

    name: str
    method: str
    keep_ratio: float
    questions: int
    errors: int
    scores: dict[str, float]
    differences: dict[str, PairedDifference]
    keep: int | None = None
    kinds: dict[str, float] = {}
    over: dict[str, PairedDifference] = {}


class Accuracy(Record, frozen=True):
    """What `edgeprune eval --out` writes. `headline` names the metric that is drawn, `settings` what decided the answers."""

    data: str
    images: int
    questions: int
    headline: str
    rows: tuple[AccuracyRow, ...]
    settings: dict[str, str] = {}


class Report(Record, frozen=True):
    """`notes` are sentences about the conditions; `threads` 0 means that the backend chose.

    pictures_sha256   of each case, in their order
    second_question   what was asked of the same picture after each request; None: nothing was
    power_source      what the power windows read, or "unknown: ..." with the reason; None: nobody asked for power
    use_before        what else the machine did just before the warm-up, while this program rested
    use_during        and during the rounds that count
    """

    schema: int
    created: str
    command: str
    bundle: BundleRef
    environment: Environment
    cases: tuple[str, ...]
    max_tokens: int
    warmup_rounds: int
    repetitions: int
    seed: int
    energy_source: str
    memory_scope: str
    budgets: tuple[BudgetResult, ...]
    accuracy: Accuracy | None = None
    question: str | None = None
    threads: int = 0
    notes: tuple[str, ...] = ()
    backend: BackendUse | None = None
    pictures_sha256: tuple[str, ...] = ()
    power_source: str | None = None
    soak: Soak | None = None
    use_before: MachineUse | None = None
    use_during: MachineUse | None = None
    second_question: str | None = None


class _Version(msgspec.Struct):
    schema: int


class _Kind(msgspec.Struct):
    """What tells an evaluation (`headline`) from a profile (`repetitions`)."""

    headline: str | None = None
    repetitions: int | None = None


def load_report(path: Path) -> Report:
    """Raises MeasurementError for a file that is missing, broken or of a newer edgeprune."""
    content = _read(path)
    if _kind(content).headline is not None:
        raise MeasurementError(
            f"{path} is an evaluation, not a profile; give the file of `edgeprune profile --out`, and this one to "
            "`edgeprune report` with --eval"
        )
    try:
        found = msgspec.json.decode(content, type=_Version).schema
        if found > SCHEMA:
            raise MeasurementError(
                f"{path} is a report of schema {found}, this edgeprune reads up to {SCHEMA}; upgrade edgeprune"
            )
        report = msgspec.json.decode(content, type=Report)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MeasurementError(f"{path} is not a usable report: {error}; run `edgeprune profile` again") from error
    if report.accuracy is not None:
        _require_scores(report.accuracy, path)
    return report


def load_accuracy(path: Path) -> Accuracy:
    """The result of an evaluation, to be put into a report. Raises MeasurementError as above."""
    content = _read(path)
    if _kind(content).repetitions is not None:
        raise MeasurementError(f"{path} is a profile, not an evaluation; give the file of `edgeprune eval --out`")
    try:
        found = msgspec.json.decode(content, type=Accuracy)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MeasurementError(f"{path} is not a usable evaluation: {error}; run `edgeprune eval` again") from error
    _require_scores(found, path)
    return found


def _kind(content: bytes) -> _Kind:
    try:
        return msgspec.json.decode(content, type=_Kind)
    except (msgspec.MsgspecError, RecursionError):  # whoever reads it says what is wrong
        return _Kind()


def _require_scores(accuracy: Accuracy, path: Path) -> None:
    """Every row has a score in every metric that the headline or another row has."""
    if not accuracy.rows:
        raise MeasurementError(f"{path} is not a usable evaluation: it has no rows; run `edgeprune eval` again")
    metrics = {accuracy.headline, *(name for row in accuracy.rows for name in row.scores)}
    for row in accuracy.rows:
        if missing := sorted(metrics - set(row.scores)):
            raise MeasurementError(
                f"{path} is not a usable evaluation: {row.name} has no score in {', '.join(missing)}; run `edgeprune eval` again"
            )


def with_accuracy(report: Report, accuracy: Accuracy) -> Report:
    """The report with an evaluation in it. Raises MeasurementError when that is of another bundle."""
    bundle = accuracy.settings.get("bundle", report.bundle.sha256)
    if bundle != report.bundle.sha256:
        raise MeasurementError(
            f"the evaluation is of the bundle {bundle[:12]}, the profile of {report.bundle.sha256[:12]}; "
            "evaluate the bundle that was profiled"
        )
    return msgspec.structs.replace(report, accuracy=accuracy)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise MeasurementError(f"{path} is a folder; give the file that `edgeprune profile --out` wrote")
    try:
        return path.read_bytes()
    except OSError as error:
        raise MeasurementError(f"cannot read {path}: {error}") from error
