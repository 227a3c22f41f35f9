"""Optimal-brain scores and compensation: what the remaining inputs of a layer can say of those that leave.

For a layer y = W x with H = E[x x^T] + damping, the least error that the inputs S leave behind is
trace(W_S ([H^-1]_SS)^-1 W_S^T), and W_R - W_S ([H^-1]_SS)^-1 [H^-1]_SR attains it on the remaining inputs R (optimal brain surgeon,
by blocks; OBSPA takes any inputs for the moments, noise too). By the inverse of a block matrix the latter is W H_{:,R} (H_RR)^-1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeprune_export.onnx_pruning.gram import Feed, moments
from edgeprune_export.onnx_pruning.groups.find import Coupling
from edgeprune_export.onnx_pruning.layers import Layer, layers
from edgeprune_export.onnx_pruning.program import Program

DAMPING = 0.01
ROUNDS = 24
"""Times that activations are collected anew; more layers than that are compensated several at a time."""


def saliency(program: Program, coupling: Coupling, given: Sequence[Feed], fallback: np.ndarray) -> np.ndarray:
    """[U] summed over the layers that read a unit; `fallback` [U] for groups that no plain layer reads."""
    reading = _readers(program, coupling)
    moment_of = moments(program, reading, given)
    scores = np.zeros(coupling.units)
    for weight, layer in {layer.weight: layer for layer in reading}.items():
        matrix, labels = _matrix(program, layer), _columns(program, coupling, layer)
        inverse = np.linalg.inv(_damped(moment_of[weight]))
        for group in coupling.groups:
            units, columns = _blocks(labels, group.start, group.count)
            if len(units):
                local = np.linalg.inv(inverse[columns[:, :, None], columns[:, None, :]])  # [units, s, s]
                parts = matrix[:, columns].transpose(1, 0, 2)  # [units, O, s]
                scores[units] += np.einsum("uos,ust,uot->u", parts, local, parts, optimize=True)
    scored = {unit for layer in reading for unit in np.unique(coupling.labels[layer.read]).tolist()}
    alone = np.array([unit not in scored for unit in range(coupling.units)], bool)
    scores[alone] = fallback[alone]
    return scores


def compensated(
    program: Program, coupling: Coupling, removed: np.ndarray, given: Sequence[Feed], advance: Callable[[], None]
) -> Program:
    """The graph, not yet sliced, whose layers read nothing from removed units and make up for it.

    Layers come in order, and each is fitted to what it reads once those before it are done.
    """
    gone = np.append(removed, False)
    reading = [layer for layer in _readers(program, coupling) if gone[coupling.labels[layer.read]].any()]
    done = program.with_constants({layer.weight: _masked(program, coupling, layer, gone) for layer in reading})
    values = list(dict.fromkeys(layer.node.input[0] for layer in reading))
    size = max(1, -(-len(values) // ROUNDS))
    fitted: set[str] = set()
    for first in range(0, len(values), size):
        now = [x for x in reading if x.node.input[0] in values[first : first + size] and x.weight not in fitted]
        moment_of = moments(done, now, given)
        changed = {}
        for layer in now:
            stays = ~gone[_columns(program, coupling, layer)]
            moment = _damped(moment_of[layer.weight])
            matrix = np.zeros_like(whole := _matrix(program, layer))
            matrix[:, stays] = np.linalg.solve(moment[np.ix_(stays, stays)], moment[stays] @ whole.T).T
            changed[layer.weight] = _stored(program, layer, matrix)
        fitted.update(changed)
        done = done.with_constants(changed)
        advance()
    return done


def rounds(program: Program, coupling: Coupling) -> int:
    """At most how often `compensated` advances."""
    return min(ROUNDS, len({layer.node.input[0] for layer in _readers(program, coupling)}))


def _readers(program: Program, coupling: Coupling) -> list[Layer]:
    return [layer for layer in layers(program) if layer.read in coupling.labels]


def _matrix(program: Program, layer: Layer) -> np.ndarray:
    """[O, K] float64, inputs of a convolution ordered by channel, then taps; the taps of a transposed one are among its outputs."""
    weight = program.constants[layer.weight].astype(np.float64)
    flat = weight.reshape(len(weight), -1)
    return np.asarray(flat.T if layer.made.dim == 1 else flat)


def _stored(program: Program, layer: Layer, matrix: np.ndarray) -> np.ndarray:
    like = program.constants[layer.weight]
    return (matrix.T if layer.made.dim == 1 else matrix).reshape(like.shape).astype(like.dtype)


def _columns(program: Program, coupling: Coupling, layer: Layer) -> np.ndarray:
    """[K] the unit of every column of the layer's matrix."""
    labels = coupling.labels[layer.read]
    first = layer.read.dim == 0
    taps = 1 if first else program.constants[layer.weight].size // (program.size(layer.read) * program.size(layer.made))
    return np.repeat(labels, taps)


def _masked(program: Program, coupling: Coupling, layer: Layer, gone: np.ndarray) -> np.ndarray:
    matrix = _matrix(program, layer)
    matrix[:, gone[_columns(program, coupling, layer)]] = 0
    return _stored(program, layer, matrix)


def _blocks(labels: np.ndarray, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Units of one group on an axis, and [units, s] their columns; every unit of a group has equally many."""
    columns = np.flatnonzero((labels >= start) & (labels < start + count))
    columns = columns[np.argsort(labels[columns], kind="stable")]
    units = np.unique(labels[columns])
    return units, columns.reshape(len(units), len(columns) // max(1, len(units)))


def _damped(moment: np.ndarray) -> np.ndarray:
    """Plus a share of the mean diagonal, so that inputs that never move, or move together, can be inverted."""
    size = max(float(np.trace(moment)) / len(moment), 1e-12)
    return moment + DAMPING * size * np.eye(len(moment))
