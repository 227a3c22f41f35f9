"""Drive the layers of the language model, list of rows by list of rows: those of the whole prompt, and those behind each cut.

All buffers are the backend's own and allocated once. Past and present of the cache are the same buffers, so nothing is copied per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from edgeprune_runtime.backends import Backend, Buffer
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.spec import bytes_of
from edgeprune_runtime.stages.chain import Chain
from edgeprune_runtime.stages.counts import StageRows
from edgeprune_runtime.stages.cut import NOTES, PromptBuffers, StageCut
from edgeprune_runtime.stages.rows import PromptRows


class RowsPlan(NamedTuple):
    """What a prompt's rows do on their way.

    stages    how many are in each stage
    known     what rankings read of them
    renumber  whether positions of what goes on are counted anew in each stage from which rows are missing
    entering  rows of the prompt that the first stage sees, ascending; None: all
    forced    rows of the prompt that go on behind each cut, ascending, whatever a ranking says; None: the rankings decide
    """

    stages: Sequence[StageRows]
    known: PromptRows
    renumber: bool = False
    entering: np.ndarray | None = None
    forced: tuple[np.ndarray, ...] | None = None


def entering_rows(embeds: np.ndarray, positions: np.ndarray, plan: RowsPlan | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a prompt that the first stage sees, and their positions there."""
    if plan is None or plan.entering is None:
        return embeds, positions
    seen, places = embeds[plan.entering], positions[:, plan.entering]
    return seen, np.broadcast_to(np.arange(len(seen)), places.shape) if plan.renumber else places


class _RowList(NamedTuple):
    """Stages over one list of rows. first: number of its first stage; cut: the way in; hidden, notes: what its last one gives of a chunk;
    behind: the way out."""

    first: int
    chunk: int
    cut: StageCut | None
    prefill: Chain
    decode: Chain
    hidden: Buffer
    notes: dict[str, Buffer]
    behind: StageCut | None


