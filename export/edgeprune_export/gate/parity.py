"""The gate of every export: graphs, run as the runtime runs them, against the eager reference on fixed pictures.

Per picture and budget: kept indices (identical on the same features), projected tokens, logits of the first token, and a greedy
continuation in which the reference must agree with every choice. Graphs are opened one group after the other, so that a large model is
never held twice. A check that fails names the graph, which is where to look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeprune.models.checkpoint import Checkpoint
from edgeprune.plan import MethodPlan
from edgeprune.tokens.inside.encoder import encoder_reads
from edgeprune.tokens.inside.language_fit import language_cut
from edgeprune.tokens.inside.plan import planned_inside
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.readings import union
from edgeprune_export.gate.checks import LIMITS, Checks
from edgeprune_export.gate.eager import EagerReference
from edgeprune_export.gate.inputs import LibraryInputs
from edgeprune_export.gate.language.half import LanguageGate
from edgeprune_export.gate.pictures import pictures_for
from edgeprune_export.gate.reference_run import Mapped
from edgeprune_export.gate.vision import GateCase, VisionGate
from edgeprune_export.graphs.select import geometry_of
from edgeprune_export.graphs.stages import cut_places
from edgeprune_runtime.backends import backend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.spec import ParityReport, SelectionSpec
from edgeprune_runtime.vision import Vision

PROMPT = "What is in the picture?"


def check_parity(bundle: Bundle, checkpoint: Checkpoint, plan: MethodPlan, advance: Callable[[], None]) -> ParityReport:
    """Run the gate; raises ParityError with the first failing graph named. `advance` is called once per case and half."""
    manifest = bundle.manifest
    reads = union(METHODS[s.method].reads(plan) for s in manifest.selections)
    inside = planned_inside(manifest.plan, "language")
    cuts = cut_places(manifest.language, checkpoint.spec.language, inside)
    reads |= encoder_reads(language_cut(manifest.plan), plan)
    reference = EagerReference(checkpoint, reads, leaving=bool(cuts))
    checks = Checks(LIMITS[bundle.manifest.precision])
    pictures, engine, prompter = pictures_for(bundle.manifest.picture), Mapped(backend()), Prompter.of(bundle)
    vision = Vision(bundle, engine)
    table = bundle.tensor(bundle.manifest.language.embedding)
    vision.ask(np.asarray(table[prompter.content_ids(PROMPT)], np.float32))
    library = LibraryInputs(checkpoint)
    gate = VisionGate(bundle, vision, reference, library, geometry_of(checkpoint.spec), checkpoint.spec, plan, checks)
    gated: list[GateCase] = []
    for picture in pictures:
        for case in gate.cases(picture):
            gated.append(case)
            advance()
    del gate, vision
    half = LanguageGate(bundle, LanguageModel(bundle, engine), prompter, reference, library, checks, cuts)
    for case in gated:
        half.check(case, PROMPT)
        advance()
    name = f"transformers {_version('transformers')}, torch {_version('torch')}, float32"
    return ParityReport(None, name, len(pictures), tuple(checks.made))


def cases(picture: PictureSpec, selections: Sequence[SelectionSpec]) -> int:
    """Steps that `check_parity` will advance."""
    return 2 * len(pictures_for(picture)) * len({s.budget for s in selections})


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
