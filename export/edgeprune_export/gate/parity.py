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
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.seen import union
from edgeprune_export.gate.checks import LIMITS, Checks, relative, typical
from edgeprune_export.gate.eager import EagerReference
from edgeprune_export.gate.pictures import fixed_pictures
from edgeprune_export.gate.reference_run import Mapped, greedy
from edgeprune_export.gate.vision import GateCase, VisionGate
from edgeprune_runtime.backends import backend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.prompting.prompt import Prompter, pack
from edgeprune_runtime.spec import ParityReport, SelectionSpec
from edgeprune_runtime.vision import TOWER, Vision

_PROMPT = "What is in the picture?"
_NEW_TOKENS = 8


def check_parity(bundle: Bundle, checkpoint: Checkpoint, plan: MethodPlan, advance: Callable[[], None]) -> ParityReport:
    """Run the gate; raises ParityError with the first failing graph named. `advance` is called once per case and half."""
    reads = union(METHODS[s.method].reads(plan) for s in bundle.manifest.selections if s.tower == TOWER)
    reference = EagerReference(checkpoint, reads)
    checks = Checks(LIMITS[bundle.manifest.precision])
    pictures, engine, prompter = fixed_pictures(), Mapped(backend()), Prompter(bundle)
    vision = Vision(bundle, engine)
    table = bundle.tensor(bundle.manifest.language.embedding)
    vision.ask(np.asarray(table[prompter.content_ids(_PROMPT)], np.float32))
    gate = VisionGate(bundle, vision, reference, plan, checks)
    found: list[GateCase] = []
    for picture in pictures:
        for case in gate.cases(picture, prompter.rendered(_PROMPT, images=1)):
            found.append(case)
            advance()
    del gate, vision
    language, ids = LanguageModel(bundle, engine), prompter.ids(_PROMPT, images=1)
    for case in found:
        _language_case(bundle, language, reference, case, ids, checks)
        advance()
    name = f"transformers {_version('transformers')}, torch {_version('torch')}, float32"
    return ParityReport(None, name, len(pictures), tuple(checks.made))


def cases(bundle_selections: Sequence[SelectionSpec]) -> int:
    """Steps that `check_parity` will advance."""
    own = {s.budget for s in bundle_selections}
    return 2 * len(fixed_pictures()) * len(own)


def _language_case(
    bundle: Bundle,
    language: LanguageModel,
    reference: EagerReference,
    case: GateCase,
    ids: list[int],
    checks: Checks,
) -> None:
    manifest, limits = bundle.manifest, checks.limits
    newline = manifest.language.newline
    separators = manifest.plan.separators_for(case.selection)
    packed = pack(
        ids, manifest.language.image_token_id, case.layout, case.selected.kept, separators, manifest.plan.positions
    )
    between = None if newline is None else np.asarray(bundle.tensor(newline), np.float32)
    embeds = language.compose(packed.ids, case.selected.visual, between)
    image_id = manifest.language.image_token_id
    chosen, rows = greedy(language, embeds, packed.positions, packed.next_position, image_id, _NEW_TOKENS)
    if case.selection.whole:
        eager = reference.full_logits(case.inputs, chosen)
    else:
        embeds[packed.ids == -1] = case.eager
        whole = np.concatenate([embeds, language.embed(chosen[:-1])])
        positions = np.concatenate([packed.positions, packed.next_position + np.arange(len(chosen) - 1)])
        eager = reference.logits(whole, positions, len(chosen))
    budget, scale = case.selection.budget, typical(eager[0]) or 1.0
    difference = relative(rows[0], eager[0], limits.norm)
    checks.at_most("prefill and head: logits", budget, difference, limits.logits)
    # 0 when the reference would choose the same token at every step; otherwise how far it prefers another.
    gap = max(float(row.max() - row[token]) for row, token in zip(eager, chosen, strict=True)) / scale
    checks.at_most(f"decode: greedy text of {len(chosen)} tokens", budget, gap, limits.greedy)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
