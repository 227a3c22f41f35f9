"""The library's decoder while rows leave it: hooks hand fewer rows to a layer, and say which rows the method itself would have let go on.

The lists that the graphs made are forced, so that one flipped tie does not make everything after it incomparable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.tokens.inside.place import CutPlace
from edgeprune.tokens.inside.recycling import recycled_of, standing
from edgeprune.tokens.inside.rows import QUESTION_ROWS, LanguageRows, going_on, summed_changes, turned_back
from edgeprune_export.gate.language.noted import AttentionInputs, NotedMlps, noting_language, noting_mlps
from edgeprune_runtime.stages.rows import PromptRows


class ForcedCut(NamedTuple):
    """What a graph let go on at a cut. rows [n]: of the prompt; stay: how many visual ones a ranking names; positions [axes, n] they have from
    there on; means: rows of the prompt at which means of others stand -> their weights [S]."""

    place: CutPlace
    rows: np.ndarray
    stay: int
    positions: np.ndarray
    means: Mapping[int, np.ndarray] = {}


class LeavingRows:
    """One pass of the library's decoder over a prompt and forced tokens behind it, rows leaving as the graphs say.

    own  behind each cut, the rows of the prompt that the method lets go on by what the library computes
    """

    def __init__(
        self,
        decoder: Any,
        cuts: Sequence[ForcedCut],
        prompt: PromptRows,
        positions: np.ndarray,
        following: Sequence[np.ndarray],
        embeds: Tensor,
        entering: Sequence[Tensor],
    ) -> None:
        """embeds [S + t, D] and positions [axes, S + t] of prompt and forced tokens; following: positions [axes, t] of the forced tokens
        behind each cut; entering: [S + t, D] that comes in behind each of the first layers."""
        self._decoder, self._prompt, self._entering = decoder, prompt, list(entering)
        self._cuts = {cut.place.layer + 1: (cut, after) for cut, after in zip(cuts, following, strict=True)}
        self._length = len(prompt.visual)
        self._embeds = embeds
        self._counted = {one for cut in cuts if "changed" in cut.place.cut.reads for one in cut.place.changed}
        self._changed = torch.zeros(self._length)
        self._mlps = NotedMlps({}, {})
        self._score: Tensor | None = None  # of all rows of the prompt, where later cuts follow the first one's order
        self._rows = torch.arange(positions.shape[1])
        self._positions = torch.from_numpy(np.array(positions))
        self._turned: tuple[Tensor, Tensor] | None = None
        self._noted: dict[int, AttentionInputs] = {}
        self.own: list[np.ndarray] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on the layers for the time of one pass."""
        layers = self._decoder.layers
        with ExitStack() as stack:
            of = {layer + more for layer in self._cuts for more in (-1, 0) if layer + more >= 0}
            self._noted = stack.enter_context(noting_language(layers, of))
            active = {cut.place.layer for cut, _ in self._cuts.values() if "active" in cut.place.cut.reads}
            self._mlps = stack.enter_context(noting_mlps(layers, active, self._counted))
            for number, layer in enumerate(layers):
                hook = layer.register_forward_pre_hook(self._before(number), with_kwargs=True)
                stack.callback(hook.remove)
                if number < len(self._entering):
                    stack.callback(layer.register_forward_hook(self._behind(number)).remove)
            yield

    def _before(self, number: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            hidden, *rest = args
            if number in self._cuts:
                hidden = self._cut(number, module, hidden, kwargs["position_embeddings"])
            if self._turned is not None:
                kwargs |= {"position_embeddings": self._turned, "position_ids": None}
            return (hidden, *rest), kwargs

        return hook

    def _behind(self, number: int) -> Any:
        return lambda module, inputs, output: output + self._entering[number][self._rows]

    def _count_changes(self, layers: range) -> None:
        """Add what these layers, which ran over the rows that are there, have changed of visual ones."""
        there = self._rows[self._rows < self._length]
        pairs = torch.cat([self._mlps.changed.pop(layer)[: len(there)] for layer in layers], dim=1)
        self._changed[there] += summed_changes(pairs, torch.from_numpy(self._prompt.visual)[there])

    def _cut(self, number: int, layer: Any, hidden: Tensor, turned: tuple[Tensor, Tensor]) -> Tensor:
        cut, following = self._cuts[number]
        turned = self._turned or turned
        there = int((self._rows < self._length).sum())
        if "changed" in cut.place.cut.reads:
            self._count_changes(cut.place.changed)
        if cut.place.name:
            self.own.append(self._rows[self._going_on(cut, layer, hidden, turned, there)].numpy())
        go_on = torch.cat([torch.from_numpy(np.array(cut.rows)), self._rows[there:]])
        canvas = self._embeds.clone()  # who comes back is as it was before the first layer
        canvas[self._rows] = hidden[0]
        self._mean(cut, number, canvas)
        hidden = canvas[go_on][None]
        self._rows = go_on
        self._positions = torch.from_numpy(np.concatenate([cut.positions, following], axis=1))
        ids = self._positions if len(self._positions) == 1 else self._positions[:, None]
        self._turned = self._decoder.rotary_emb(hidden, ids)
        return hidden

    def _mean(self, cut: ForcedCut, layer: int, canvas: Tensor) -> None:
        """Put means of rows where they stand, in what goes into a layer and in what still enters behind it and later ones."""
        weights = {row: torch.from_numpy(weight) for row, weight in cut.means.items()}
        for number, rows in enumerate((canvas, *self._entering)):
            if number == 0 or number > layer:
                made = {row: weight @ rows[: self._length] for row, weight in weights.items()}
                changed = rows if number == 0 or not made else rows.clone()
                for row, mean in made.items():
                    changed[row] = mean
                if number:
                    self._entering[number - 1] = changed

    def _going_on(
        self, cut: ForcedCut, layer: Any, hidden: Tensor, turned: tuple[Tensor, Tensor], there: int
    ) -> Tensor:
        """Numbers of the rows of the prompt that the method lets go on, of those that are there."""
        method, visual = cut.place.cut, torch.from_numpy(self._prompt.visual)[self._rows[:there]]
        used = 1 if method.asking == "last" else max(1, min(QUESTION_ROWS, self._prompt.question))
        asking = torch.arange(there - used, there)
        rows = LanguageRows(
            visual=visual,
            present=torch.ones(there, dtype=torch.bool),
            count=torch.tensor(cut.stay),
            asking=asking,
            weight=torch.full((used,), 1 / used),
            readings=self._readings(cut.place, layer, hidden, turned, there, asking),
            origin=self._rows[:there],
            entered=torch.from_numpy(self._prompt.visual),
            first=cut.place.first,
        )
        if self._score is not None:
            score = self._score[self._rows[:there]]
        else:
            score = method.rank(rows, cut.place.settings)
            self._score = score if method.once else None
        besides = None
        if cut.place.language.stages[cut.place.number].recycles:
            besides = standing(recycled_of(hidden[0, :there], score, rows), there) >= 0
        chosen = going_on(score, rows, there, besides)
        return chosen.rows[: int(chosen.n)]

    def _readings(
        self, place: CutPlace, layer: Any, hidden: Tensor, turned: tuple[Tensor, Tensor], there: int, asking: Tensor
    ) -> dict[str, Tensor]:
        reads = place.cut.reads if self._score is None else frozenset()
        found: dict[str, Tensor] = {}
        last = self._noted.get(place.layer)
        if reads & {"attention", "plain", "values"}:
            assert last is not None
            found |= {"query": last.query[asking], "key": last.key[:there], "value": last.value[:there]}
        if "plain" in reads:
            cos, sin = (_of_pairs(one, place)[:there] for one in turned)
            found["query"] = turned_back(found["query"], cos[asking], sin[asking])
            found["key"] = turned_back(found["key"], cos, sin)
        if "next" in reads:
            layer.self_attn(
                hidden_states=layer.input_layernorm(hidden), attention_mask=None, position_embeddings=turned
            )
            coming = self._noted[place.layer + 1]
            found |= {"query": coming.query[asking], "key": coming.key[:there]}
        if "embeds" in reads:
            found["embeds"] = self._embeds[: self._length]
        if "changed" in reads:
            found["changed"] = self._changed[self._rows[:there]]
        if "active" in reads:
            found["active"] = self._mlps.active[place.layer][:there]
        for name, values in (("salience", self._prompt.salience), ("places", self._prompt.places)):
            if name in reads and values is not None:
                found[name] = torch.from_numpy(values)[self._rows[:there]]
        return found


def _of_pairs(angles: Tensor, place: CutPlace) -> Tensor:
    """Cosines or sines of the library, [1, n, d], or [3, 1, n, d] by axis -> [n, d / 2]."""
    half = angles.shape[-1] // 2
    if angles.dim() == 3:
        return angles[0, :, :half]
    axis = torch.tensor(place.decoder.pair_axes)
    return angles[:, 0, :, :half].permute(1, 2, 0)[:, torch.arange(half), axis]
