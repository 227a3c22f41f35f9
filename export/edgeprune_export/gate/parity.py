"""The gate of every export: graphs, run as the runtime runs them, against the eager reference on fixed pictures.

Per picture and budget: kept indices (identical on the same features), projected tokens, logits of the first token, and a greedy
continuation in which the reference must agree with every choice. Graphs are opened one group after the other, so that a large model is
never held twice. A check that fails names the graph, which is where to look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.models.checkpoint import Checkpoint
from edgeprune.plan import MethodPlan
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.readings import union
from edgeprune_export.gate.checks import LIMITS, Checks, relative, typical
from edgeprune_export.gate.eager import EagerReference
from edgeprune_export.gate.inputs import LibraryInputs
from edgeprune_export.gate.pictures import pictures_for
from edgeprune_export.gate.reference_run import Mapped, greedy
from edgeprune_export.gate.vision import GateCase, VisionGate
from edgeprune_export.graphs.select import geometry_of
from edgeprune_runtime.backends import backend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.prompting.pack import VISUAL, KeptPicture, pack
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.spec import ParityReport, SelectionSpec
from edgeprune_runtime.vision import Vision

_PROMPT = "What is in the picture?"
_NEW_TOKENS = 8


def check_parity(bundle: Bundle, checkpoint: Checkpoint, plan: MethodPlan, advance: Callable[[], None]) -> ParityReport:
    """Run the gate; raises ParityError with the first failing graph named. `advance` is called once per case and half."""
    reads = union(METHODS[s.method].reads(plan) for s in bundle.manifest.selections)
    reference = EagerReference(checkpoint, reads)
    checks = Checks(LIMITS[bundle.manifest.precision])
    pictures, engine, prompter = pictures_for(bundle.manifest.picture), Mapped(backend()), Prompter.of(bundle)
    vision = Vision(bundle, engine)
    table = bundle.tensor(bundle.manifest.language.embedding)
    vision.ask(np.asarray(table[prompter.content_ids(_PROMPT)], np.float32))
    library = LibraryInputs(checkpoint)
    gate = VisionGate(bundle, vision, reference, library, geometry_of(checkpoint.spec), checkpoint.spec, plan, checks)
    gated: list[GateCase] = []
    for picture in pictures:
        for case in gate.cases(picture):
            gated.append(case)
            advance()
    del gate, vision
    half = _LanguageGate(bundle, LanguageModel(bundle, engine), prompter, reference, library, checks)
    for case in gated:
        half.check(case)
        advance()
    name = f"transformers {_version('transformers')}, torch {_version('torch')}, float32"
    return ParityReport(None, name, len(pictures), tuple(checks.made))


def cases(picture: PictureSpec, selections: Sequence[SelectionSpec]) -> int:
    """Steps that `check_parity` will advance."""
    return 2 * len(pictures_for(picture)) * len({s.budget for s in selections})


@dataclass(frozen=True)
class _LanguageGate:
    """The gate's other half: the prompt's token ids, and logits of a greedy continuation."""

    bundle: Bundle
    language: LanguageModel
    prompter: Prompter
    reference: EagerReference
    library: LibraryInputs
    checks: Checks

    def check(self, case: GateCase) -> None:
        manifest, limits, budget = self.bundle.manifest, self.checks.limits, case.selection.budget
        asked = self.prompter.render(_PROMPT, images=1)
        tokens = self.prompter.tokens(asked, (case.picture,))
        separators = manifest.plan.separators_for(case.selection)
        packed = pack(
            tokens,
            (KeptPicture(case.picture, case.selected.kept, separators),),
            manifest.plan.positions_for(case.selection),
            manifest.picture.sequence,
        )
        embeds = self.language.compose(packed.ids, case.selected.visual)
        image_id = manifest.language.image_token_id
        chosen, rows = greedy(self.language, embeds, packed.positions, packed.next_position, image_id, _NEW_TOKENS)
        if case.selection.whole and case.visual is not None:
            ids = self.library.ids(self.prompter.expanded(asked, (case.picture,)))
            same = np.array_equal(ids[0].numpy(), np.where(packed.ids < 0, image_id, packed.ids))
            self.checks.at_least("prompt: token ids equal the library's", budget, float(same), 1.0)
            eager = self.reference.full_logits(ids, case.visual, chosen)
        else:
            embeds[packed.ids == VISUAL] = case.eager
            whole = np.concatenate([embeds, self.language.compose(np.asarray(chosen[:-1], np.int64), None)])
            following = packed.next_position + np.arange(len(chosen) - 1)
            following = np.broadcast_to(following, (len(packed.positions), len(following)))
            positions = np.concatenate([packed.positions, following], axis=1)
            eager = self.reference.logits(whole, positions, len(chosen))
        scale = typical(eager[0]) or 1.0
        difference = relative(rows[0], eager[0], limits.norm)
        self.checks.at_most("prefill and head: logits", budget, difference, limits.logits)
        # 0 when the reference would choose the same token at every step; otherwise how far it prefers another.
        gap = max(float(row.max() - row[token]) for row, token in zip(eager, chosen, strict=True)) / scale
        self.checks.at_most(f"decode: greedy text of {len(chosen)} tokens", budget, gap, limits.greedy)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
