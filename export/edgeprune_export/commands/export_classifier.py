"""A plain classifier as a folder with one static graph, held against transformers before it is put in place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeprune.errors import PlanError
from edgeprune.later import torch
from edgeprune.models import Classifier, open_classifier
from edgeprune.models.classifiers.config import saved_config, saved_processor
from edgeprune.models.classifiers.pictures import pixels_from_image
from edgeprune.models.spec import ClassifierSpec
from edgeprune.structure.cost import macs_of_classifier, macs_of_cut_classifier
from edgeprune.structure.plan import widths
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.text import require_one_per_part, require_sound
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts, cuts_of
from edgeprune_export.bundle.options import require_vision
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.seal import CLASSIFIER, publish, require_free, staging
from edgeprune_export.gate.checks import LIMITS, NEAR_TIES, Checks, relative, typical
from edgeprune_export.gate.pictures import fixed_pictures
from edgeprune_runtime.backends import backend
from edgeprune_runtime.spec import GraphSpec, InsideSpec, ParityCheck, WeightPrecision


@dataclass(frozen=True)
class ExportedClassifier:
    """What was written.

    macs    multiply-accumulates of a picture, whole and as cut, without those of the cuts' own steps
    tokens  (rows that attend, rows that the MLP sees) of every block but the last, whose only row is the class token's
    """

    graph: GraphSpec
    parity: tuple[ParityCheck, ...]
    macs: tuple[float, float]
    tokens: tuple[tuple[int, int], ...]


def export_classifier(
    source: str | Path,
    out: Path,
    *,
    precision: WeightPrecision = "fp32",
    inside: Sequence[InsideSpec] = (),
    parity: bool = True,
    force: bool = False,
    track: Track = silent,
) -> ExportedClassifier:
    """model.onnx, weights.bin, config.json and preprocessor_config.json in `out`. Nothing is left behind on any error.

    inside  how tokens leave between blocks

    Raises CheckpointError, PlanError, ExportError or ParityError.
    """
    require_free(out, force=force, marker=CLASSIFIER)
    require_vision(precision)
    classifier = open_classifier(source)
    cuts = cuts_of_classifier(inside, classifier.spec)
    checks = Checks(LIMITS[precision])
    with staging(out, force=force, marker=CLASSIFIER) as folder:
        from edgeprune_export.graphs.classifier import write_classifier

        with track("graph", 1) as advance:
            spec = write_classifier(classifier, folder, precision, cuts)
            advance()
        for name, said in (
            ("config.json", saved_config(classifier.spec)),
            ("preprocessor_config.json", saved_processor(classifier.spec)),
        ):
            (folder / name).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        if parity:
            with track("parity gate", 0):
                _gate(classifier, folder, spec, precision, cuts, checks)
        publish(folder, out)
    return ExportedClassifier(spec, tuple(checks.made), *work_of(classifier.spec, cuts))


def cuts_of_classifier(inside: Sequence[InsideSpec], spec: ClassifierSpec) -> TowerCuts | None:
    """The plan on this classifier. Raises PlanError for what it cannot do."""
    require_one_per_part(inside)
    for one in inside:
        require_sound(one)
        method = INSIDE[one.method]
        if not isinstance(method, TowerMethod):
            raise PlanError(f"{method.name} works inside a language model, and a classifier has none")
        last = spec.vision.layers - 1  # asks with the class token's row alone, but reads keys of all
        return cuts_of(one, method, spec.vision, {"before": last, "between": last - 1, "after": last - 1})
    return None


def work_of(spec: ClassifierSpec, cuts: TowerCuts | None) -> tuple[tuple[float, float], tuple[tuple[int, int], ...]]:
    """(MACs whole and cut, rows of every block but the last)."""
    tower = spec.vision
    whole = macs_of_classifier(tower, spec.classes).of(widths(tower, tower.layers))
    if cuts is None:
        return (whole, whole), ((tower.positions, tower.positions),) * (tower.layers - 1)
    rows = tuple(cuts.rows(i) for i in range(tower.layers))
    return (whole, macs_of_cut_classifier(tower, spec.classes, rows)), rows[:-1]


def _gate(
    classifier: Classifier,
    folder: Path,
    spec: GraphSpec,
    precision: WeightPrecision,
    cuts: TowerCuts | None,
    checks: Checks,
) -> None:
    from edgeprune_export.gate.eager_classifier import classifier_module, cut_logits
    from edgeprune_export.gate.noted_attention import NAME

    module = classifier_module(classifier, "sdpa" if cuts is None else NAME)
    session = backend().open(folder, spec, resident=precision == "int8")
    pixels = np.zeros(spec.inputs[0].shape, np.float32)
    logits = np.zeros(spec.outputs[0].shape, np.float32)
    session.bind({"pixels": pixels, "logits": logits})
    for picture in fixed_pictures():
        pixels[0] = pixels_from_image(picture, classifier.spec)
        session.run()
        with torch.inference_mode():
            eager = (
                module(torch.from_numpy(pixels)).logits if cuts is None else cut_logits(module, cuts, pixels)
            ).numpy()
        # Where a near tie falls the other way, one token goes elsewhere: then the typical difference counts.
        steady = cuts is None or cuts.method.steady
        norm, limit = (
            (checks.limits.norm, checks.limits.logits) if steady else (typical, max(checks.limits.logits, NEAR_TIES))
        )
        checks.at_most("classifier: logits", "", relative(logits, eager, norm), limit)
