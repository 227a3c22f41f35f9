"""Drive the vision graphs: the tower once per tile, then one small select graph that keeps exactly K tokens.

The tower writes each tile's features and readings straight into its row of buffers that every select graph reads. Select graphs are
opened when first asked for; a further budget therefore costs little more than its projector. A method that looks at the question
selects anew for each one, from an `Encoded` copy of those buffers, without running the tower again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune_runtime.backends import Backend, Buffer, Session
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.errors import BundleError, RequestError
from edgeprune_runtime.pictures.entropy import unit_entropy
from edgeprune_runtime.pictures.equal import twin_of
from edgeprune_runtime.pictures.packed import PackedPicture
from edgeprune_runtime.spec import SelectionSpec, tower_of

TOWER = "tower"
_OWNER = "owner"  # of a tower that is cut: the token of its tile that each token is in
#: Inputs of select graphs that come from the packed picture, the question and the pixels instead of the tower.
_HOST = {"slot", "region", "places", "question", "question_weight", "entropy"}


@dataclass(frozen=True)
class Selected:
    """visual [k, row width] float32: projected rows of the kept tokens, and behind each what enters behind layers of the language model;
    kept [k]: their flat indices t * N + n, ascending by slot; salience [k]: the encoder's score of them, where the graph gives it."""

    visual: np.ndarray
    kept: np.ndarray
    salience: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture after the tower, as one select graph reads it, the question left out."""

    readings: Mapping[str, np.ndarray]


class Vision:
    """The vision graphs of a bundle and their buffers. One picture at a time."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self._bundle, self._backend, self._tile = bundle, backend, bundle.manifest.picture.tile
        views = bundle.manifest.picture.views
        self._towers: dict[str, _Tower] = {}
        self._tower(bundle.manifest.selections[0].tower).opened(views[0] if views else None)
        host = {
            spec.name: spec
            for s in bundle.manifest.selections
            for spec in bundle.graph(s.graph).inputs
            if spec.name in _HOST
        }
        self._host = {name: backend.zeros(spec.shape, spec.dtype) for name, spec in host.items()}
        self._question_shape = host["question"].shape if "question" in host else (0, 0)
        self._entropy = np.zeros(host["entropy"].shape if "entropy" in host else (0, 0), np.float32)
        self._selections: dict[str, _Selection] = {}

    @property
    def question_rows(self) -> int:
        """Question tokens that text-aware methods of this bundle can look at; 0 when it holds none."""
        return self._question_shape[0]

    def reads_question(self, selection: SelectionSpec) -> bool:
        """Whether this selection depends on the question."""
        return any(spec.name == "question" for spec in self._bundle.graph(selection.graph).inputs)

    def encode(
        self, tiles: Sequence[np.ndarray] | np.ndarray, picture: PackedPicture, towers: Iterable[str] = (TOWER,)
    ) -> int:
        """Run towers over tiles [3, P, P] float32; what they gave stays in the buffers until the next picture.

        Returns how many tiles needed no run: they are equal to an earlier one, or all that they show was left out.
        """
        used = [self._tower(name) for name in dict.fromkeys(towers)]
        spared = 0
        for t, pixels in enumerate(tiles):
            twin = twin_of(t, tiles, picture)
            empty = t > 0 and picture.left_out > 0 and not (picture.slot[t] >= 0).any()
            spared += empty or twin is not None
            for tower in used:
                if twin is not None:
                    tower.repeat(twin, t)
                elif not empty:
                    tower.run(t, pixels, picture)
            if t < len(self._entropy):
                self._entropy[t, self._tile.units_of(picture.place.view)] = unit_entropy(pixels, self._tile)
        self._backend.wait()
        given = {"slot": picture.slot, "region": picture.region, "places": picture.places, "entropy": self._entropy}
        for name, value in given.items():
            if name in self._host:
                self._backend.write(self._host[name], np.asarray(value))
        return spared

    def ask(self, words: np.ndarray | None) -> None:
        """What methods that look at the question will see: embeddings [m, D] of its words, or none."""
        if not self.question_rows:
            return
        rows = np.zeros(self._question_shape, np.float32)
        weight = np.zeros(len(rows), np.float32)
        used = 0 if words is None else min(len(words), len(rows))
        if words is not None:
            rows[:used] = words[:used]
        weight[:used] = 1 / max(used, 1)
        self._backend.write(self._host["question"], rows)
        self._backend.write(self._host["question_weight"], weight)

    def outputs(self, tower: str = TOWER) -> dict[str, np.ndarray]:
        """What this tower gave for all tiles and what the host adds, by name; valid until the next picture."""
        return {name: self._backend.read(buffer) for name, buffer in self._buffers(tower).items()}

    def tower_outputs(self, tower: str = TOWER) -> frozenset[str]:
        """Names of what this tower gives, without what the host adds."""
        return frozenset(self._tower(tower).outputs)

    def encoded(self, selection: SelectionSpec) -> Encoded:
        """A copy of what this selection reads of the encoded picture, to select from again."""
        buffers = self._buffers(selection.tower)
        names = [spec.name for spec in self._bundle.graph(selection.graph).inputs]
        names += [_OWNER] if _OWNER in buffers else []
        return Encoded({n: self._backend.read(buffers[n]).copy() for n in names if not n.startswith("question")})

    def restore(self, selection: SelectionSpec, encoded: Encoded) -> None:
        """Put an encoded picture back into the buffers. Raises RequestError for one that another model made."""
        buffers = self._buffers(selection.tower)
        if any(n not in buffers or tuple(buffers[n].shape) != value.shape for n, value in encoded.readings.items()):
            raise RequestError(
                "this View was made by another model, whose readings have other shapes; see the picture again"
            )
        for name, value in encoded.readings.items():
            self._backend.write(buffers[name], value)

    def select(self, selection: SelectionSpec) -> Selected:
        """Keep and project K tokens of the encoded picture; fewer when it has fewer candidates."""
        if selection.graph not in self._selections:
            self._selections[selection.graph] = self._opened(selection)
        return self._selections[selection.graph].run()

    def joined(self, selection: SelectionSpec, kept: np.ndarray) -> np.ndarray:
        """Flat indices of the tokens that merged inside the tower with one of these, itself not counted; none where nothing merges."""
        buffers = self._buffers(selection.tower)
        if _OWNER not in buffers:
            return np.zeros(0, np.int64)
        owner = self._backend.read(buffers[_OWNER])
        flat = np.where(owner >= 0, owner + np.arange(len(owner))[:, None] * owner.shape[1], -1).reshape(-1)
        return np.flatnonzero(np.isin(flat, kept) & (flat != np.arange(len(flat))))

    def _tower(self, name: str) -> _Tower:
        if name not in self._towers:
            self._towers[name] = _Tower(self._bundle, self._backend, name)
        return self._towers[name]

    def _buffers(self, tower: str) -> dict[str, Buffer]:
        return {**self._tower(tower).outputs, **self._host}

    def _opened(self, selection: SelectionSpec) -> _Selection:
        graph, buffers = self._bundle.graph(selection.graph), self._buffers(selection.tower)
        missing = sorted({spec.name for spec in graph.inputs} - buffers.keys())
        if missing:
            raise BundleError(
                f"{graph.name} of bundle {self._bundle.root} reads {missing[0]}, which {selection.tower} does not give; "
                "export the bundle again"
            )
        session = self._bundle.session(self._backend, graph.name)
        outputs = {spec.name: self._backend.zeros(spec.shape, spec.dtype) for spec in graph.outputs}
        session.bind({**{spec.name: buffers[spec.name] for spec in graph.inputs}, **outputs})
        return _Selection(self._backend, session, outputs["visual"], outputs["kept"], outputs.get("salience"))


