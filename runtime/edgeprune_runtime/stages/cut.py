"""Between two stages: what the rows of the one before have become, which of them go on, and the graph that says so.

Hidden rows, queries and lists of rows stay in the backend's memory; the host only knows how many rows there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeprune_runtime.backends import Backend, Buffer, Session
from edgeprune_runtime.spec import GraphSpec, LanguageSpec
from edgeprune_runtime.stages.recycled import rows_beside, states_before
from edgeprune_runtime.stages.rows import PromptRows

#: Inputs of rank graphs that hold what is known of the prompt: one buffer each for all cuts of a model.
OF_PROMPT = ("visual", "position_ids", "salience", "places", "embeds")
#: What a stage gives of every row for the ranking behind it: what rows ask with, what is active in an MLP, how much layers change them.
NOTES = ("query", "active", "changed")


class PromptBuffers:
    """What rankings read of a prompt, in the backend's memory."""

    def __init__(self, backend: Backend, graphs: Sequence[GraphSpec]) -> None:
        self._backend = backend
        shapes = {spec.name: spec for graph in graphs for spec in graph.inputs if spec.name in OF_PROMPT}
        self.buffers = {name: backend.zeros(spec.shape, spec.dtype) for name, spec in shapes.items()}
        self._host = {name: np.zeros(spec.shape, spec.dtype) for name, spec in shapes.items()}

    def write(self, rows: PromptRows, embeds: np.ndarray, positions: np.ndarray) -> None:
        """embeds [S, row width], positions [axes, S]."""
        given = {"visual": rows.visual, "salience": rows.salience, "places": rows.places, "position_ids": positions}
        if "embeds" in self._host:
            given["embeds"] = embeds[:, : self._host["embeds"].shape[1]]
        for name, host in self._host.items():
            value = given[name]
            host[...] = 0
            if name == "position_ids":
                host[:, : positions.shape[1]] = positions
            elif value is not None:
                host[: len(value)] = value
            self._backend.write(self.buffers[name], host)


