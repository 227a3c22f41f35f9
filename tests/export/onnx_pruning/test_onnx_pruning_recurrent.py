"""LSTM, GRU and RNN: a unit of the hidden state leaves whole, and so do the features that a recurrent layer reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node as node

from edgeprune_export.onnx_pruning.count import count
from edgeprune_export.onnx_pruning.groups.find import couple
from edgeprune_export.onnx_pruning.reading import read
from tests.export.onnx_pruning.onnx_masked import OUT, Reader, assert_pruned_is_masked, blocks, made, weights

STEPS, WIDE, HIDDEN = 6, 8, 10
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(operator: str, directions: int = 1, *, states: bool = True, **attributes: Any) -> onnx.ModelProto:
    """x [6, 1, 3] -> 8 features -> a recurrent layer of 10 units per direction -> [6, 1, D * 10] -> y [6, 1, 7]."""
    rows = GATES[operator] * HIDDEN
    up, w, r, b, h0, down, peep = weights(
        (3, WIDE),
        (directions, rows, WIDE),
        (directions, rows, HIDDEN),
        (directions, 2 * rows),
        (directions, 1, HIDDEN),
        (directions * HIDDEN, OUT),
        (directions, 3 * HIDDEN),
    )
    more = ["h0", "h0", "peep"][: 3 if operator == "LSTM" else 1] if states else []
    nodes = [
        node("MatMul", ["x", "up"], ["h"]),
        node(
            operator,
            ["h", "w", "r", "b", "", *more],
            ["all", "last"],
            hidden_size=HIDDEN,
            direction="bidirectional" if directions == 2 else "forward",
            **attributes,
        ),
        node("Transpose", ["all"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "flat"], ["m"]),
        node("MatMul", ["m", "down"], ["y"]),
    ]
    constants = {"up": up, "w": w, "r": r, "b": b, "down": down, "flat": np.array([0, 0, -1], np.int64)}
    constants |= {"h0": h0} if states else {}
    constants |= {"peep": peep} if states and operator == "LSTM" else {}
    return made(nodes, constants, {"x": (STEPS, 1, 3)}, {"y": (STEPS, 1, OUT)})


def both(directions: int) -> np.ndarray:
    """[10, D] places of every unit in what the last layer reads."""
    return np.arange(directions * HIDDEN).reshape(directions, HIDDEN).T


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("operator", GATES)
def test_units_of_the_hidden_state_leave_from_all_gates(operator: str, directions: int, states: bool) -> None:
    attributes = {"linear_before_reset": 1} if operator == "GRU" else {}
    model = recurrent(operator, directions, states=states, **attributes)
    # A unit is read by the next step and by the last layer; what a layer reads of the features before it are columns.
    hidden = [blocks("r", 2, HIDDEN, 1), Reader("down", 0, both(directions))]
    assert_pruned_is_masked(model, [(WIDE, [blocks("w", 2, WIDE, 1)]), (HIDDEN, hidden)], 6)


def test_a_state_that_the_graph_hands_out_stays() -> None:
    model = recurrent("LSTM")
    model.graph.output.append(onnx.helper.make_tensor_value_info("last", onnx.TensorProto.FLOAT, (1, 1, HIDDEN)))
    coupling = couple(read(model))
    assert [group.count for group in coupling.groups] == [WIDE]
    assert ("w", 4 * HIDDEN, ("graph output",)) in [(g.name, g.size, g.operators) for g in coupling.frozen]


def test_products_of_every_step_are_counted() -> None:
    last = STEPS * (3 * WIDE + 2 * HIDDEN * OUT)
    assert count(recurrent("GRU", 2)).macs == last + STEPS * 2 * 3 * HIDDEN * (WIDE + HIDDEN)


def test_the_layout_with_the_batch_first_is_not_known() -> None:
    model = recurrent("RNN", states=False, layout=1)
    assert not couple(read(model)).groups
