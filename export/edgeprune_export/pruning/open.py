"""A checkpoint to prune: described, and loaded only when all requests have been checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgeprune.errors import ExportError, PlanError
from edgeprune.models import Checkpoint, Classifier, open_checkpoint, open_classifier
from edgeprune.models.grids import GridSizes
from edgeprune.models.source import is_classifier
from edgeprune.structure.plan import ModelPart
from edgeprune.structure.sites import Specs
from edgeprune_export.bundle.options import packed_max, require_vision
from edgeprune_export.pruning.prices.terms import PricedRequest, Terms
from edgeprune_export.pruning.samples import CalibrationSample, noise_samples, samples_from
from edgeprune_export.pruning.specs import specs_of, specs_of_classifier
from edgeprune_runtime.spec import WeightPrecision

if TYPE_CHECKING:
    from edgeprune_export.pruning.prunable import PrunableModel

TEXT, TOKENS, CHUNK = 64, 32, 128
"""What latency and energy are predicted for beside the picture: positions of text, tokens of the answer; the exporter's default chunk."""


@dataclass(frozen=True)
class OpenedModel:
    """`load` reads the weights; `verify` reads a written checkpoint back and compares it with what it should be."""

    path: Path
    specs: Specs
    terms: Terms
    samples: tuple[CalibrationSample, ...]
    load: Callable[[], PrunableModel]
    verify: Callable[[Path, Specs], None]


def open_prunable(
    source: str | Path,
    images: Path | None,
    pictures: int,
    seed: int,
    precision: str,
    *,
    sizes: GridSizes | None = None,
    tokens: int | None = None,
) -> OpenedModel:
    """Raises CheckpointError for a model that is not supported, PlanError for samples that cannot be found or grids that do not fit."""
    samples = noise_samples(pictures, seed) if images is None else samples_from(images, pictures, seed)
    if is_classifier(source):
        if sizes is not None or tokens is not None:
            raise PlanError(
                f"grids are for vision-language models that take any size, {source} is a classifier: leave them out"
            )
        return _classifier(open_classifier(source), samples, cast(WeightPrecision, precision))
    checkpoint = open_checkpoint(source, sizes=sizes, tokens=tokens)
    model = checkpoint.spec

    def verify(folder: Path, specs: Specs) -> None:
        _compare(specs_of(open_checkpoint(folder, sizes=sizes, tokens=tokens).spec), specs)

    def load() -> PrunableModel:
        from edgeprune_export.pruning.vlm import PrunableVlm

        return PrunableVlm(checkpoint, samples)

    terms = terms_of(checkpoint, cast(WeightPrecision, precision))
    return OpenedModel(checkpoint.path, specs_of(model), terms, samples, load, verify)


def _classifier(
    classifier: Classifier, samples: tuple[CalibrationSample, ...], precision: WeightPrecision
) -> OpenedModel:
    spec = classifier.spec

    def verify(folder: Path, specs: Specs) -> None:
        _compare(specs_of_classifier(open_classifier(folder).spec.vision), specs)

    def load() -> PrunableModel:
        from edgeprune_export.pruning.classifier import PrunableClassifier

        return PrunableClassifier(classifier, samples)

    terms = terms_of_classifier(classifier, precision)
    return OpenedModel(classifier.path, specs_of_classifier(spec.vision), terms, samples, load, verify)


def _compare(written: Specs, planned: Specs) -> None:
    if written != planned:
        raise ExportError("the written checkpoint reads back with other widths than were planned; report this model")


def parts_of(source: str | Path) -> tuple[ModelPart, ...]:
    """What a model has that can be pruned; reads its configuration only."""
    if is_classifier(source):
        return tuple(specs_of_classifier(open_classifier(source).spec.vision))
    return tuple(specs_of(open_checkpoint(source).spec))


def terms_of_classifier(classifier: Classifier, precision: WeightPrecision) -> Terms:
    """Raises PlanError for weights that are for language models only."""
    require_vision(precision)
    return Terms(precision, PricedRequest(1, 0, CHUNK, CHUNK), classes=classifier.spec.classes)


def terms_of(checkpoint: Checkpoint, precision: WeightPrecision) -> Terms:
    """The prompt is the longest unpruned picture and some text."""
    picture = checkpoint.spec.picture
    prompt = packed_max(picture, picture.candidates_max) + TEXT
    room = -(-(prompt + TOKENS) // CHUNK) * CHUNK
    half = checkpoint.weights.dtype("embed.weight") == "float16"
    return Terms(precision, PricedRequest(prompt, TOKENS, CHUNK, room), 2 if half else 4, views=picture.views)
