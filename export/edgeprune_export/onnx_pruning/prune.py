"""Structured pruning of an ONNX file, from file to file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgeprune.errors import ExportError, PlanError
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.onnx_pruning import files, gram, obs
from edgeprune_export.onnx_pruning.asked import OnnxTarget, ScoreFunction, require_score
from edgeprune_export.onnx_pruning.choose import TOLERANCE, choose
from edgeprune_export.onnx_pruning.count import Counted, count_program
from edgeprune_export.onnx_pruning.groups.find import Coupling, FrozenGroup, couple
from edgeprune_export.onnx_pruning.inputs import KnownShape
from edgeprune_export.onnx_pruning.program import Program
from edgeprune_export.onnx_pruning.reading import read
from edgeprune_export.onnx_pruning.rewrite import rewrite
from edgeprune_export.onnx_pruning.scores import drawn, magnitude, relative

METADATA = "edgeprune.onnx_pruning"
"""Key under which the written graph says what was done to it: a list, one entry for each pruning."""


@dataclass(frozen=True)
class GroupKept:
    """One coupled group: how many of its units stayed. block: elements in a row of a unit, see `groups.Group`."""

    name: str
    kept: int
    total: int
    block: int


@dataclass(frozen=True)
class OnnxPruned:
    """What was done. reached: share of the target's metric that is left; met: it is within 1 % of what was asked."""

    file: Path
    before: Counted
    predicted: Counted
    after: Counted
    target: OnnxTarget
    reached: float
    met: bool
    groups: tuple[GroupKept, ...]
    frozen: tuple[FrozenGroup, ...]


def prune_onnx(
    source: Path,
    out: Path,
    target: OnnxTarget | Mapping[str, float],
    *,
    importance: ScoreFunction = "magnitude",
    inputs: Iterable[np.ndarray] | None = None,
    compensate: bool | None = None,
    align: int = 8,
    least: int = 1,
    input_shape: KnownShape | Mapping[str, KnownShape] | None = None,
    input_values: Mapping[str, float] | None = None,
    seed: int = 0,
    force: bool = False,
    track: Track = silent,
) -> OnnxPruned:
    """Remove channels, MLP units and heads of the graph `source` until `target` of it is left, and write the rest to `out`.

    inputs      calibration inputs of obs; None: seeded noise
    compensate  fit the remaining weights to what left; None: with obs only
    align       channels of a group stay a multiple of it, where the group has two of them; heads are never aligned
    least       units that stay in every group
    input_shape for graphs whose input shapes are symbolic; a length given for a symbol holds wherever the symbol stands
    input_values inputs of one element that are constants from now on, such as one that an If decides by
    """
    wanted = target if isinstance(target, OnnxTarget) else _target(target)
    require_score(importance)
    calibrated = importance == "obs" or bool(compensate)
    compensate = importance == "obs" if compensate is None else compensate
    with files.replacing(out, force=force) as partial:
        model, external = files.load(source)
        program = read(model, input_shape, input_values)
        coupling = couple(program)
        given = gram.feeds(program, inputs, seed) if calibrated else []
        with track("prune", 3 + (obs.rounds(program, coupling) if compensate else 0)) as advance:
            scores = _scores(program, coupling, importance, given, seed)
            advance()
            removed = choose(program, coupling, scores, wanted, align=align, least=least)
            fitted = obs.compensated(program, coupling, removed, given, advance) if compensate else program
            pruned = rewrite(fitted, coupling, removed)
            advance()
            before, predicted = count_program(program), count_program(pruned)
            kept = _kept(coupling, removed)
            reached = getattr(predicted, wanted.metric) / getattr(before, wanted.metric)
            facts = {"target": asdict(wanted), "reached": reached, "importance": importance, "seed": seed}
            after = _written(
                pruned, program, partial, {**facts, "groups": [asdict(g) for g in kept]}, external, predicted
            )
            advance()
    met = abs(reached - wanted.share) <= TOLERANCE * wanted.share
    return OnnxPruned(out, before, predicted, after, wanted, reached, met, kept, coupling.frozen)


def _target(given: Mapping[str, float]) -> OnnxTarget:
    if len(given) != 1:
        raise PlanError(f"{len(given)} targets were given; give one, params or macs")
    ((metric, share),) = given.items()
    return OnnxTarget(metric, share)  # type: ignore[arg-type]  # the target checks the metric's name


def _scores(
    program: Program, coupling: Coupling, importance: ScoreFunction, given: list[gram.Feed], seed: int
) -> np.ndarray:
    if importance == "random":
        return relative(drawn(coupling, seed), coupling)
    scores = magnitude(program, coupling)
    if importance == "obs":
        scores = obs.saliency(program, coupling, given, scores)
    return relative(scores, coupling)


def _kept(coupling: Coupling, removed: np.ndarray) -> tuple[GroupKept, ...]:
    return tuple(
        GroupKept(g.name, g.count - int(removed[g.start : g.start + g.count].sum()), g.count, g.block)
        for g in coupling.groups
    )


def _written(
    pruned: Program, source: Program, path: Path, facts: dict[str, object], external: bool, predicted: Counted
) -> Counted:
    """Write the graph and read it back: it must have the promised size and the outputs of its source."""
    model = pruned.model()
    entry = next((e for e in model.metadata_props if e.key == METADATA), None) or model.metadata_props.add(
        key=METADATA, value="[]"
    )
    entry.value = json.dumps([*json.loads(entry.value), facts])
    files.save(model, path, external=external)
    again = read(files.load(path)[0])
    after = count_program(again)
    outputs = [source.shapes.get(name) for name in source.outputs]
    if after != predicted or [again.shapes.get(name) for name in again.outputs] != outputs:
        raise ExportError(
            f"the written graph has {after} and outputs {[again.shapes.get(n) for n in again.outputs]}, promised were {predicted} and "
            f"{outputs}; please report the source graph"
        )
    return after
