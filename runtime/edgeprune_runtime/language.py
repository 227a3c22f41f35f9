"""Drive the language model: embedding, layers in stages (`stages/lists.py`) and head.

A prompt that begins like the one before starts behind the whole chunks that both have in common (`prompting/prefix.py`): in the stages
before rows leave. Which rows go on behind a cut depends on the question, so those stages are computed anew.

The last chunk is filled up with the prompt's last row: the causal mask hides what lies beyond the prompt and later positions overwrite it,
but int8 products choose one scale for all rows of a chunk, and what an earlier prompt left there must not decide it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeprune_runtime.backends import Backend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.errors import BundleError, RequestError
from edgeprune_runtime.prompting.pack import LEARNED, VISUAL
from edgeprune_runtime.prompting.prefix import PromptPrefix
from edgeprune_runtime.stages.lists import RowsPlan, StageLists, entering_rows


class LanguageModel:
    """The language-model graphs of a bundle and their state. One sequence at a time.

    reuse    whether a prompt starts behind what it has in common with the one before; its logits are the same bits either way
    reused   rows of the last prompt that were not computed again
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, reuse: bool = False) -> None:
        spec = bundle.manifest.language
        self._spec, self._backend = spec, backend
        self._table = bundle.tensor(spec.embedding)
        self._learned = None if spec.learned is None else np.asarray(bundle.tensor(spec.learned), np.float32)
        hidden = backend.zeros((1, spec.hidden), "float32")
        self._logits = backend.zeros((1, spec.vocab), "float32")
        self._lists = StageLists(bundle, backend, hidden)
        self.cache_bytes = self._lists.cache_bytes
        self._head = bundle.session(backend, spec.head)
        self._head.bind({"hidden": hidden, "logits": self._logits})
        self._next = np.zeros((1, spec.row_width), np.float32)  # the row of a token that was chosen
        self._reuse, self._prefix = reuse, PromptPrefix(spec.chunk)
        self.reused = 0

    @property
    def length(self) -> int:
        """Rows in the cache of the first stage."""
        return self._lists.lengths[0]

    @property
    def room(self) -> int:
        """Tokens that every stage still has a place for."""
        return self._lists.room

    def rewind(self) -> None:
        """Forget what was appended to the prompt."""
        self._lists.rewind()

    def rows_behind_cuts(self) -> tuple[np.ndarray, ...]:
        """Which rows of the prompt went on behind each cut."""
        return self._lists.origins()

    def ranked_from(self, cut: int) -> dict[str, np.ndarray]:
        """What the ranking of a cut was given, by name, and the rows of the stage before that it let go on."""
        return self._lists.ranked_from(cut)

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

    def prefill(self, embeds: np.ndarray, positions: np.ndarray, plan: RowsPlan | None = None) -> np.ndarray:
        """Start a sequence. embeds [S, row width] float32, positions [axes, S]; plan: which rows leave at the cuts, None: none.

        Returns the logits [V] of the last row (reused buffer). With `reuse` both arrays are kept until the next prompt: do not change them.
        """
        prefix = self._prefix
        seen, places = entering_rows(embeds, positions, plan)  # by the first stage, whose cache is kept
        self.reused = prefix.shared(seen, places)
        prefix.forget()  # until these rows are there, whatever happens on the way
        self._lists.prefill(embeds, positions, plan, self.reused)
        logits = self._project()
        if self._reuse:
            prefix.hold(seen, places)
        return logits

    def step(self, token: int, position: int) -> np.ndarray:
        """Append one token; returns the logits [V] of the next (reused buffer)."""
        self._next[0, : self._spec.hidden] = self.embed([token])
        self._prefix.overwrite(self.length)
        try:
            self._lists.step(self._next, position)
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
            self._lists.clear()
            raise RequestError(
                "the model's numbers are no longer finite: half precision has overflowed, or the picture was not finite; build engines "
                "with --compute bf16, or run with --backend onnxruntime"
            )
        return logits
