"""A plain classifier as a folder with one static graph, held against transformers before it is put in place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgeprune.later import torch
from edgeprune.models import Classifier, open_classifier
from edgeprune.models.classifiers.config import saved_config, saved_processor
from edgeprune.models.classifiers.pictures import pixels_from_image
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.seal import CLASSIFIER, publish, require_free, staging
from edgeprune_export.gate.checks import LIMITS, Checks, relative
from edgeprune_export.gate.pictures import fixed_pictures
from edgeprune_runtime.backends import backend
from edgeprune_runtime.spec import GraphSpec, ParityCheck, WeightPrecision


def export_classifier(
    source: str | Path,
    out: Path,
    *,
    precision: WeightPrecision = "fp32",
    parity: bool = True,
    force: bool = False,
    track: Track = silent,
) -> tuple[GraphSpec, tuple[ParityCheck, ...]]:
    """model.onnx, weights.bin, config.json and preprocessor_config.json in `out`. Nothing is left behind on any error.

    Raises CheckpointError, ExportError or ParityError.
    """
    require_free(out, force=force, marker=CLASSIFIER)
    classifier = open_classifier(source)
    checks = Checks(LIMITS[precision])
    with staging(out, force=force, marker=CLASSIFIER) as folder:
        from edgeprune_export.graphs.classifier import write_classifier

        with track("graph", 1) as advance:
            spec = write_classifier(classifier, folder, precision)
            advance()
        for name, said in (
            ("config.json", saved_config(classifier.spec)),
            ("preprocessor_config.json", saved_processor(classifier.spec)),
        ):
            (folder / name).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        if parity:
            with track("parity gate", 0):
                _gate(classifier, folder, spec, precision, checks)
        publish(folder, out)
    return spec, tuple(checks.made)


def _gate(classifier: Classifier, folder: Path, spec: GraphSpec, precision: WeightPrecision, checks: Checks) -> None:
    from edgeprune_export.gate.eager_classifier import classifier_module

    module = classifier_module(classifier)
    session = backend().open(folder, spec, resident=precision == "int8")
    pixels = np.zeros(spec.inputs[0].shape, np.float32)
    logits = np.zeros(spec.outputs[0].shape, np.float32)
    session.bind({"pixels": pixels, "logits": logits})
    for picture in fixed_pictures():
        pixels[0] = pixels_from_image(picture, classifier.spec)
        session.run()
        with torch.inference_mode():
            eager = module(torch.from_numpy(pixels)).logits.numpy()
        checks.at_most("classifier: logits", "", relative(logits, eager, checks.limits.norm), checks.limits.logits)
