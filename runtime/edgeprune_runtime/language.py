"""Drive the language model: chunked prefill, decode and head over one KV cache.

All buffers are the backend's own and allocated once. Past and present of the cache are the same buffers, so nothing is copied per
token. A prompt that begins like the one before starts behind the whole chunks that both have in common (`prompting/prefix.py`).

The last chunk is filled up with the prompt's last row: the causal mask hides what lies beyond the prompt and later positions overwrite it,
but int8 products choose one scale for all rows of a chunk, and what an earlier prompt left there must not decide it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeprune_runtime.backends import Backend, Buffer, Session
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.errors import BundleError, RequestError
from edgeprune_runtime.prompting.pack import LEARNED, VISUAL
from edgeprune_runtime.prompting.prefix import PromptPrefix
from edgeprune_runtime.spec import LanguageSpec, bytes_of


class LanguageModel:
    """The language-model graphs of a bundle, stage by stage, and their state. One sequence at a time.

    reuse    whether a prompt starts behind what it has in common with the one before; its logits are the same bits either way
    length   rows in the cache
    reused   rows of the last prompt that were not computed again
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, reuse: bool = False) -> None:
        spec = bundle.manifest.language
        self._spec, self._backend = spec, backend
        self._table = bundle.tensor(spec.embedding)
        self._learned = None if spec.learned is None else np.asarray(bundle.tensor(spec.learned), np.float32)
        sessions = [
            (bundle.session(backend, stage.prefill), bundle.session(backend, stage.decode)) for stage in spec.stages
        ]
        stored = sessions[0][0].dtype("past_key_0")
        self._cache = [backend.zeros(shape, stored) for shape in spec.cache_shapes for _ in ("key", "value")]
        self.cache_bytes = 2 * sum(bytes_of(shape, stored) for shape in spec.cache_shapes)
        hidden = backend.zeros((1, spec.hidden), "float32")
        self._logits = backend.zeros((1, spec.vocab), "float32")
        self._prefill = _Chain(backend, spec, [pair[0] for pair in sessions], spec.chunk, self._cache, hidden)
        self._decode = _Chain(backend, spec, [pair[1] for pair in sessions], 1, self._cache, hidden)
        self._head = bundle.session(backend, spec.head)
        self._head.bind({"hidden": hidden, "logits": self._logits})
        self._next = np.zeros((1, spec.row_width), np.float32)  # the row of a token that was chosen
        self._reuse, self._prefix = reuse, PromptPrefix(spec.chunk)
        self.length = self.reused = 0

    def embed(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows of the embedding table: [len(ids), D] float32."""
        rows = np.asarray(ids, np.int64)
        if rows.size and rows.max() >= len(self._table):
            raise BundleError(
                f"the tokenizer gives the token {rows.max()}, the model has {len(self._table)}; use the tokenizer that belongs to the model "
                "and export the bundle again"
            )
        return np.asarray(self._table[rows], np.float32)

    def compose(self, ids: np.ndarray, visual: np.ndarray | None) -> np.ndarray:
        """Rows of a packed prompt [S, row width] float32: text by id, `visual` [k, row width] where ids is VISUAL, the learned row where
        it is LEARNED. What enters behind layers is zero but for visual rows."""
        embeds = np.zeros((len(ids), self._spec.row_width), np.float32)
        text = embeds[:, : self._spec.hidden]
        text[ids >= 0] = self.embed(ids[ids >= 0])
        if visual is not None:
            embeds[ids == VISUAL] = visual
        if self._learned is not None:
            text[ids == LEARNED] = self._learned
        return embeds

    def prefill(self, embeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Start a sequence. embeds [S, row width] float32, positions [axes, S]; returns the logits [V] of the last one (reused buffer).

        With `reuse` both arrays are kept until the next prompt: do not change them.
        """
        chunk, total, prefix = self._spec.chunk, len(embeds), self._prefix
        self.reused = prefix.shared(embeds, positions)
        prefix.forget()  # until these rows are there, whatever happens on the way
        for start in range(self.reused, total, chunk):
            self._prefill.run(embeds[start : start + chunk], positions[:, start : start + chunk], start)
        self.length = total
        logits = self._project()
        if self._reuse:
            prefix.hold(embeds, positions)
        return logits

    def step(self, token: int, position: int) -> np.ndarray:
        """Append one token; returns the logits [V] of the next (reused buffer)."""
        self._next[0, : self._spec.hidden] = self.embed([token])
        self._prefix.overwrite(self.length)
        try:
            self._decode.run(self._next, np.full((self._spec.axes, 1), position), self.length)
            self.length += 1
            return self._project()
        except BaseException:
            self._prefix.forget()
            raise

    def forget(self) -> None:
        """Let the next prompt start from its first row, and give back what was kept of the last one."""
        self._prefix.forget()

    @property
    def kept_bytes(self) -> int:
        """Memory of the last prompt's rows, which the next one is compared with."""
        return self._prefix.bytes

    def _project(self) -> np.ndarray:
        self._head.run()
        logits: np.ndarray = self._backend.read(self._logits)[0]
        if not math.isfinite(
            logits.max()
        ):  # a fused product of weight 0 and a value that is not finite would spoil later requests
            for buffer in self._cache:
                self._backend.clear(buffer)
            raise RequestError(
                "the model's numbers are no longer finite: half precision has overflowed, or the picture was not finite; build engines "
                "with --compute bf16, or run with --backend onnxruntime"
            )
        return logits


class _Chain:
    """The prefill or the decode graphs of all stages, with their own small inputs and the shared cache.

    Rows go from stage to stage through buffers of the backend's own; the last stage writes the one row that the head reads.
    """

    def __init__(
        self,
        backend: Backend,
        spec: LanguageSpec,
        sessions: Sequence[Session],
        rows: int,
        cache: Sequence[Buffer],
        hidden: Buffer,
    ) -> None:
        self._backend, self._sessions, self._rows = backend, sessions, rows
        self._embeds = backend.zeros((rows, spec.row_width), "float32")
        self._positions = backend.zeros((spec.axes, rows), "int64")
        self._numbers = np.zeros((spec.axes, rows), np.int64)
        self._row = backend.zeros((1,), "int64")
        self._last_index, self._total = (backend.zeros((1,), "int32") for _ in range(2))
        given = self._embeds
        for stage, session in zip(spec.stages, sessions, strict=True):
            last = stage is spec.stages[-1]
            made = hidden if last else backend.zeros((rows, spec.hidden), "float32")
            buffers = {
                "embeds": given,
                "position_ids": self._positions,
                **({"row": self._row} if last else {}),
                "last_index": self._last_index,
                "total": self._total,
                "hidden": made,
            }
            for layer in range(stage.first, stage.behind):
                for number, kind in enumerate(("key", "value")):
                    both = cache[2 * layer + number]
                    buffers |= {f"past_{kind}_{layer}": both, f"present_{kind}_{layer}": both}
            session.bind(buffers)
            given = made

    def run(self, embeds: np.ndarray, positions: np.ndarray, start: int) -> None:
        """Queue the rows embeds [<= rows, row width] at positions [axes, <= rows], cache index `start`."""
        write, used = self._backend.write, len(embeds)
        if used < self._rows:
            embeds = np.concatenate([embeds, np.broadcast_to(embeds[-1], (self._rows - used, embeds.shape[1]))])
        write(self._embeds, embeds)
        self._numbers[:, :used], self._numbers[:, used:] = positions, positions[:, -1:]
        write(self._positions, self._numbers)
        write(self._row, np.asarray([used - 1], np.int64))
        write(self._last_index, np.asarray([start + self._rows - 1], np.int32))
        write(self._total, np.asarray([start + self._rows], np.int32))
        for session in self._sessions:
            session.run()