class StageLists:
    """Graphs, caches and buffers of all stages. One sequence at a time.

    lengths  rows in the cache of each list; those of the prompt among them: prompt_lengths
    """

    def __init__(self, bundle: Bundle, backend: Backend, hidden: Buffer) -> None:
        """hidden: where the last stage puts the row that the head reads."""
        self._bundle, self._backend, self._hidden = bundle, backend, hidden
        spec = self._spec = bundle.manifest.language
        self._sessions = {
            name: bundle.session(backend, name) for stage in spec.stages for name in (stage.prefill, stage.decode)
        }
        stored = self._sessions[spec.stages[0].prefill].dtype("past_key_0")
        names = [f"past_{kind}_{layer}" for layer in range(spec.layers) for kind in ("key", "value")]
        shapes = [shape for shape in spec.cache_shapes for _ in range(2)]
        self._cache = {name: backend.zeros(shape, stored) for name, shape in zip(names, shapes, strict=True)}
        self.cache_bytes = sum(bytes_of(shape, stored) for shape in shapes)
        self._prompt = PromptBuffers(backend, [bundle.graph(stage.rank) for stage in spec.stages if stage.rank])
        self._cuts: dict[int, StageCut] = {}
        for number in spec.cuts:
            self._cuts[number] = self._cut(number)
        edges = (0, *spec.cuts, len(spec.stages))
        self._lists = [self._list(first, behind) for first, behind in pairwise(edges)]
        self.lengths = [0] * len(self._lists)
        self.prompt_lengths = tuple(self.lengths)
        self._renumbered = [False] * len(self._lists)

    def prefill(self, embeds: np.ndarray, positions: np.ndarray, plan: RowsPlan | None, start: int = 0) -> None:
        """Queue a prompt. embeds [S, row width] float32, positions [axes, S]; plan: None where no row leaves. What the first list holds
        before row `start` of its own, which begins a chunk, is there from the prompt before."""
        first, chunk = self._lists[0], self._lists[0].chunk
        seen, places = entering_rows(embeds, positions, plan)
        left = len(seen) < len(embeds)
        self._renumbered[0] = left and plan is not None and plan.renumber
        for at in range(start, len(seen), chunk):
            first.prefill.run(seen[at : at + chunk], places[:, at : at + chunk], at)
            self._hand_on(first, at)
        self.lengths[0] = len(seen)
        for number, rows in enumerate(self._lists[1:], start=1):
            count = len(embeds) if plan is None else plan.stages[rows.first].rows
            left = self._enter(number, count, embeds, positions, plan, left)
            self._renumbered[number] = left and plan is not None and plan.renumber
            for at in range(0, count, rows.chunk):
                rows.prefill.run_chosen(at // rows.chunk, min(rows.chunk, count - at))
                self._hand_on(rows, at)
            self.lengths[number] = count
        self.prompt_lengths = tuple(self.lengths)

    @property
    def room(self) -> int:
        """Rows that every list still has a place for."""
        capacities = [self._spec.stages[rows.first].capacity for rows in self._lists]
        return min(capacity - length for capacity, length in zip(capacities, self.lengths, strict=True))

    def rewind(self) -> None:
        """Let the prompt be all that there is."""
        self.lengths = list(self.prompt_lengths)

    def step(self, embeds: np.ndarray, position: int) -> None:
        """Queue one more row [1, row width]."""
        for number, rows in enumerate(self._lists):
            length = self.lengths[number]
            here = np.full((self._spec.axes, 1), length if self._renumbered[number] else position)
            if rows.cut is None:
                rows.decode.run(embeds, here, length)
            else:
                rows.decode.run_last(here, length)
            self.lengths[number] += 1

    def origins(self) -> tuple[np.ndarray, ...]:
        """Which rows of the prompt went on behind each cut, in their order."""
        found = []
        for rows, length in zip(self._lists[1:], self.prompt_lengths[1:], strict=True):
            assert rows.cut is not None
            found.append(np.array(self._backend.read(rows.cut.origin)[:length]))
        return tuple(found)

    def ranked_from(self, cut: int) -> dict[str, np.ndarray]:
        """What the ranking of cut number `cut` was given, by name of its input, and its list of rows of the stage before."""
        rows = self._lists[cut + 1]
        assert rows.cut is not None
        found = {name: np.array(self._backend.read(buffer)) for name, buffer in rows.cut.given.items()}
        return found | {"rows": np.array(self._backend.read(rows.cut.rows)).reshape(-1)[: self.prompt_lengths[cut + 1]]}

    def clear(self) -> None:
        """Zero everything that could hold a number that is not finite."""
        buffers = [*self._cache.values(), *(one for cut in self._cuts.values() for one in cut.floats)]
        for rows in self._lists:
            buffers += [rows.hidden, *rows.notes.values()]
        for buffer in buffers:
            self._backend.clear(buffer)

    def _enter(
        self,
        number: int,
        count: int,
        embeds: np.ndarray,
        positions: np.ndarray,
        plan: RowsPlan | None,
        left: bool,
    ) -> bool:
        """Say which rows go on into a list, and whether any has left by then. left: whether one had before."""
        rows = self._lists[number]
        cut, stage = rows.cut, self._spec.stages[rows.first]
        assert cut is not None
        everybody = np.arange(positions.shape[1])
        if cut.returns:
            cut.bring_back(embeds, positions, None if plan is None else plan.entering)
            return False
        if plan is None or (not left and count == len(everybody)):
            if plan is not None and cut.carries and plan.known.visual.any() and plan.forced is None:
                self._prompt.write(plan.known, embeds, positions)
                cut.choose(count, count, plan.known.question)  # for what later cuts need of it
            cut.put(everybody, everybody, positions)
            return False
        anew = np.broadcast_to(np.arange(stage.capacity), (self._spec.axes, stage.capacity))
        if plan.forced is not None:
            before = everybody if number == 1 else plan.forced[number - 2]
            chosen = plan.forced[number - 1]
            cut.put(np.searchsorted(before, chosen), chosen, positions[:, chosen])
        else:
            if not left:
                self._prompt.write(plan.known, embeds, positions)
            cut.choose(plan.stages[rows.first - 1].rows, plan.stages[rows.first].named, plan.known.question)
        if plan.renumber:
            cut.number(anew)
        return True

    def _hand_on(self, rows: _RowList, at: int) -> None:
        """Put what a list's last stage made of its chunk from row `at` on where the next list takes it."""
        if rows.behind is not None:
            self._backend.copy(rows.hidden, rows.behind.states, at)
            for name, made in rows.notes.items():
                self._backend.copy(made, rows.behind.notes[name], at)

    def _cut(self, number: int) -> StageCut:
        spec = self._spec
        rank = spec.stages[number].rank
        return StageCut(
            self._backend,
            spec,
            number,
            None if rank is None else (self._bundle.graph(rank), self._bundle.session(self._backend, rank)),
            {**self._cache, **self._prompt.buffers},
            self._cuts.get(max((one for one in self._cuts), default=-1)),
            self._noted(spec.stages[number - 1].prefill),
        )

    def _noted(self, prefill: str) -> dict[str, int]:
        """What a stage gives of a row besides the row, and how many numbers each."""
        return {one.name: one.shape[1] for one in self._bundle.graph(prefill).outputs if one.name in NOTES}

    def _list(self, first: int, behind: int) -> _RowList:
        spec, zeros = self._spec, self._backend.zeros
        stages = spec.stages[first:behind]
        cut, out = self._cuts.get(first), self._cuts.get(behind)
        chunk, width = spec.chunk_of(stages[0]), spec.width_before(stages[-1].behind)
        noted = self._noted(stages[-1].prefill)
        hidden = self._hidden if out is None else zeros((chunk, width), "float32")
        notes = {name: zeros((chunk, wide), "float32") for name, wide in noted.items()}

        def chain(names: list[str], rows: int, made: Buffer, gives: dict[str, Buffer]) -> Chain:
            sessions = [self._sessions[name] for name in names]
            return Chain(self._backend, spec, stages, sessions, rows, self._cache, made, gives, cut)

        prefill = chain([stage.prefill for stage in stages], chunk, hidden, notes)
        made = self._hidden if out is None else self._backend.part(out.states, out.rows_before - 1)
        one_row = {name: zeros((1, wide), "float32") for name, wide in noted.items()}
        decode = chain([stage.decode for stage in stages], 1, made, one_row)
        return _RowList(first, chunk, cut, prefill, decode, hidden, notes, out)
