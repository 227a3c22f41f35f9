"""How much each unit matters; within a group the mean is one, so that groups compare."""

from __future__ import annotations

import numpy as np

from edgeprune_export.onnx_pruning.groups.find import Coupling
from edgeprune_export.onnx_pruning.program import Program


def magnitude(program: Program, coupling: Coupling) -> np.ndarray:
    """[U] L2 norm of all weights that leave with a unit, its rows and its columns; running statistics are no weights."""
    statistics = {name for node in program.nodes if node.op_type == "BatchNormalization" for name in node.input[3:]}
    energy = np.zeros(coupling.units + 1)
    for axis, labels in coupling.labels.items():
        if axis.value in program.weights and axis.value not in statistics:
            weight = program.weights[axis.value].astype(np.float32, copy=False)
            others = tuple(i for i in range(weight.ndim) if i != axis.dim)
            np.add.at(energy, labels, np.square(weight).sum(axis=others, dtype=np.float64))
    return np.asarray(np.sqrt(energy[:-1]))


def drawn(coupling: Coupling, seed: int) -> np.ndarray:
    """[U] scores drawn at random, the control that every other score must beat."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, coupling.units)


def relative(scores: np.ndarray, coupling: Coupling) -> np.ndarray:
    """[U] each score over the mean of its group; a group without any importance counts as even."""
    result = np.ones_like(scores)
    for group in coupling.groups:
        own = slice(group.start, group.start + group.count)
        mean = scores[own].mean()
        if mean > 0:
            result[own] = scores[own] / mean
    return result
