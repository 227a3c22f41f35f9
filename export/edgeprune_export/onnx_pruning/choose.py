"""Which units leave: a global ranking over all groups, taken in aligned steps until the target is met. Counts are exact at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgeprune.errors import PlanError
from edgeprune_export.onnx.branches import weights_inside
from edgeprune_export.onnx.extract import live_nodes
from edgeprune_export.onnx.walk import values_captured, values_read
from edgeprune_export.onnx_pruning.asked import OnnxTarget
from edgeprune_export.onnx_pruning.count import macs, parameters
from edgeprune_export.onnx_pruning.groups.find import Coupling, Group
from edgeprune_export.onnx_pruning.groups.tally import Tally
from edgeprune_export.onnx_pruning.program import Program

TOLERANCE = 0.01
"""A reached share this far from the target, as a part of it, is what was asked for."""
_NAMED = 6
"""Frozen dimensions that a refusal names, the longest first."""
_QUANTISED = ("ConvInteger", "MatMulInteger", "QLinear", "DequantizeLinear", "DynamicQuantize")
"""Operators, by how their names begin, that read weights which are no floats."""
_REACH = 5
"""Steps of one group by which the ranking may be left to come nearer to the target; only small graphs need it."""


class RemovalStep(NamedTuple):
    """Bring a group (its index) down to `kept` units; `score` is the mean score of the units that leave."""

    score: float
    group: int
    kept: int


def widths(group: Group, align: int, least: int) -> list[int]:
    """Sizes a group may have, from its present one down. Channels snap to multiples of `align` where there are two of them; heads do not."""
    step = align if group.block == 1 and group.count >= 2 * align else 1
    lowest = max(step, -(-least // step) * step)
    below = (group.count - 1) // step * step
    return [group.count, *range(below, lowest - 1, -step)]


def choose(
    program: Program, coupling: Coupling, scores: np.ndarray, target: OnnxTarget, *, align: int, least: int
) -> np.ndarray:
    """scores [U], each group's mean being one -> [U] True where the unit leaves.

    A score is relative to its group's mean, so what a unit of the group costs cancels: a low one means little importance per
    parameter saved, whichever the group. Raises PlanError where even the smallest graph is above the target.
    """
    if align < 1 or least < 1:
        raise PlanError(f"align {align} and least {least} leave no layer whole; give at least 1")
    products = parameters(program) if target.metric == "params" else macs(program)
    tally = Tally(program, coupling, products)
    whole = tally.total
    steps = _steps(coupling.groups, scores, align, least)
    smallest = Tally(program, coupling, products)
    for step in steps:
        smallest.take(step.group, min(step.kept, smallest.kept[step.group]))
    if not whole or smallest.total / whole > target.share * (1 + TOLERANCE):
        raise PlanError(_out_of_reach(target, smallest.total / whole if whole else 1.0, program, coupling, align))
    _fill(tally, steps, target.share * whole)
    _settle(tally, [widths(group, align, least) for group in coupling.groups], target.share * whole)
    removed = np.zeros(coupling.units, bool)
    for group, kept in zip(coupling.groups, tally.kept, strict=True):
        order = _order(group, scores)
        removed[order[: group.count - kept]] = True
    return removed


def _steps(groups: Sequence[Group], scores: np.ndarray, align: int, least: int) -> list[RemovalStep]:
    """All steps of all groups, the least important first; those of one group come in order, their means rise."""
    steps = []
    for i, group in enumerate(groups):
        ranked = scores[_order(group, scores)]
        sizes = widths(group, align, least)
        for before, kept in zip(sizes, sizes[1:], strict=False):
            steps.append(RemovalStep(float(ranked[group.count - before : group.count - kept].mean()), i, kept))
    return sorted(steps, key=lambda step: (step.score, step.group, -step.kept))


def _fill(tally: Tally, steps: Sequence[RemovalStep], wanted: float) -> None:
    """Take steps in order while the total stays above what is wanted; a group whose step is too large rests."""
    resting: set[int] = set()
    for step in steps:
        if step.group in resting:
            continue
        if tally.after(step.group, step.kept) >= wanted:
            tally.take(step.group, step.kept)
        else:
            resting.add(step.group)


def _settle(tally: Tally, sizes: Sequence[Sequence[int]], wanted: float) -> None:
    """Where the steps were too coarse: the shortest move of one or two groups, down or up, that meets the target, or comes nearest."""
    room = TOLERANCE * wanted

    def miss(total: int, steps: int) -> tuple[float, int]:
        return max(abs(total - wanted) - room, 0.0), steps

    best, moves = miss(tally.total, 0), list[Move]()
    if best[0] == 0:
        return
    held = list(tally.kept)
    near = _near(held, sizes)
    for first in near:
        tally.take(first.group, first.kept)
        best, moves = min((best, moves), (miss(tally.total, first.steps), [first]), key=lambda option: option[0])
        for second in near:
            if second.group > first.group:
                option = miss(tally.after(second.group, second.kept), first.steps + second.steps)
                best, moves = min((best, moves), (option, [first, second]), key=lambda option: option[0])
        tally.take(first.group, held[first.group])
    for move in moves:
        tally.take(move.group, move.kept)


class Move(NamedTuple):
    """Bring a group to `kept` units, some steps away."""

    group: int
    kept: int
    steps: int


def _near(kept: Sequence[int], sizes: Sequence[Sequence[int]]) -> list[Move]:
    return [
        Move(group, size, abs(i - of.index(now)))
        for group, (of, now) in enumerate(zip(sizes, kept, strict=True))
        for i, size in enumerate(of)
        if 0 < abs(i - of.index(now)) <= _REACH
    ]


def _order(group: Group, scores: np.ndarray) -> np.ndarray:
    """Units of the group, the least important first."""
    return group.start + np.argsort(scores[group.start : group.start + group.count], kind="stable")


def _out_of_reach(target: OnnxTarget, reach: float, program: Program, coupling: Coupling, align: int) -> str:
    largest = sorted(coupling.frozen, key=lambda group: -group.size)
    held = [f"{group.name} ({group.size}) by {', '.join(group.operators)}" for group in largest[:_NAMED]]
    more = f" and {len(largest) - _NAMED} more" if len(largest) > _NAMED else ""
    why = f"; held: {'; '.join(held)}{more}" if held else ""
    asked = f"{target.metric}={target.share} is out of reach: "
    finer = align > 1 and bool(coupling.groups)
    if _up(reach) >= 1:
        unseen = "".join(f"; {reason}" for reason in _unseen(program))
        return (
            f"{asked}nothing can leave this graph, no layer has units that are free to go"
            f"{'; try --align 1' if finer else ''}{why}{unseen}"
        )
    return (
        f"{asked}the smallest graph that pruning can make keeps {_up(reach)} of them; ask for at least that share"
        f"{', or for a smaller align' if finer else ''}{why}"
    )


def _unseen(program: Program) -> list[str]:
    """Where layers are that pruning does not look into: branches that an input decides, and weights that are no floats."""
    reasons = []
    for node in program.nodes:
        captured = values_captured([node]) & set(program.weights)
        held = weights_inside(node) + sum(program.weights[name].size for name in captured)
        if held:
            read = values_read(live_nodes(program.nodes, node.input[:1])) | set(node.input[:1])
            fix = "".join(
                f", and the input {name!r} decides between them: fix it with --input-value {name}=NUMBER"
                for name in sorted(read.intersection(program.inputs))[:1]
                if node.op_type == "If"
            )
            reasons.append(f"the bodies of {node.op_type} {node.output[0]!r} hold {held:,} weights{fix}")
    quantised = sorted({node.op_type for node in program.nodes if node.op_type.startswith(_QUANTISED)})
    if quantised:
        reasons.append(f"its weights are quantised ({', '.join(quantised)}): prune the graph before it is quantised")
    return reasons


def _up(share: float) -> float:
    """Rounded up, so that the share named can be asked for."""
    return float(np.ceil(share * 1000) / 1000)
