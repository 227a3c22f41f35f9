"""The gate's vision half: pixels, every output of every tower, and what each method keeps, picture by picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from edgeprune.models.spec import ModelSpec
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.plan.of_model import cuts_for
from edgeprune.tokens.methods import CONTROLS, METHODS
from edgeprune.tokens.readings import ALIVE, Geometry, alive_slots, outputs_from
from edgeprune_export.gate.checks import NEAR_TIES, Checks, relative, typical
from edgeprune_export.gate.eager import EagerReference
from edgeprune_export.gate.inputs import LibraryInputs
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.spec import SelectionSpec, tower_of
from edgeprune_runtime.vision import TOWER, Selected, Vision

# Share of tokens on which graph and eager must agree from the same features, for methods whose near ties rounding decides.
_NEAR_TIES = 0.8
_FEATURES = ("features", "class_feature", "projected")
_GEOMETRY = ("slot", "region", "places")
_WHERE = (ALIVE, "owner")
Named = dict[str, torch.Tensor]


@dataclass(frozen=True)
class GateCase:
    """One picture under one budget, after the vision graphs ran."""

    selection: SelectionSpec
    picture: PackedPicture
    selected: Selected
    eager: np.ndarray  # [k, row width] projected by the reference
    visual: dict[str, torch.Tensor] | None  # what transformers' processor made of the picture


@dataclass(frozen=True)
class VisionGate:
    """Graphs and reference side by side."""

    bundle: Bundle
    vision: Vision
    reference: EagerReference
    library: LibraryInputs
    geometry: Geometry
    model: ModelSpec
    plan: MethodPlan
    checks: Checks

    def cases(self, image: Image.Image) -> Iterator[GateCase]:
        """Check everything about one picture; yields what the language half goes on with, which is the bundle's own method only."""
        spec = self.bundle.manifest.picture
        picture = pack_picture(spec.place(image.height, image.width), spec)
        tiles = tiles_from_image(image, spec, picture.place)
        visual = self.library.visual(image, spec, picture)
        if visual is not None:
            difference = np.abs(tiles - self.library.pixels(visual, picture)).max()
            self.checks.at_most("preprocessing: pixels", "", float(difference), self.checks.limits.pixels)
        gated = [
            s
            for s in self.bundle.manifest.selections
            if s.tokens in (None, spec.tokens_of(picture.place)) and (s.own or s.method not in CONTROLS)
        ]
        towers = {TOWER: None, **{s.tower: s for s in gated if s.tower != TOWER}}
        self.vision.encode(tiles, picture, towers)
        eager = {name: self._tower(name, selection, tiles, picture) for name, selection in towers.items()}
        for selection in gated:
            selected, rows = self._selected(selection, eager[selection.tower])
            if selection.own:
                yield GateCase(selection, picture, selected, rows, visual)

    def _tower(self, name: str, own: SelectionSpec | None, tiles: np.ndarray, picture: PackedPicture) -> Named:
        """Hold every output of one tower against the reference, whose readings are returned. own: the selection that has this tower."""
        cuts = None
        if own is not None:
            inside = self.bundle.manifest.plan.inside
            cuts = cuts_for(own, self.plan, inside, self.model, METHODS, picture.place.view)
        ours_all, limits = self._by_graph(name), self.checks.limits
        eager = self.reference.outputs(torch.from_numpy(tiles), picture, ours_all, cuts)
        for spec in self.bundle.graph(tower_of(name, picture.place.view)).outputs:
            ours, theirs = (readings[spec.name][: len(tiles)].numpy() for readings in (ours_all, eager))
            if spec.name in _WHERE:
                same = float(np.mean(ours == theirs))
                self.checks.at_least(f"{name}: {spec.name}", "", same, limits.kept if _steady(cuts) else _NEAR_TIES)
                continue
            limit = (
                limits.features if spec.name in _FEATURES or spec.name.startswith("deepstack_") else limits.attention
            )
            # Where a near tie falls the other way, one token goes elsewhere: then the typical difference counts.
            norm, limit = (limits.norm, limit) if _steady(cuts) else (typical, max(limit, NEAR_TIES))
            self.checks.at_most(f"{name}: {spec.name}", "", relative(ours, theirs, norm), limit)
        return eager

    def _selected(self, selection: SelectionSpec, eager: Named) -> tuple[Selected, np.ndarray]:
        """What a select graph keeps, and the reference's rows [k, row width] for the same tokens."""
        method, limits, at = METHODS[selection.method], self.checks.limits, selection.budget
        selected = self.vision.select(selection)
        by_graph = self._by_graph(selection.tower) | {name: eager[name] for name in _GEOMETRY}
        reads = method.reads(self.plan)
        names = ("features", *reads.tower, *reads.host, *_GEOMETRY)
        on_graph, on_eager = (
            outputs_from({name: readings[name] for name in names} | _slots(readings), self.geometry)
            for readings in (by_graph, eager)
        )
        expected = method.reduce(on_graph, selection.keep, self.plan)
        steady = method.steady == 1
        same = _share(expected.index.numpy(), selected.kept)
        self.checks.at_least(f"{selection.graph}: indices equal the method's", at, same, 1.0 if steady else _NEAR_TIES)
        shared = _share(method.reduce(on_eager, selection.keep, self.plan).index.numpy(), selected.kept)
        wanted = limits.kept * method.steady
        self.checks.at_least(f"{selection.graph}: indices of the eager tower kept", at, shared, wanted)
        rows = self.reference.project(combine.apply(on_eager, expected))
        count = self.bundle.manifest.language.deepstack
        further = [combine.taken(eager[f"deepstack_{i}"], expected) for i in range(count)]
        rows = np.concatenate([rows, *(self.reference.project(one, i) for i, one in enumerate(further))], axis=1)
        rows = _in_order(rows, expected.index.numpy(), selected)
        # Where a near tie falls the other way, one row changes and not the picture: then the typical difference counts.
        norm, limit = (limits.norm, limits.visual) if steady else (typical, max(limits.visual, 1 - _NEAR_TIES))
        difference = relative(selected.visual, rows, norm)
        self.checks.at_most(f"{selection.graph}: projected tokens", at, difference, limit)
        return selected, rows

    def _by_graph(self, tower: str) -> Named:
        return {name: torch.from_numpy(buffer) for name, buffer in self.vision.outputs(tower).items()}


def _slots(readings: Named) -> Named:
    """Slots without tokens that left inside the tower."""
    return {"slot": alive_slots(readings["slot"], readings[ALIVE])} if ALIVE in readings else {}


def _steady(cuts: TowerCuts | None) -> bool:
    return cuts is None or cuts.method.steady


def _share(expected: np.ndarray, kept: np.ndarray) -> float:
    """Share of the expected indices (-1: none) that were kept."""
    wanted = expected[expected >= 0]
    return float(np.intersect1d(wanted, kept).size / max(1, len(wanted), len(kept)))


def _in_order(rows: np.ndarray, index: np.ndarray, selected: Selected) -> np.ndarray:
    """The reference's rows in the graph's order; the graph's own where the reference kept another token."""
    found: np.ndarray = selected.visual.copy()
    of_index = {int(token): row for row, token in enumerate(index) if token >= 0}
    for place, token in enumerate(selected.kept.tolist()):
        if token in of_index:
            found[place] = rows[of_index[token]]
    return found