class _Tower:
    """One tower, its graph for each view of a tile, and what it gave for each tile: all views write outputs of the same shapes."""

    def __init__(self, bundle: Bundle, backend: Backend, name: str) -> None:
        self._bundle, self._backend, self._name = bundle, backend, name
        views = bundle.manifest.picture.views
        graph, tiles = bundle.graph(tower_of(name, views[0] if views else None)), bundle.manifest.picture.tiles_max
        self.outputs = {spec.name: backend.zeros((tiles, *spec.shape[1:]), spec.dtype) for spec in graph.outputs}
        self._graphs: dict[tuple[int, int] | None, _TowerGraph] = {}

    def opened(self, view: tuple[int, int] | None) -> _TowerGraph:
        """The graph for tiles of which `view` is looked at, opened when it is first asked for."""
        if view not in self._graphs:
            self._graphs[view] = _TowerGraph(self._bundle, self._backend, tower_of(self._name, view))
        return self._graphs[view]

    def run(self, tile: int, pixels: np.ndarray, picture: PackedPicture) -> None:
        graph = self.opened(picture.place.view)
        self._backend.write(graph.inputs["pixels"], pixels[None])
        if "valid" in graph.inputs:
            self._backend.write(graph.inputs["valid"], (picture.slot[tile] >= 0)[None].astype(np.float32))
        graph.session.bind({name: self._backend.part(buffer, tile) for name, buffer in self.outputs.items()})
        graph.session.run()

    def repeat(self, tile: int, again: int) -> None:
        """What this tile gave is what another one gives."""
        for buffer in self.outputs.values():
            self._backend.copy(self._backend.part(buffer, tile), buffer, again)


class _TowerGraph:
    """A session and its inputs."""

    def __init__(self, bundle: Bundle, backend: Backend, name: str) -> None:
        self.inputs = {spec.name: backend.zeros(spec.shape, spec.dtype) for spec in bundle.graph(name).inputs}
        self.session = bundle.session(backend, name)
        self.session.bind(self.inputs)


@dataclass(frozen=True)
class _Selection:
    backend: Backend
    session: Session
    visual: Buffer
    kept: Buffer
    salience: Buffer | None

    def run(self) -> Selected:
        self.session.run()
        kept = self.backend.read(self.kept)
        count = int(np.count_nonzero(kept >= 0))
        kept = kept[:count].copy()
        salience = None if self.salience is None else self.backend.read(self.salience)[:count].copy()
        return Selected(self.backend.read(self.visual)[:count].copy(), kept, salience)
