"""Search a schedule for a model: everything that can be refused first, then the run, then a recipe with its evidence."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgeprune.errors import PlanError
from edgeprune.models import open_checkpoint, open_classifier
from edgeprune.models.source import is_classifier
from edgeprune.plan import budget_from_text
from edgeprune.schedules.bayes import require_optuna
from edgeprune.schedules.evidence import ScheduleEvidence, least_pictures
from edgeprune.schedules.methods import searched_methods
from edgeprune.schedules.recipe_text import recipe_text
from edgeprune_export.bundle.options import ExportOptions, settled
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.pruning.samples import CalibrationSample, samples_from
from edgeprune_export.searching.classifier import ClassifierProblem
from edgeprune_export.searching.judge import PlanJudge, SearchLine, halves
from edgeprune_export.searching.problem import CostKind, SearchProblem, StepTimes
from edgeprune_export.searching.run import SearchOutcome, SearchRequest, measure_of, require_reachable
from edgeprune_export.searching.run import search as run
from edgeprune_export.searching.vlm import VlmProblem
from edgeprune_runtime.claims import claimed
from edgeprune_runtime.files import Journal, write_whole
from edgeprune_runtime.spec import TokenPlan, WeightPrecision

_CLASSIFIER, _LANGUAGE = ("absorb",), ("pdrop",)  # methods inside, where nobody names one
_TIMED = ("ttft", "latency")
_BESIDE = 12  # judgements beside the trials, about: both halves of the result, and the front


@dataclass(frozen=True)
class Searching:
    """What is asked beside the target.

    images     a folder of pictures, or a .csv of labels of a classifier; questions: a .jsonl of questions with answers about pictures, of
               those in `images` where both are given
    inside     NAME or NAME@LAYERS, for each part at most one; nothing: the defaults
    """

    images: Path | None
    questions: Path | None = None
    pictures: int = 64
    inside: tuple[str, ...] = ()
    method: str | None = None
    settings: dict[str, float] = field(default_factory=dict)
    cost: CostKind = "kl"
    precision: WeightPrecision = "fp32"
    tiles: int | None = None
    sizes: tuple[tuple[int, int], ...] | None = None
    tokens: int | None = None
    command: str = "edgeprune_export.commands.search"


@dataclass(frozen=True)
class SearchedSchedule:
    """What was found, and what of it stands in the recipe."""

    outcome: SearchOutcome
    evidence: ScheduleEvidence


def search(
    source: str | Path,
    request: SearchRequest,
    how: Searching,
    out: Path,
    *,
    track: Track = silent,
    tell: Callable[[str], None] = lambda sentence: None,
) -> SearchedSchedule:
    """Write the recipe `out`. A run that was killed goes on from the journal beside it. Raises PlanError and CheckpointError."""
    if request.by == "bayes":
        require_optuna()
    with track("reading the checkpoint", 0):
        classifier = is_classifier(source)
        samples = _samples(how, request.seed)
        problem, base = _problem(source, how, samples, request, tell, classifier=classifier)
    if request.target.measure not in _TIMED:
        require_reachable(problem, request.target, {})
    log = out.with_name(f"{out.name}.search.jsonl")
    with claimed(out), Journal(log, _about(source, request, how, problem), SearchLine, anew=True) as journal:
        judge = PlanJudge(problem, halves(problem.pictures, request.seed), journal)
        times: StepTimes = {}
        if request.target.measure in _TIMED:
            times = judge.times(track)
            require_reachable(problem, request.target, times)
        with track("searching", request.trials + _BESIDE) as advance:
            judge.advance = advance
            outcome = run(request, problem, judge, times)
        evidence = _evidence(source, request, how, problem, judge, outcome)
        write_whole(out, _recipe(outcome, evidence, base, how).encode())
    os.remove(log)
    return SearchedSchedule(outcome, evidence)


def _samples(how: Searching, seed: int) -> tuple[CalibrationSample, ...]:
    """Questions about one picture are drawn together with it. Raises PlanError where there are too few."""
    if how.images is None and how.questions is None:
        raise PlanError("a search needs pictures; give --images FOLDER, or --questions FILE.jsonl")
    if how.images is not None and not how.images.is_dir() and how.questions is not None:
        raise PlanError(f"{how.images} is no folder; with --questions, --images is the folder of their pictures")
    source = how.questions or how.images
    assert source is not None
    found = samples_from(source, None, seed)
    if how.questions is not None and how.images is not None:
        root = how.images.resolve()
        found = tuple(one for one in found if one.picture is not None and one.picture.resolve().is_relative_to(root))
    from edgeprune_export.commands.image_files import drawn

    chosen = set(drawn(list(dict.fromkeys(str(one.picture) for one in found)), how.pictures, seed))
    if len(chosen) < least_pictures():
        raise PlanError(
            f"{source} gives {len(chosen)} pictures, and half of them only confirm what the others choose; give at least {least_pictures()} "
            "(--images, --limit-images)"
        )
    return tuple(one for one in found if str(one.picture) in chosen)


def _problem(
    source: str | Path,
    how: Searching,
    samples: tuple[CalibrationSample, ...],
    request: SearchRequest,
    tell: Callable[[str], None],
    *,
    classifier: bool,
) -> tuple[SearchProblem, ExportOptions | None]:
    """The model, and for a vision-language model what its export is apart from what is searched."""
    measure = request.target.measure
    problem: SearchProblem
    if classifier:
        _require_measure(measure, ClassifierProblem.measures, "a classifier", {"ttft": "latency", "cache": "macs"})
        if how.method is not None or how.settings:
            raise PlanError("--method chooses tokens for a language model, and a classifier has none; leave it out")
        if how.questions is not None:
            raise PlanError("--questions are for a language model, and a classifier has none; give --images")
        if how.tiles is not None or how.sizes is not None or how.tokens is not None:
            raise PlanError("--tiles, --grid and --tokens are for vision-language models; leave them out")
        found = searched_methods(how.inside, _CLASSIFIER)
        if not found:
            raise PlanError(
                "in a classifier tokens leave inside the tower only; name a method with --inside, such as absorb"
            )
        one = found.get("tower") or found["language"]
        return ClassifierProblem(open_classifier(source), one, samples, how.cost, how.precision), None
    _require_measure(measure, VlmProblem.measures, "a vision-language model", {"latency": "ttft"})
    checkpoint = open_checkpoint(source, None, how.tiles, how.sizes, how.tokens)
    if any(one.label is not None for one in samples):
        raise PlanError(
            f"{how.images} holds labels, which are for classifiers; give a folder of pictures, or --questions"
        )
    for sentence in checkpoint.remarks:
        tell(sentence)
    options = ExportOptions(
        budgets=(budget_from_text("0.5"),),
        plan=TokenPlan(how.method, dict(how.settings)),
        precision=how.precision,
        stage_room="kept" if measure == "cache" else "all",
        tiles=how.tiles,
        sizes=how.sizes,
        tokens=how.tokens,
        controls=False,
        parity=False,
    )
    base = settled(options, checkpoint, tell)
    problem = VlmProblem(checkpoint, searched_methods(how.inside, _LANGUAGE), base, samples, how.cost)
    return problem, base


def _require_measure(measure: str, known: tuple[str, ...], what: str, instead: dict[str, str]) -> None:
    if measure not in known:
        raise PlanError(
            f"{what} has no {measure} to aim at; take {instead[measure]}, as in --target {instead[measure]}=0.5"
        )


def _about(source: str | Path, request: SearchRequest, how: Searching, problem: SearchProblem) -> dict[str, object]:
    """Everything that decides the results."""
    path = Path(source)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []
    return {
        "target": request.target.text,
        "by": request.by,
        "seed": request.seed,
        "trials": request.trials,
        "cost": how.cost,
        "precision": how.precision,
        "method": how.method,
        "settings": dict(how.settings),
        "inside": [problem.space.tower.name if problem.space.tower else None, problem.space.language],
        "places": [[place.part, place.layer] for place in problem.space.places],
        "pictures": list(problem.pictures),
        "tiles": [how.tiles, how.tokens, [list(one) for one in how.sizes or ()]],
        "source": {file.name: file.stat().st_size for file in files},
    }


def _evidence(
    source: str | Path,
    request: SearchRequest,
    how: Searching,
    problem: SearchProblem,
    judge: PlanJudge,
    outcome: SearchOutcome,
) -> ScheduleEvidence:
    gap, points = outcome.difference, outcome.points
    images = how.questions or how.images
    assert images is not None
    return ScheduleEvidence(
        target=request.target.text,
        measure=measure_of(request.target),
        price=outcome.price,
        cost=how.cost,
        by=request.by,
        seed=request.seed,
        trials=outcome.trials,
        images=images.name,
        choosing=len(set(judge.pictures("choose"))),
        confirming=len(set(judge.pictures("confirm"))),
        found_cost=outcome.found_costs[1],
        uniform_cost=outcome.uniform_costs[1],
        difference=(gap.low, gap.point, gap.high),
        points=(points.low, points.point, points.high),
        known=problem.known,
        gained=outcome.gained,
        said=outcome.said,
        model=Path(str(source)).name,
        command=how.command,
    )


def _recipe(outcome: SearchOutcome, evidence: ScheduleEvidence, base: ExportOptions | None, how: Searching) -> str:
    export: dict[str, object] = {} if how.precision == "fp32" else {"weights": how.precision}
    if base is not None:
        export |= {"stage-room": base.stage_room} if base.stage_room != "all" else {}
        export |= {"tiles": how.tiles} if how.tiles is not None else {}
        export |= {"grids": [list(one) for one in how.sizes]} if how.sizes else {}
        export |= {"tokens": how.tokens} if how.tokens is not None else {}
    method = None if base is None else base.plan.method
    return recipe_text(outcome.plan, method, how.settings, export, evidence)
