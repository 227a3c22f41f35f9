"""Drive the vision graphs: the tower once per tile, then one small select graph that keeps exactly K tokens.

The tower writes each tile's features straight into its row of one buffer, which every select graph reads. Select graphs are opened
when first asked for; a further budget therefore costs little more than its projector.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeprune_runtime.backends import Backend, Session
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.layout import Layout
from edgeprune_runtime.spec import SelectionSpec


@dataclass(frozen=True)
class Selected:
    """visual [k, D] float32: projected rows of the kept tokens; kept [k]: their flat indices t * N + n, ascending by slot."""

    visual: np.ndarray
    kept: np.ndarray


class Vision:
    """The vision graphs of a bundle and their buffers. One picture at a time."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        self._bundle, self._backend = bundle, backend
        tiles, tokens = manifest.preprocess.tiles_max, manifest.preprocess.tokens_per_tile
        self._resident = manifest.precision == "int8"
        self._tower = backend.open(bundle.root, bundle.graph("tower"), resident=self._resident)
        self._pixels = np.zeros((1, 3, manifest.preprocess.tile_px, manifest.preprocess.tile_px), np.float32)
        self._tower.bind({"pixels": self._pixels})
        self._seen = {"features": np.zeros((tiles, tokens, manifest.vision_hidden), np.float32)}
        for layer in manifest.attention_layers:
            self._seen[f"attention_{layer}"] = np.zeros((tiles, manifest.vision_heads, tokens), np.float32)
        self._host: dict[str, np.ndarray] = {
            "slot": np.full((tiles, tokens), -1, np.int64),
            "region": np.zeros((tiles, tokens), np.float32),
            "mosaic": np.zeros(2, np.int64),
        }
        self._selections: dict[str, _Selection] = {}

    def encode(self, tiles: Iterable[np.ndarray]) -> None:
        """Run the tower over tiles [3, P, P] float32; the features stay in the buffer until the next picture."""
        for t, pixels in enumerate(tiles):
            self._pixels[0] = pixels
            self._tower.bind({name: buffer[t : t + 1] for name, buffer in self._seen.items()})
            self._tower.run()

    @property
    def seen(self) -> dict[str, np.ndarray]:
        """The tower's outputs for all tiles, valid until the next picture: features and attention rows by name."""
        return dict(self._seen)

    def select(self, selection: SelectionSpec, layout: Layout) -> Selected:
        """Keep and project K tokens of the encoded picture; fewer when it has fewer candidates."""
        self._host["slot"][:] = layout.slot
        self._host["region"][:] = layout.region
        self._host["mosaic"][:] = layout.mosaic
        return self._opened(selection).run()

    def _opened(self, selection: SelectionSpec) -> _Selection:
        if selection.graph not in self._selections:
            graph = self._bundle.graph(selection.graph)
            session = self._backend.open(self._bundle.root, graph, resident=self._resident)
            outputs = {spec.name: np.zeros(spec.shape, np.dtype(spec.dtype)) for spec in graph.outputs}
            inputs = {**self._seen, **self._host}
            session.bind({**{spec.name: inputs[spec.name] for spec in graph.inputs}, **outputs})
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
