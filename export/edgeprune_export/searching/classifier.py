"""A ViT or DeiT classifier as a search problem: counts per block of its tower, divergence of class probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.errors import PlanError
from edgeprune.later import torch
from edgeprune.models.classifiers.open import Classifier
from edgeprune.models.classifiers.pictures import pixels_from_image
from edgeprune.schedules.kept import SchedulePlace
from edgeprune.schedules.methods import SearchedMethod, tower_blocks_of
from edgeprune.schedules.plan import SchedulePlan, ScheduleSpace
from edgeprune.schedules.target import ScheduleMeasure
from edgeprune.structure.cost import macs_of_classifier
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune_export.bundle.options import require_vision
from edgeprune_export.bundle.progress import Track
from edgeprune_export.commands.export_classifier import cuts_of_classifier, work_of
from edgeprune_export.pruning.samples import CalibrationSample
from edgeprune_export.searching.problem import CostKind, JudgedSample, StepTimes, at_rows, divergence, log_softmax
from edgeprune_runtime.pictures.load import load_image
from edgeprune_runtime.spec import InsideSpec, WeightPrecision

if TYPE_CHECKING:
    from torch import nn


class ClassifierProblem:
    """See `SearchProblem`. With labels of the samples, right is what they say."""

    measures: tuple[ScheduleMeasure, ...] = ("macs", "latency", "accuracy")

    def __init__(
        self,
        classifier: Classifier,
        tower: SearchedMethod,
        samples: Sequence[CalibrationSample],
        cost: CostKind,
        precision: WeightPrecision,
    ) -> None:
        self._classifier, self._samples, self._cost, self._precision = classifier, samples, cost, precision
        spec, method = classifier.spec.vision, tower.method
        if not isinstance(method, TowerMethod):
            raise PlanError(f"{method.name} works inside a language model, and a classifier has none")
        if cost == "answers" and any(one.label is None for one in samples):
            raise PlanError(
                "--cost answers needs labels: give --images a .csv file with the columns file and label, or take --cost kl"
            )
        require_vision(precision)
        self._require_labels()
        blocks = tower_blocks_of(tower, spec.layers, self._fits)
        places = tuple(SchedulePlace("tower", block, block / spec.layers) for block in blocks)
        self.space = ScheduleSpace(places, spec.grid[0] * spec.grid[1], spec.grid, tower=method)
        self.pictures = tuple(str(one.picture) for one in samples)
        self.known = all(one.label is not None for one in samples)
        self._module: nn.Module | None = None
        self._pixels: dict[int, np.ndarray] = {}
        self._whole: dict[int, np.ndarray] = {}

    def times(self, track: Track) -> StepTimes:
        from edgeprune_export.pruning.prices.timed_rows import tower_seconds

        return tower_seconds(self._classifier.spec.vision, self._precision, track)

    def price(self, plan: SchedulePlan, measure: ScheduleMeasure, times: StepTimes) -> float | None:
        spec = self._classifier.spec
        try:
            cuts = cuts_of_classifier(plan.inside, spec)
        except PlanError:
            return None
        if measure == "macs":
            return work_of(spec, cuts)[0][1]
        tower = spec.vision
        rows = [(tower.positions,) * 2 if cuts is None else cuts.rows(block) for block in range(tower.layers)]
        seconds = [sum(at_rows(times, "tower", count) for count in pair) / 2 for pair in rows]
        # The last block of a classifier does less: its share is that of the MACs, as for `edgeprune prune`.
        macs, width = macs_of_classifier(tower, spec.classes), tower.at(tower.layers - 1)
        assert macs.last is not None
        last = width.heads * macs.last[0] + width.mlp * macs.last[1]
        full = width.heads * macs.group + width.mlp * macs.channel
        return sum(seconds[:-1]) + seconds[-1] * last / full

    def require(self, plan: SchedulePlan) -> None:
        cuts_of_classifier(plan.inside, self._classifier.spec)

    def load(self) -> None:
        from edgeprune_export.gate.eager_classifier import classifier_module
        from edgeprune_export.gate.noted_attention import NAME

        self._module = classifier_module(self._classifier, NAME).requires_grad_(False)

    def judge(self, plan: SchedulePlan, samples: Sequence[int]) -> list[JudgedSample]:
        return [self._judged(plan, number) for number in samples]

    def _judged(self, plan: SchedulePlan, number: int) -> JudgedSample:
        whole = self._whole_logits(number)
        found = whole if plan.whole else self._logits(plan, number)
        label = self._samples[number].label
        right = float(int(found.argmax()) == (int(whole.argmax()) if label is None else label))
        if self._cost == "kl":
            return JudgedSample(divergence(whole, found), right)
        assert label is not None
        return JudgedSample(float((log_softmax(whole) - log_softmax(found))[0, label]), right)

    def _logits(self, plan: SchedulePlan, number: int) -> np.ndarray:
        from edgeprune_export.gate.eager_classifier import cut_logits

        cuts, module = cuts_of_classifier(plan.inside, self._classifier.spec), self._module
        assert module is not None
        if number not in self._pixels:
            picture = self._samples[number].picture
            assert picture is not None
            self._pixels[number] = np.asarray(pixels_from_image(load_image(picture), self._classifier.spec), np.float32)
        pixels = self._pixels[number][None]
        with torch.inference_mode():
            return np.asarray(
                module(torch.from_numpy(pixels)).logits if cuts is None else cut_logits(module, cuts, pixels)
            )

    def _whole_logits(self, number: int) -> np.ndarray:
        if number not in self._whole:
            self._whole[number] = self._logits(SchedulePlan(), number)
        return self._whole[number]

    def _fits(self, spec: InsideSpec) -> None:
        cuts_of_classifier((spec,), self._classifier.spec)

    def _require_labels(self) -> None:
        classes = self._classifier.spec.classes
        for one in self._samples:
            if one.label is not None and one.label >= classes:
                raise PlanError(f"{one.picture} has label {one.label}; the model has classes 0 to {classes - 1}")