class StageCut:
    """The way into stage `number`, before which rows can leave.

    states       [L, W]: rows of the stage before, the last of them the place of a row that is decoded; behind them those of `beside`
    rows_before  L
    beside       further rows that can go on: of the prompt before the first layer, where those come back that had left, or means of rows
                 that leave; None: nobody else
    returns      whether rows come back
    notes        what the ranking reads of every row, by name, [L, width]
    given        what the ranking reads, by name
    carried      [P], what later cuts need of this one or of those before it; None: nothing
    carries      whether this one says so itself
    rows         [C, M]: those that go on, chunk by chunk; positions [C, axes, M] and origin [C M], which of the prompt each is
    """

    def __init__(
        self,
        backend: Backend,
        spec: LanguageSpec,
        number: int,
        ranking: tuple[GraphSpec, Session] | None,
        shared: Mapping[str, Buffer],
        before: StageCut | None,
        notes: Mapping[str, int],
    ) -> None:
        """ranking: None where the list is known without one; shared: cache and what is known of the prompt, by name of an input; before: the
        cut that rows came through last; notes: what the stage before gives of a row, how many numbers each."""
        stage, source = spec.stages[number], spec.stages[number - 1]
        self._backend, self._spec, self._stage = backend, spec, stage
        self._chunk = spec.chunk_of(stage)
        self.rows_before = source.capacity
        width = spec.width_before(stage.first)
        self.states = backend.zeros((states_before(spec, number), width), "float32")
        more = rows_beside(spec, number)
        self.beside = backend.zeros((more, width), "float32") if more else None
        self.returns = stage.returns
        self.notes = {name: backend.zeros((source.capacity, width), "float32") for name, width in notes.items()}
        chunks = stage.capacity // self._chunk
        self.rows = backend.zeros((chunks, self._chunk), "int64")
        self.positions = backend.zeros((chunks, spec.axes, self._chunk), "int64")
        self.origin = backend.zeros((stage.capacity,), "int64")
        self._session: Session | None = None
        self.given: dict[str, Buffer] = {}
        self.carries = False
        self.carried: Buffer | None = None if before is None else before.carried
        self._own: dict[str, Buffer] = {}
        if ranking is not None:
            self._bind(*ranking, shared, before)

    def _bind(self, graph: GraphSpec, session: Session, shared: Mapping[str, Buffer], before: StageCut | None) -> None:
        backend = self._backend
        self._own = {
            item.name: backend.zeros(item.shape, item.dtype)
            for item in graph.inputs
            if item.name in ("total", "count", "asking", "asking_weight")
        }
        known = {**shared, **self._own, **self.notes, "states": self.states}
        if before is not None:
            known |= {"origin": before.origin, "carried": before.carried, "position_ids_before": before.positions}
        self.given = {item.name: known[item.name] for item in graph.inputs}
        made = {"rows": self.rows, "position_ids_of_rows": self.positions, "origin_of_rows": self.origin}
        carried = [item for item in graph.outputs if item.name == "carried_of_rows"]
        self.carries = bool(carried)
        if carried:
            made["carried_of_rows"] = self.carried = backend.zeros(carried[0].shape, "float32")
        if self.beside is not None:
            made["beside"] = self.beside
        session.bind({**self.given, **made})
        self._session = session

    @property
    def floats(self) -> tuple[Buffer, ...]:
        """Buffers that could hold numbers that are not finite."""
        return (self.states, *self.notes.values(), *(() if self.carried is None else (self.carried,)))

    def choose(self, rows: int, count: int, question: int) -> None:
        """Queue the ranking: of so many rows of the stage before, `count` visual ones stay; `question` rows at their end may ask."""
        write = self._backend.write
        write(self._own["total"], np.asarray([rows], np.int64))
        if "count" in self._own:
            write(self._own["count"], np.asarray([count], np.int64))
        if "asking" in self._own:
            asks = self._own["asking"].shape[0]
            used = max(1, min(asks, question))
            numbers = np.full(asks, rows - 1, np.int64)
            numbers[:used] = np.arange(rows - used, rows)
            weight = np.zeros(asks, np.float32)
            weight[:used] = 1 / used
            write(self._own["asking"], numbers)
            if "asking_weight" in self._own:
                write(self._own["asking_weight"], weight)
        assert self._session is not None
        self._session.run()
        if self.beside is not None:
            self._backend.copy(self.beside, self.states, self.rows_before)

    def bring_back(self, embeds: np.ndarray, positions: np.ndarray, there: np.ndarray | None) -> None:
        """All rows of the prompt go on, embeds [S, W] at positions [axes, S]; there [n]: those that the stage before has; None: all."""
        everybody = np.arange(len(embeds))
        rows = self.rows_before + everybody
        there = everybody if there is None else there
        rows[there] = np.arange(len(there))
        if len(there) < len(everybody) and self.beside is not None:
            self._backend.write(self.beside, embeds)
            self._backend.copy(self.beside, self.states, self.rows_before)
        self.put(rows, everybody, positions)

    def put(self, rows: np.ndarray, origin: np.ndarray, positions: np.ndarray) -> None:
        """These rows of `states` go on, [n]; origin [n]: which of the prompt each is; positions [axes, n]."""
        last = np.minimum(np.arange(self._stage.capacity), len(rows) - 1)
        self._backend.write(self.rows, rows[last].astype(np.int64).reshape(-1, self._chunk))
        self._backend.write(self.origin, origin[last].astype(np.int64))
        self.number(positions[:, last])

    def number(self, positions: np.ndarray) -> None:
        """Positions [axes, capacity] of the rows that go on, where they are not those that they had."""
        by_chunk = positions.reshape(self._spec.axes, -1, self._chunk)
        self._backend.write(self.positions, np.ascontiguousarray(by_chunk.transpose(1, 0, 2)))
