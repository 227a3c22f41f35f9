"""Graphs of neighbouring stages that share one list of rows, run one after the other on the same chunk of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeprune_runtime.backends import Backend, Buffer, Session
from edgeprune_runtime.spec import LanguageSpec, StageSpec
from edgeprune_runtime.stages.cut import StageCut


class Chain:
    """The prefill or the decode graphs of stages over one list of rows, with their own small inputs and the shared cache.

    Rows go from stage to stage through buffers of the backend's own. `hidden`: what the last one writes.
    """

    def __init__(
        self,
        backend: Backend,
        spec: LanguageSpec,
        stages: Sequence[StageSpec],
        sessions: Sequence[Session],
        rows: int,
        cache: Mapping[str, Buffer],
        hidden: Buffer,
        notes: Mapping[str, Buffer],
        source: StageCut | None,
    ) -> None:
        """rows: of a run. notes: what the last stage gives for the ranking behind it. source: the way into the first stage; None: host rows."""
        self._backend, self._sessions, self._rows = backend, sessions, rows
        self._source = source
        first = stages[0]
        self._embeds = None if source else backend.zeros((rows, spec.width_before(first.first)), "float32")
        self._chosen = backend.zeros((rows,), "int64") if source else None
        if source:  # where the stage before puts a row that is decoded; a chunk of chosen rows overwrites it
            backend.write(self._chosen, np.full(rows, source.rows_before - 1, np.int64))
        self._positions = backend.zeros((spec.axes, rows), "int64")
        self._numbers = np.zeros((spec.axes, rows), np.int64)
        self._row = backend.zeros((1,), "int64")
        self._last_index, self._total = (backend.zeros((1,), "int32") for _ in range(2))
        given = self._embeds
        for stage, session in zip(stages, sessions, strict=True):
            last = stage is stages[-1]
            made = hidden if last else backend.zeros((rows, spec.width_before(stage.behind)), "float32")
            taken = {"states": source.states, "rows": self._chosen} if given is None and source else {"embeds": given}
            buffers = {
                **taken,
                "position_ids": self._positions,
                **({"row": self._row} if stage is spec.stages[-1] else {}),
                "last_index": self._last_index,
                "total": self._total,
                "hidden": made,
                **(notes if last else {}),
            }
            for layer in range(stage.first, stage.behind):
                for kind in ("key", "value"):
                    both = cache[f"past_{kind}_{layer}"]
                    buffers |= {f"past_{kind}_{layer}": both, f"present_{kind}_{layer}": both}
            session.bind(buffers)
            given = made

    def run(self, embeds: np.ndarray, positions: np.ndarray, start: int) -> None:
        """Queue the rows embeds [<= rows, row width] at positions [axes, <= rows], cache index `start`."""
        used = len(embeds)
        if (
            used < self._rows
        ):  # nothing of an earlier prompt may stand in a chunk: int8 products have one scale for all of it
            embeds = np.concatenate([embeds, np.broadcast_to(embeds[-1], (self._rows - used, embeds.shape[1]))])
        self._backend.write(self._embeds, embeds)
        self._place(positions)
        self._go(used, start)

    def run_chosen(self, number: int, used: int) -> None:
        """Queue chunk `number` of the rows that the cut has chosen, the first `used` of them."""
        assert self._source is not None
        for chosen, own in ((self._source.rows, self._chosen), (self._source.positions, self._positions)):
            self._backend.copy(self._backend.part(chosen, number), own)
        self._go(used, number * self._rows)

    def run_last(self, position: np.ndarray, start: int) -> None:
        """Queue the row that the stage before has just handed on, at position [axes, 1], cache index `start`."""
        self._place(position)
        self._go(1, start)

    def _place(self, positions: np.ndarray) -> None:
        used = positions.shape[1]
        self._numbers[:, :used], self._numbers[:, used:] = positions, positions[:, -1:]
        self._backend.write(self._positions, self._numbers)

    def _go(self, used: int, start: int) -> None:
        write = self._backend.write
        write(self._row, np.asarray([used - 1], np.int64))
        write(self._last_index, np.asarray([start + self._rows - 1], np.int32))
        write(self._total, np.asarray([start + self._rows], np.int32))
        for session in self._sessions:
            session.run()
