"""A plain ViT or DeiT classifier as a prunable model: many pictures side by side, each a sample."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from edgeprune.errors import PlanError
from edgeprune.models.classifiers.config import saved_config, saved_processor
from edgeprune.models.classifiers.names import from_huggingface
from edgeprune.models.classifiers.open import Classifier
from edgeprune.models.classifiers.pictures import pixels_from_image
from edgeprune.models.config.structure_key import structure_entry
from edgeprune.structure.plan import StructurePlan, pruned_tower, widths
from edgeprune.structure.sites import Specs
from edgeprune_export.gate.eager_classifier import classifier_module
from edgeprune_export.pruning.prunable import Batch
from edgeprune_export.pruning.samples import CalibrationSample, noise
from edgeprune_export.pruning.specs import specs_of_classifier
from edgeprune_runtime.pictures.load import load_image

_SIDE_BY_SIDE = 16
_SMALLEST_CROP = 0.5  # share of the area that training sees at least


class PrunableClassifier:
    """transformers' classifier with all weights, and its calibration pictures. `Subject` says what the methods do."""

    def __init__(self, classifier: Classifier, samples: Sequence[CalibrationSample]) -> None:
        self.module: nn.Module = classifier_module(classifier).requires_grad_(False)
        self.specs = specs_of_classifier(classifier.spec.vision)
        self._classifier = classifier
        self.side_by_side = _SIDE_BY_SIDE
        self._take(samples)

    def _take(self, samples: Sequence[CalibrationSample]) -> None:
        self._data, self.samples = tuple(samples), len(samples)
        self._pixels: dict[int, Tensor] = {}

    def over(self, samples: Sequence[CalibrationSample]) -> PrunableClassifier:
        other = copy(self)
        other._take(samples)
        return other

    def batch(self, numbers: Sequence[int], random: torch.Generator | None = None) -> Batch:
        """With `random`: crops of at least half of the picture, and flips."""
        pixels = [self._read(number) for number in numbers]
        if random is not None:
            pixels = [_varied(one, random) for one in pixels]
        labels = [self._data[number].label for number in numbers]
        known = None if None in labels else torch.tensor(labels, dtype=torch.int64)
        return Batch(len(numbers), {"pixel_values": torch.stack(pixels)}, labels=known)

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = module(**batch.inputs).logits
        return logits

    def features(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """All rows of the last block, and the logits."""
        out = module(**batch.inputs, output_hidden_states=True)
        return out.hidden_states[-1], out.logits

    def attention(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        raise PlanError("a classifier has no language model whose attention could be read")

    def pruned(self, plan: StructurePlan) -> Specs:
        tower = self._classifier.spec.vision
        kept = plan.of("tower")
        return self.specs if kept is None else specs_of_classifier(pruned_tower(tower, kept, tower.layers))

    def config(self, plan: StructurePlan, smaller: nn.Module) -> dict[str, Any]:
        spec = self._classifier.spec
        tower, _ = self.pruned(plan)["tower"]
        said = saved_config(spec) | {"num_hidden_layers": tower.layers}
        return said | structure_entry({"tower": widths(tower, tower.layers)})

    def stored(self, name: str) -> str | None:
        weights, known = self._classifier.weights, from_huggingface(name) or ""
        return weights.dtype(known) if known in weights.shapes else None

    def files(self) -> dict[str, Any]:
        """How pictures become pixels, in Hugging Face's words, whatever form the source had."""
        return {"preprocessor_config.json": saved_processor(self._classifier.spec)}

    def _read(self, number: int) -> Tensor:
        if number not in self._pixels:
            sample, spec = self._data[number], self._classifier.spec
            if sample.label is not None and sample.label >= spec.classes:
                raise PlanError(
                    f"{sample.picture} has label {sample.label}; the model has classes 0 to {spec.classes - 1}"
                )
            size = spec.vision.image_px
            picture = noise(size, sample.seed) if sample.picture is None else load_image(sample.picture)
            self._pixels[number] = torch.from_numpy(np.asarray(pixels_from_image(picture, spec), np.float32))
        return self._pixels[number]


def _varied(pixels: Tensor, random: torch.Generator) -> Tensor:
    """A random square crop, resized back, and half of the time flipped. [3, P, P] -> [3, P, P]."""
    size = pixels.shape[-1]
    share, across, down, flip = torch.rand(4, generator=random).tolist()
    side = max(1, round(size * (_SMALLEST_CROP + (1 - _SMALLEST_CROP) * share) ** 0.5))
    top, left = (round(place * (size - side)) for place in (down, across))
    crop = pixels[None, :, top : top + side, left : left + side]
    back = interpolate(crop, (size, size), mode="bicubic", antialias=True, align_corners=False)[0]
    return back.flip(-1) if flip < 0.5 else back
