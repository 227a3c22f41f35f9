"""Drive the language model: chunked prefill, decode and head over one KV cache.

All buffers are allocated once. Past and present of the cache are bound to the same arrays, so nothing is copied per token. The last
chunk may hold rows beyond the prompt: the causal mask hides them and later positions overwrite them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune_runtime.backends import Backend, Session
from edgeprune_runtime.bundle import Bundle


class LanguageModel:
    """The three language-model graphs of a bundle and their state. One sequence at a time."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        spec = bundle.manifest.language
        self._spec = spec
        self._table = bundle.tensor(spec.embedding)
        shapes = [(1, groups, spec.capacity, spec.head_dim) for groups in spec.kv_heads for _ in ("key", "value")]
        self._cache = [np.zeros(shape, np.float32) for shape in shapes]
        self._hidden = np.zeros((1, spec.hidden), np.float32)
        self._logits = np.zeros((1, spec.vocab), np.float32)
        resident = bundle.manifest.precision == "int8"
        self._prefill = _Block(bundle, backend, "prefill", spec.chunk, self._cache, self._hidden, resident)
        self._decode = _Block(bundle, backend, "decode", 1, self._cache, self._hidden, resident)
        self._head: Session = backend.open(bundle.root, bundle.graph("head"), resident=resident)
        self._head.bind({"hidden": self._hidden, "logits": self._logits})
        self.length = 0

    @property
    def cache_bytes(self) -> int:
        return sum(array.nbytes for array in self._cache)

    def embed(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows of the embedding table: [len(ids), D] float32."""
        return np.asarray(self._table[np.asarray(ids, np.int64)], np.float32)

    def compose(self, ids: np.ndarray, visual: np.ndarray | None, newline: np.ndarray | None) -> np.ndarray:
        """Rows of a packed prompt [S, D] float32: text by id, `visual` [k, D] where ids is -1, `newline` [D] where it is -2."""
        embeds = np.empty((len(ids), self._spec.hidden), np.float32)
        embeds[ids >= 0] = self.embed(ids[ids >= 0])
        if visual is not None:
            embeds[ids == -1] = visual
        if newline is not None:
            embeds[ids == -2] = newline
        return embeds

    def prefill(self, embeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Start a sequence. embeds [S, D] float32, positions [S]; returns the logits [V] of the last one (reused buffer)."""
        chunk, total = self._spec.chunk, len(embeds)
        for start in range(0, total, chunk):
            self._prefill.run(embeds[start : start + chunk], positions[start : start + chunk], start)
        self.length = total
        return self._project()

    def step(self, token: int, position: int) -> np.ndarray:
        """Append one token; returns the logits [V] of the next (reused buffer)."""
        self._decode.run(self.embed([token]), np.asarray([position]), self.length)
        self.length += 1
        return self._project()

    def _project(self) -> np.ndarray:
        self._head.run()
        logits: np.ndarray = self._logits[0]
        return logits


class _Block:
    """A prefill or decode graph with its own small inputs and the shared cache."""

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        name: str,
        rows: int,
        cache: list[np.ndarray],
        hidden: np.ndarray,
        resident: bool,
    ) -> None:
        self._session = backend.open(bundle.root, bundle.graph(name), resident=resident)
        self._embeds = np.zeros((rows, bundle.manifest.language.hidden), np.float32)
        self._positions = np.zeros((1, rows), np.int64)
        self._row = np.zeros(1, np.int64)
        self._last_index = np.zeros(1, np.int32)
        self._total = np.zeros(1, np.int32)
        buffers: dict[str, np.ndarray] = {
            "embeds": self._embeds,
            "position_ids": self._positions,
            "row": self._row,
            "last_index": self._last_index,
            "total": self._total,
            "hidden": hidden,
        }
        for i, (key, value) in enumerate(zip(cache[::2], cache[1::2], strict=True)):
            buffers |= {
                f"past_key_{i}": key,
                f"present_key_{i}": key,
                f"past_value_{i}": value,
                f"present_value_{i}": value,
            }
        self._session.bind(buffers)

    def run(self, embeds: np.ndarray, positions: np.ndarray, start: int) -> None:
        rows, used = self._embeds.shape[0], len(embeds)
        self._embeds[:used] = embeds
        self._positions[0, :used] = positions
        self._row[0] = used - 1
        self._last_index[0] = start + rows - 1
        self._total[0] = start + rows
        self._session.run()
