"""Drive the vision graphs: the tower once per tile, then one small select graph that keeps exactly K tokens.

The tower writes each tile's features and readings straight into its row of buffers that every select graph reads. Select graphs are
opened when first asked for; a further budget therefore costs little more than its projector. A method that looks at the question
selects anew for each one, from an `Encoded` copy of those buffers, without running the tower again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeprune_runtime.backends import Backend, Session
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.entropy import patch_entropy
from edgeprune_runtime.errors import BundleError
from edgeprune_runtime.layout import Layout
from edgeprune_runtime.spec import SelectionSpec

#: Inputs of select graphs that come from the layout, the question and the pixels instead of the tower.
_HOST = {"slot", "region", "mosaic", "question", "question_weight", "entropy"}


@dataclass(frozen=True)
class Selected:
    """visual [k, D] float32: projected rows of the kept tokens; kept [k]: their flat indices t * N + n, ascending by slot."""

    visual: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture after the tower, as a select graph reads it: readings by name, and where its tokens lie."""

    readings: Mapping[str, np.ndarray]
    layout: Layout


class Vision:
    """The vision graphs of a bundle and their buffers. One picture at a time."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        preprocess = manifest.preprocess
        self._bundle, self._backend, self._preprocess = bundle, backend, preprocess
        self._resident = manifest.precision == "int8"
        tower = bundle.graph("tower")
        self._tower = backend.open(bundle.root, tower, resident=self._resident)
        self._pixels = np.zeros((1, 3, preprocess.tile_px, preprocess.tile_px), np.float32)
        self._tower.bind({"pixels": self._pixels})
        tiles, tokens = preprocess.tiles_max, preprocess.tokens_per_tile
        self._seen = {spec.name: np.zeros((tiles, *spec.shape[1:]), np.float32) for spec in tower.outputs}
        inputs = {spec.name: spec for s in manifest.selections for spec in bundle.graph(s.graph).inputs}
        unknown = inputs.keys() - self._seen.keys() - _HOST
        if unknown:
            raise BundleError(
                f"a select graph of bundle {bundle.root} reads {min(unknown)}, which its tower does not give; export the bundle again"
            )
        host = {name: spec for name, spec in inputs.items() if name in _HOST}
        self._host = {name: np.zeros(spec.shape, np.dtype(spec.dtype)) for name, spec in host.items()}
        self._entropy = self._host.get("entropy", np.zeros((0, tokens), np.float32))
        self._selections: dict[str, _Selection] = {}

    @property
    def question_rows(self) -> int:
        """Question tokens that text-aware methods of this bundle can look at; 0 when it holds none."""
        return len(self._host["question"]) if "question" in self._host else 0

    def reads_question(self, selection: SelectionSpec) -> bool:
        """Whether this selection depends on the question."""
        return any(spec.name == "question" for spec in self._bundle.graph(selection.graph).inputs)

    def encode(self, tiles: Iterable[np.ndarray]) -> None:
        """Run the tower over tiles [3, P, P] float32; the features stay in the buffers until the next picture."""
        for t, pixels in enumerate(tiles):
            self._pixels[0] = pixels
            self._tower.bind({name: buffer[t : t + 1] for name, buffer in self._seen.items()})
            self._tower.run()
            if t < len(self._entropy):
                self._entropy[t] = patch_entropy(pixels, self._preprocess)

    def ask(self, words: np.ndarray | None) -> None:
        """What methods that look at the question will see: embeddings [m, D] of its words, or none."""
        if not self.question_rows:
            return
        rows, weight = self._host["question"], self._host["question_weight"]
        rows[:], weight[:] = 0, 0
        used = rows[:0] if words is None else words[: len(rows)]
        rows[: len(used)] = used
        weight[: len(used)] = 1 / max(len(used), 1)

    @property
    def seen(self) -> dict[str, np.ndarray]:
        """The tower's outputs for all tiles and what the host adds, by name; valid until the next picture."""
        return {**self._seen, **self._host}

    def encoded(self, selection: SelectionSpec, layout: Layout) -> Encoded:
        """A copy of what this selection reads of the encoded picture, to select from again."""
        names = [spec.name for spec in self._bundle.graph(selection.graph).inputs]
        kept = {name: self.seen[name].copy() for name in names if name in self._seen or name == "entropy"}
        return Encoded(kept, layout)

    def restore(self, encoded: Encoded) -> None:
        """Put an encoded picture back into the buffers."""
        for name, value in encoded.readings.items():
            self.seen[name][:] = value

    def select(self, selection: SelectionSpec, layout: Layout) -> Selected:
        """Keep and project K tokens of the encoded picture; fewer when it has fewer candidates."""
        for name, value in (("slot", layout.slot), ("region", layout.region), ("mosaic", layout.mosaic)):
            if name in self._host:
                self._host[name][:] = value
        return self._opened(selection).run()

    def _opened(self, selection: SelectionSpec) -> _Selection:
        if selection.graph not in self._selections:
            graph = self._bundle.graph(selection.graph)
            session = self._backend.open(self._bundle.root, graph, resident=self._resident)
            outputs = {spec.name: np.zeros(spec.shape, np.dtype(spec.dtype)) for spec in graph.outputs}
            session.bind({**{spec.name: self.seen[spec.name] for spec in graph.inputs}, **outputs})
            self._selections[selection.graph] = _Selection(session, outputs["visual"], outputs["kept"])
        return self._selections[selection.graph]


@dataclass(frozen=True)
class _Selection:
    session: Session
    visual: np.ndarray
    kept: np.ndarray

    def run(self) -> Selected:
        self.session.run()
        count = int(np.count_nonzero(self.kept >= 0))
        return Selected(self.visual[:count].copy(), self.kept[:count].copy())
