"""transformers' modules over pictures and questions, tokens leaving as a plan says: logits along a given continuation.

The pieces are those of the export gate: its tower and its decoder from which rows leave by hooks, the methods' own functions between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgeprune.models.checkpoint import Checkpoint
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine
from edgeprune.tokens.inside.encoder import encoder_score
from edgeprune.tokens.inside.language_fit import language_cut
from edgeprune.tokens.inside.plan import planned_inside
from edgeprune.tokens.inside.tower.plan.of_model import cuts_for
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.readings import ALIVE, Reads, alive_slots, outputs_from
from edgeprune_export.bundle.prompter import prompter_of
from edgeprune_export.gate.eager import EagerReference
from edgeprune_export.gate.language.leaving import ForcedCut
from edgeprune_export.graphs.select import QUESTION_ROWS, geometry_of
from edgeprune_export.graphs.stages import cut_places
from edgeprune_export.searching.vlm_prices import PlannedExport
from edgeprune_runtime.pictures.entropy import unit_entropy
from edgeprune_runtime.pictures.load import load_image
from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.prompting.pack import LEARNED, VISUAL, KeptPicture, PromptTokens, pack
from edgeprune_runtime.spec import SelectionSpec
from edgeprune_runtime.stages.counts import stage_rows
from edgeprune_runtime.stages.rows import PromptRows, prompt_rows

TowerReadings = dict[str, torch.Tensor]
_REMEMBERED = 256  # pictures whose whole tower is kept in memory


@dataclass(frozen=True, eq=False)
class AskedPicture:
    """A picture and a question about it, ready for the tower. host: readings that no tower computes."""

    number: int
    picture: PackedPicture
    tiles: torch.Tensor
    tokens: PromptTokens
    host: TowerReadings


class VlmRun:
    """A checkpoint with its weights in memory. reads: what any method of the search looks at."""

    def __init__(self, checkpoint: Checkpoint, reads: Reads, plan: MethodPlan) -> None:
        self.spec, self._plan = checkpoint.spec, plan
        self.prompter = prompter_of(checkpoint)
        self._reference = EagerReference(checkpoint, reads, leaving=True, resident=True)
        self._table = checkpoint.weights.read("embed.weight")
        learned = self.spec.learned
        self._learned = None if learned is None else checkpoint.weights.read(learned)
        self._whole: dict[int, TowerReadings] = {}

    def asked(self, number: int, picture: Path, question: str) -> AskedPicture:
        """Read a picture file and tokenise the question."""
        spec = self.spec.picture
        image = load_image(picture)
        packed = pack_picture(spec.place(image.height, image.width), spec)
        tiles = tiles_from_image(image, spec, packed.place)
        words = self._table[self.prompter.content_ids(question)][:QUESTION_ROWS].astype(np.float32)
        rows, weight = torch.zeros(QUESTION_ROWS, self.spec.language.hidden), torch.zeros(QUESTION_ROWS)
        rows[: len(words)], weight[: len(words)] = torch.from_numpy(words), 1 / max(len(words), 1)
        entropy = np.zeros((spec.tiles_max, spec.tile.units), np.float32)
        for t, tile in enumerate(tiles):
            entropy[t, spec.tile.units_of(packed.place.view)] = unit_entropy(tile, spec.tile)
        host = {"question": rows, "question_weight": weight, "entropy": torch.from_numpy(entropy)}
        asked = self.prompter.render(question, images=1)
        return AskedPicture(number, packed, torch.from_numpy(tiles), self.prompter.tokens(asked, (packed,)), host)

    def greedy(self, asked: AskedPicture, planned: PlannedExport, most: int) -> list[int]:
        """Tokens that the plan's model says first, up to an end token or to so many."""
        said: list[int] = []
        while len(said) < most:
            said.append(int(self.logits(asked, planned, [*said, 0])[-1].argmax()))
            if said[-1] in self.spec.eos_token_ids:
                break
        return said

    @torch.inference_mode()
    def logits(self, asked: AskedPicture, planned: PlannedExport, said: Sequence[int]) -> np.ndarray:
        """Logits [n, V] that predict each of the n tokens said behind the prompt."""
        spec, manifest_plan = self.spec, planned.options.plan
        selection = planned.for_tokens(spec.picture.tokens_of(asked.picture.place))
        visual, kept, salience = self._selected(asked, planned, selection)
        separators = manifest_plan.separators_for(selection)
        packed = pack(
            asked.tokens,
            (KeptPicture(asked.picture, kept, separators),),
            manifest_plan.positions_for(selection),
            spec.picture.sequence,
        )
        rows = np.concatenate(
            [self._composed(packed.ids, visual), self._composed(np.asarray(said[:-1], np.int64), None)]
        )
        behind = packed.next_position + np.arange(len(said) - 1)
        axes = len(packed.positions)
        positions = np.concatenate([packed.positions, np.broadcast_to(behind, (axes, len(behind)))], axis=1)
        known = prompt_rows(packed.ids, salience, asked.picture.places.reshape(-1, 2)[kept])
        cuts = self._cuts(planned, known)
        logits, _ = self._reference.logits_of_cuts(rows, positions, len(said), cuts, known, [behind] * len(cuts))
        return logits

    def _cuts(self, planned: PlannedExport, known: PromptRows) -> list[ForcedCut]:
        """The method's own rows go on, as many as each stage has."""
        language = planned.language
        there = stage_rows(language, len(known.visual), int(known.visual.sum()))
        places = cut_places(language, self.spec.language, planned_inside(planned.options.plan, "language"))
        return [ForcedCut(place, None, there[place.number].named) for place in places]

    def _selected(
        self, asked: AskedPicture, planned: PlannedExport, selection: SelectionSpec
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(rows [k, row width], flat numbers [k], the encoder's score of them where the language cut goes by it)."""
        method, spec = METHODS[selection.method], self.spec
        named = dict(self._tower(asked, planned, selection))
        if ALIVE in named:
            named["slot"] = alive_slots(named["slot"], named[ALIVE])
        outputs = outputs_from(named, geometry_of(spec))
        reduction = method.reduce(outputs, selection.keep, self._plan)
        there = reduction.index >= 0
        parts = [self._reference.project(combine.apply(outputs, reduction))]
        for i in range(len(spec.deepstack)):
            parts.append(self._reference.project(combine.taken(named[f"deepstack_{i}"], reduction), i))
        cut, salience = language_cut(planned.options.plan), None
        kept = reduction.index[there]
        if cut is not None and "salience" in cut.reads:
            salience = encoder_score(cut, outputs, self._plan).flatten()[kept].numpy()
        return np.concatenate(parts, axis=1)[there.numpy()], kept.numpy(), salience

    def _tower(self, asked: AskedPicture, planned: PlannedExport, selection: SelectionSpec) -> TowerReadings:
        cuts = cuts_for(
            selection, self._plan, planned.options.plan.inside, self.spec, METHODS, asked.picture.place.view
        )
        if cuts is None and asked.number in self._whole:
            return self._whole[asked.number] | asked.host
        found = self._reference.outputs(asked.tiles, asked.picture, asked.host, cuts)
        if cuts is None and len(self._whole) < _REMEMBERED:
            self._whole[asked.number] = found
        return found

    def _composed(self, ids: np.ndarray, visual: np.ndarray | None) -> np.ndarray:
        """Rows [S, row width] of a packed prompt, as `LanguageModel.compose` makes them."""
        width = self.spec.language.hidden
        rows = np.zeros((len(ids), width * (1 + len(self.spec.deepstack))), np.float32)
        rows[ids >= 0, :width] = self._table[ids[ids >= 0]]
        if visual is not None:
            rows[ids == VISUAL] = visual
        if self._learned is not None:
            rows[ids == LEARNED, :width] = self._learned
        return rows
