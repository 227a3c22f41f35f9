"""A vision-language model as a search problem: counts in the tower, at its output and in the language model, divergence of next tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.errors import PlanError
from edgeprune.models.checkpoint import Checkpoint
from edgeprune.plan import budget_from_text
from edgeprune.schedules.kept import SchedulePlace
from edgeprune.schedules.methods import SearchedMethod, language_layers_of, tower_blocks_of
from edgeprune.schedules.plan import SchedulePlan, ScheduleSpace
from edgeprune.schedules.target import ScheduleMeasure
from edgeprune.tokens.inside.encoder import encoder_reads
from edgeprune.tokens.inside.method import InsidePart
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.plan.of_model import cuts_of_plan
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.registry.fit import method_plan
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.bundle.progress import Track
from edgeprune_export.pruning.samples import CalibrationSample
from edgeprune_export.searching.problem import CostKind, JudgedSample, StepTimes, divergence, log_softmax
from edgeprune_export.searching.vlm_prices import PlannedExport, planned_export, price_of_plan
from edgeprune_runtime.errors import PromptError
from edgeprune_runtime.spec import InsideSpec, in_vision

if TYPE_CHECKING:
    from edgeprune_export.searching.vlm_run import AskedPicture, VlmRun

QUESTION = "Describe the picture."
_OWN_TOKENS, _ANSWER_TOKENS = 4, 16  # of the whole model's own answer: without and with a right one to compare it with


@dataclass(frozen=True)
class _WholeModel:
    """said: tokens along which all plans are compared; logits of the whole model there; right: 1 where its answer is."""

    asked: AskedPicture
    said: list[int]
    logits: np.ndarray
    right: float


class VlmProblem:
    """See `SearchProblem`. base: options of the export, settled, with its output method."""

    measures: tuple[ScheduleMeasure, ...] = ("macs", "cache", "ttft", "accuracy")

    def __init__(
        self,
        checkpoint: Checkpoint,
        methods: Mapping[InsidePart, SearchedMethod],
        base: ExportOptions,
        samples: Sequence[CalibrationSample],
        cost: CostKind,
    ) -> None:
        self._checkpoint, self._base, self._samples, self._cost = checkpoint, base, samples, cost
        if cost == "answers" and any(one.answer is None for one in samples):
            raise PlanError("--cost answers needs questions with answers; give --questions, or take --cost kl")
        model, tower, language = checkpoint.spec, methods.get("tower"), methods.get("language")
        blocks = () if tower is None else tower_blocks_of(tower, model.feature_layer + 1, self._fits)
        layers = () if language is None else language_layers_of(language, model.language.layers)
        half = 0.5 if blocks else 0.0
        places = (
            *(SchedulePlace("tower", block, half * block / (model.feature_layer + 1)) for block in blocks),
            SchedulePlace("output", 0, half),
            *(SchedulePlace("language", layer, half + (1 - half) * layer / model.language.layers) for layer in layers),
        )
        merge, grid = model.connector.merge, model.vision.grid
        in_tower = None if tower is None else tower.method
        assert in_tower is None or isinstance(in_tower, TowerMethod)
        self._ranking = None if language is None else language.method
        tokens = grid[0] * grid[1] // merge**2
        named = None if self._ranking is None else self._ranking.name
        self.space = ScheduleSpace(places, tokens, grid, model.picture.candidates_max, in_tower, named)
        self.pictures = tuple(str(one.picture) for one in samples)
        self.known = all(one.answer is not None for one in samples)
        self._run: VlmRun | None = None
        self._known: dict[int, _WholeModel] = {}

    def times(self, track: Track) -> StepTimes:
        from edgeprune_export.pruning.prices.timed_rows import language_seconds, tower_seconds

        model, precision = self._checkpoint.spec, self._base.precision
        whole = self._whole_export()
        stages = self._export(SchedulePlan(self._one_cut(), budget_from_text("1.0"))).language
        chunks = [stages.chunk_of(stage) for stage in stages.stages]
        found = tower_seconds(model.vision, in_vision(precision), track)
        return found | language_seconds(model.language, chunks, whole.language.capacity, precision, track)

    def price(self, plan: SchedulePlan, measure: ScheduleMeasure, times: StepTimes) -> float | None:
        try:
            return price_of_plan(self._export(plan), self._checkpoint.spec, measure, times)
        except (PlanError, PromptError):
            return None

    def require(self, plan: SchedulePlan) -> None:
        self._export(plan)

    def load(self) -> None:
        from edgeprune_export.searching.vlm_run import VlmRun

        plan = method_plan(self._base.plan, self._checkpoint.spec)
        assert self._base.plan.method is not None
        cut = self._ranking if isinstance(self._ranking, LanguageCut) else None
        reads = METHODS[self._base.plan.method].reads(plan) | encoder_reads(cut, plan)
        self._run = VlmRun(self._checkpoint, reads, plan)

    def judge(self, plan: SchedulePlan, samples: Sequence[int]) -> list[JudgedSample]:
        planned = self._export(plan)
        return [self._judged(plan, planned, number) for number in samples]

    def _judged(self, plan: SchedulePlan, planned: PlannedExport, number: int) -> JudgedSample:
        whole = self._whole_of(number)
        if plan.whole:
            return JudgedSample(0.0, whole.right)
        assert self._run is not None
        found = self._run.logits(whole.asked, planned, whole.said)
        as_said = bool((found.argmax(axis=1) == np.asarray(whole.said)).all())
        if self._cost == "kl":
            return JudgedSample(divergence(whole.logits, found), whole.right * as_said)
        said = np.asarray(whole.said)
        lost = (log_softmax(whole.logits) - log_softmax(found))[np.arange(len(said)), said]
        return JudgedSample(float(lost.mean()), float(as_said))

    def _whole_of(self, number: int) -> _WholeModel:
        """What the whole model says about a sample, computed once."""
        if number not in self._known:
            sample, run = self._samples[number], self._run
            assert run is not None and sample.picture is not None
            export = self._whole_export()
            asked = run.asked(number, sample.picture, sample.question or QUESTION)
            if self._cost == "answers":
                assert sample.answer is not None
                said = [*self._ids(sample.answer), *self._checkpoint.spec.eos_token_ids[:1]]
                logits = run.logits(asked, export, said)
                right = float((logits.argmax(axis=1) == np.asarray(said)).all())
            else:
                said = run.greedy(asked, export, _OWN_TOKENS if sample.answer is None else _ANSWER_TOKENS)
                logits = run.logits(asked, export, said)
                right = 1.0 if sample.answer is None else self._score(said, sample.answer)
            self._known[number] = _WholeModel(asked, said, logits, right)
        return self._known[number]

    def _score(self, said: Sequence[int], answer: str) -> float:
        from edgeprune.evaluate.metrics import exact_match

        assert self._run is not None
        ends = self._checkpoint.spec.eos_token_ids
        return exact_match(self._run.prompter.text([token for token in said if token not in ends]), (answer,))

    def _ids(self, text: str) -> list[int]:
        from edgeprune_export.gate.inputs import LibraryInputs

        ids: list[int] = LibraryInputs(self._checkpoint).tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _whole_export(self) -> PlannedExport:
        return self._export(SchedulePlan((), budget_from_text("1.0")))

    def _one_cut(self) -> tuple[InsideSpec, ...]:
        """A plan with stages behind a cut, for the length of their runs."""
        layer = next((place.layer for place in self.space.places if place.part == "language"), None)
        assert self._ranking is not None or layer is None
        return () if layer is None or self._ranking is None else (InsideSpec(self._ranking.name, (layer,), (0.5,)),)

    def _export(self, plan: SchedulePlan) -> PlannedExport:
        return planned_export(plan, self._checkpoint.spec, self._base)

    def _fits(self, spec: InsideSpec) -> None:
        cuts_of_plan((spec,), self._checkpoint.spec)
