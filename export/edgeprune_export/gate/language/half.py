"""The gate's language half: the prompt's token ids, logits, and a greedy continuation, with and without rows that leave inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.tokens.inside.place import CutPlace
from edgeprune_export.gate.checks import Checks, relative, typical
from edgeprune_export.gate.eager import EagerReference
from edgeprune_export.gate.inputs import LibraryInputs
from edgeprune_export.gate.language.leaving import ForcedCut
from edgeprune_export.gate.language.ranks import means_of_rows, share_of_rows
from edgeprune_export.gate.reference_run import greedy
from edgeprune_export.gate.vision import GateCase
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.prompting.pack import VISUAL, KeptPicture, Packed, pack
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.stages.counts import NOBODY_LEAVES, InsideChoice
from edgeprune_runtime.stages.lists import RowsPlan
from edgeprune_runtime.stages.plan import plan_of
from edgeprune_runtime.stages.rows import prompt_rows

_NEW_TOKENS = 8


@dataclass(frozen=True)
class LanguageGate:
    """Graphs and reference side by side. cuts: where rows leave inside."""

    bundle: Bundle
    language: LanguageModel
    prompter: Prompter
    reference: EagerReference
    library: LibraryInputs
    checks: Checks
    cuts: tuple[CutPlace, ...] = ()

    def check(self, case: GateCase, prompt: str) -> None:
        """Hold one picture under one budget against the reference, and where rows leave inside that as well."""
        if self.cuts:
            self._check(case, prompt, None)
        if not self.cuts or case.selection.whole:
            self._check(case, prompt, NOBODY_LEAVES)

    def _check(self, case: GateCase, prompt: str, choice: InsideChoice) -> None:
        manifest = self.bundle.manifest
        asked = self.prompter.render(prompt, images=1)
        tokens = self.prompter.tokens(asked, (case.picture,))
        separators = manifest.plan.separators_for(case.selection)
        packed = pack(
            tokens,
            (KeptPicture(case.picture, case.selected.kept, separators),),
            manifest.plan.positions_for(case.selection),
            manifest.picture.sequence,
        )
        embeds = self.language.compose(packed.ids, case.selected.visual)
        plan = self._plan(case, packed, choice)
        image_id, following = manifest.language.image_token_id, packed.next_position
        chosen, rows = greedy(self.language, embeds, packed.positions, following, image_id, _NEW_TOKENS, plan)
        if case.selection.whole and case.visual is not None and choice == NOBODY_LEAVES:
            ids = self.library.ids(self.prompter.expanded(asked, (case.picture,)))
            same = np.array_equal(ids[0].numpy(), np.where(packed.ids < 0, image_id, packed.ids))
            self.checks.at_least("prompt: token ids equal the library's", case.selection.budget, float(same), 1.0)
            eager = self.reference.full_logits(ids, case.visual, chosen)
        else:
            embeds[packed.ids == VISUAL] = case.eager
            whole = np.concatenate([embeds, self.language.compose(np.asarray(chosen[:-1], np.int64), None)])
            positions = np.concatenate([packed.positions, self._behind(packed, len(chosen) - 1, following)], axis=1)
            if choice == NOBODY_LEAVES:
                eager = self.reference.logits(whole, positions, len(chosen))
            else:
                eager = self._with_cuts(case, packed, plan, whole, positions, len(chosen))
        self._compare(case.selection.budget, "" if choice == NOBODY_LEAVES else ", rows leaving", eager, chosen, rows)

    def _plan(self, case: GateCase, packed: Packed, choice: InsideChoice) -> RowsPlan:
        places = case.picture.places.reshape(-1, 2)[case.selected.kept]
        manifest = self.bundle.manifest
        known = prompt_rows(packed.ids, case.selected.salience, places)
        return plan_of(manifest.language, known, choice, manifest.plan.positions)

    def _with_cuts(
        self, case: GateCase, packed: Packed, plan: RowsPlan, whole: np.ndarray, positions: np.ndarray, last: int
    ) -> np.ndarray:
        """The reference's logits with the graphs' own lists, which are held against the method's function and the library's rows."""
        budget, limits = case.selection.budget, self.checks.limits
        forced: list[ForcedCut] = []
        behind = []
        numbers = self.bundle.manifest.language.cuts
        lists = dict(zip(numbers, self.language.rows_behind_cuts(), strict=True))
        lists[0] = np.arange(len(packed.ids)) if plan.entering is None else plan.entering
        before = np.arange(len(packed.ids))  # rows of the prompt that the stage before has
        for place in self.cuts:
            means: dict[int, np.ndarray] = {}
            here, rows = plan.stages[place.number], lists[place.number]
            left = here.visual < np.count_nonzero(plan.known.visual)
            if left and place.name:
                given = self.language.ranked_from(numbers.index(place.number))
                same = share_of_rows(self.bundle, place, given, given["rows"])
                self.checks.at_least(f"{place.name}: rows equal the method's", budget, same, 1.0)
                means = means_of_rows(self.bundle, place, given, before, len(packed.ids))
            before = rows
            renumbered = left and plan.renumber
            at = np.broadcast_to(np.arange(len(rows)), (len(positions), len(rows)))
            forced.append(ForcedCut(place, rows, here.named, at if renumbered else packed.positions[:, rows], means))
            behind.append(self._behind(packed, last - 1, len(rows) if renumbered else packed.next_position))
        eager, own = self.reference.logits_of_cuts(whole, positions, last, forced, plan.known, behind)
        for cut, theirs in zip((one for one in forced if one.place.name), own, strict=True):
            visual = cut.rows[plan.known.visual[cut.rows]]
            shared = 1 - np.setdiff1d(visual, theirs).size / max(1, len(visual))
            self.checks.at_least(f"{cut.place.name}: rows of the library's layers go on", budget, shared, limits.kept)
        return eager

    @staticmethod
    def _behind(packed: Packed, count: int, following: int) -> np.ndarray:
        """Positions [axes, count] of tokens after the prompt."""
        return np.broadcast_to(following + np.arange(count), (len(packed.positions), count))

    def _compare(self, budget: str, how: str, eager: np.ndarray, chosen: list[int], rows: np.ndarray) -> None:
        limits, scale = self.checks.limits, typical(eager[0]) or 1.0
        difference = relative(rows[0], eager[0], limits.norm)
        self.checks.at_most(f"prefill and head: logits{how}", budget, difference, limits.logits)
        # 0 when the reference would choose the same token at every step; otherwise how far it prefers another.
        gap = max(float(row.max() - row[token]) for row, token in zip(eager, chosen, strict=True)) / scale
        self.checks.at_most(f"decode: greedy text of {len(chosen)} tokens{how}", budget, gap, limits.greedy)
