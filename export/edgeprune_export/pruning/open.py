"""A checkpoint to prune: found out what it is, described, and loaded only when all wishes have been checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edgeprune.errors import ExportError
from edgeprune.models import Checkpoint, Classifier, open_checkpoint, open_classifier, resolve_source
from edgeprune.models.fields import config_of_folder
from edgeprune.structure.plan import Part
from edgeprune.structure.sites import Specs
from edgeprune_export.linear import Precision
from edgeprune_export.options import packed_max
from edgeprune_export.pruning.blocks import Request
from edgeprune_export.pruning.classifier import ClassifierSubject, specs_of_classifier
from edgeprune_export.pruning.llava import LlavaSubject, specs_of
from edgeprune_export.pruning.prices import Terms
from edgeprune_export.pruning.samples import Sample, noise_samples, samples_from
from edgeprune_export.pruning.subject import Subject

TEXT, TOKENS, CHUNK = 64, 32, 128
"""What latency and energy are predicted for beside the picture: positions of text, tokens of the answer; the exporter's default chunk."""


@dataclass(frozen=True)
class Opened:
    """`load` reads the weights; `verify` reads a written checkpoint back and compares it with what it should be."""

    path: Path
    specs: Specs
    terms: Terms
    samples: tuple[Sample, ...]
    load: Callable[[], Subject]
    verify: Callable[[Path, Specs], None]


def open_subject(source: str | Path, images: Path | None, pictures: int, seed: int, precision: str) -> Opened:
    """Raises CheckpointError for a model that is not supported, PlanError for samples that cannot be found."""
    samples = noise_samples(pictures, seed) if images is None else samples_from(images, pictures, seed)
    if is_classifier(source):
        return _classifier(open_classifier(source), samples, cast(Precision, precision))
    checkpoint = open_checkpoint(source)
    model = checkpoint.spec

    def verify(folder: Path, specs: Specs) -> None:
        _compare(specs_of(open_checkpoint(folder).spec), specs)

    terms = terms_of(checkpoint, cast(Precision, precision))
    return Opened(checkpoint.path, specs_of(model), terms, samples, lambda: LlavaSubject(checkpoint, samples), verify)


def _classifier(classifier: Classifier, samples: tuple[Sample, ...], precision: Precision) -> Opened:
    spec = classifier.spec

    def verify(folder: Path, specs: Specs) -> None:
        _compare(specs_of_classifier(open_classifier(folder).spec.vision), specs)

    return Opened(
        classifier.path,
        specs_of_classifier(spec.vision),
        terms_of_classifier(classifier, precision),
        samples,
        lambda: ClassifierSubject(classifier, samples),
        verify,
    )


def _compare(written: Specs, planned: Specs) -> None:
    if written != planned:
        raise ExportError("the written checkpoint reads back with other widths than were planned; report this model")


def is_classifier(source: str | Path) -> bool:
    """True for what `open_classifier` reads: a bare weights file, or a folder whose configuration is that of one model, not two."""
    if Path(source).is_file():
        return True
    config = config_of_folder(resolve_source(source))
    return not config.has("vision_config") and not config.has("text_config")


def parts_of(source: str | Path) -> tuple[Part, ...]:
    """What a model has that can be pruned; reads its configuration only."""
    if is_classifier(source):
        return tuple(specs_of_classifier(open_classifier(source).spec.vision))
    return tuple(specs_of(open_checkpoint(source).spec))


def terms_of_classifier(classifier: Classifier, precision: Precision) -> Terms:
    return Terms(precision, Request(1, 0, CHUNK, CHUNK), classes=classifier.spec.classes)


def terms_of(checkpoint: Checkpoint, precision: Precision) -> Terms:
    """The prompt is the longest unpruned picture and some text."""
    preprocess = checkpoint.spec.preprocess
    prompt = packed_max(preprocess, preprocess.candidates_max) + TEXT
    room = -(-(prompt + TOKENS) // CHUNK) * CHUNK
    half = checkpoint.weights.dtype("embed.weight") == "float16"
    return Terms(precision, Request(prompt, TOKENS, CHUNK, room), 2 if half else 4)
