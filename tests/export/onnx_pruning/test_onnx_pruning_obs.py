"""Optimal-brain pruning: scores and compensation against brute force, and what they buy on correlated channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node as node

from edgeprune.errors import PlanError
from edgeprune_export.onnx_pruning import gram, obs
from edgeprune_export.onnx_pruning.groups.find import couple
from edgeprune_export.onnx_pruning.layers import layers
from edgeprune_export.onnx_pruning.prune import prune_onnx
from edgeprune_export.onnx_pruning.reading import read
from tests.export.onnx_pruning.onnx_masked import GRAPHS, made, run, weights

UNITS, OUT, ROWS = 16, 7, 64


def correlated() -> onnx.ModelProto:
    """x [64, 9] -> 16 features, each of the last eight nearly a mixture of the first eight -> y [64, 7]; the mixtures have large weights."""
    first, mixture, down, noise = weights((9, 8), (8, 8), (UNITS, OUT), (9, 8))
    up = np.concatenate([first, first @ mixture + 0.01 * noise], axis=1)
    nodes = [node("MatMul", ["x", "up"], ["h"]), node("MatMul", ["h", "down"], ["y"])]
    return made(nodes, {"up": up, "down": down}, {"x": (ROWS, 9)}, {"y": (ROWS, OUT)})


def error(model: onnx.ModelProto, path: Path, feed: dict[str, np.ndarray]) -> float:
    whole, less = run(model, feed)[0], run(onnx.load(path), feed)[0]
    return float(np.linalg.norm(whole - less) / np.linalg.norm(whole))


def test_compensation_helps_on_correlated_channels(tmp_path: Path) -> None:
    model = correlated()
    onnx.save(model, tmp_path / "in.onnx")
    held_out, *calibration = weights(*[(ROWS, 9)] * 5, seed=7)
    errors = {}
    for name, settings in {
        "obs": {"importance": "obs", "inputs": calibration},
        "noise": {"importance": "obs"},
        "bare": {"importance": "obs", "inputs": calibration, "compensate": False},
        "magnitude": {"importance": "magnitude"},
        "fitted": {"importance": "magnitude", "inputs": calibration, "compensate": True},
    }.items():
        made_of: Any = settings
        done = prune_onnx(tmp_path / "in.onnx", tmp_path / f"{name}.onnx", {"params": 0.75}, align=1, **made_of)
        assert done.met and done.groups[0].kept == 12
        errors[name] = error(model, tmp_path / f"{name}.onnx", {"x": held_out})
    assert errors["obs"] < 0.02 and errors["noise"] < 0.02
    assert errors["obs"] < 0.2 * errors["bare"] and errors["obs"] < 0.2 * errors["magnitude"]
    assert errors["fitted"] < 0.2 * errors["magnitude"]


def test_moments_are_the_mean_over_all_rows_or_evenly_thinned_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    model = correlated()
    program = read(model)
    first = layers(program)[0]
    given = [{"x": array} for array in weights((ROWS, 9), (ROWS, 9))]
    rows = np.concatenate([feed["x"] for feed in given])
    np.testing.assert_allclose(
        gram.moments(program, [first], given)["up"], rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6
    )
    monkeypatch.setattr(gram, "_ROWS", 16)
    thin = rows[::4]
    np.testing.assert_allclose(
        gram.moments(program, [first], given)["up"], thin.T @ thin / len(thin), rtol=1e-5, atol=1e-6
    )


def test_scores_are_the_error_of_the_best_fit_without_the_unit() -> None:
    """Heads of the joint block: eight columns at a time; the error of ridge regression on the others, solved directly."""
    program = read(onnx.load(GRAPHS / "joint.onnx"))
    coupling = couple(program)
    given = gram.feeds(program, None, seed=1)
    scores = obs.saliency(program, coupling, given, np.full(coupling.units, np.nan))
    assert np.isfinite(scores).all() and (scores > 0).all()
    heads = coupling.groups[0]
    out = next(layer for layer in layers(program) if layer.read in coupling.labels)
    moment = gram.moments(program, [out], given)[out.weight]
    moment = moment + obs.DAMPING * np.trace(moment) / len(moment) * np.eye(len(moment))
    half = np.linalg.cholesky(moment).T  # half.T @ half = moment: a data set with these moments
    weight = program.constants[out.weight].astype(np.float64)  # [inputs, outputs]
    for head in range(heads.count):
        stays = np.arange(len(weight)) // 8 != head
        best, *_ = np.linalg.lstsq(half[:, stays], half @ weight, rcond=None)
        left = np.square(half @ weight - half[:, stays] @ best).sum()
        np.testing.assert_allclose(scores[heads.start + head], left, rtol=1e-6)


def test_compensated_layers_read_nothing_removed_and_fit_what_they_read_now() -> None:
    """The last layer is refitted on what it reads after the layers before it were changed."""
    program = read(onnx.load(GRAPHS / "cnn.onnx"))
    coupling = couple(program)
    given = gram.feeds(program, None, seed=0)
    removed = np.zeros(coupling.units, bool)
    for group in coupling.groups:
        removed[group.start : group.start + group.count // 2] = True
    rounds: list[int] = []
    done = obs.compensated(program, coupling, removed, given, lambda: rounds.append(1))
    assert len(rounds) <= obs.rounds(program, coupling)
    gone = np.append(removed, False)
    reading = [layer for layer in layers(program) if layer.read in coupling.labels]
    assert len(reading) == 9
    for layer in reading:
        array = np.moveaxis(done.constants[layer.weight], layer.read.dim, 0)
        left = gone[coupling.labels[layer.read]]
        assert not array[left].any() and array[~left].any()
    head = reading[-1]
    stays = ~gone[coupling.labels[head.read]]
    moment = gram.moments(done, [head], given)[head.weight]
    moment += obs.DAMPING * np.trace(moment) / len(moment) * np.eye(len(moment))
    expected = program.constants[head.weight] @ moment[:, stays] @ np.linalg.inv(moment[np.ix_(stays, stays)])
    np.testing.assert_allclose(done.constants[head.weight][:, stays], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        {"dilations": [2, 3], "pads": [2, 2, 2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [1, 3]},
    ],
)
def test_patches_times_the_weight_are_the_convolution(settings: dict[str, Any]) -> None:
    kernel, x = weights((5, 4, 3, 2), (2, 4, 11, 10))
    model = made(
        [node("Conv", ["x", "kernel"], ["y"], **settings)], {"kernel": kernel}, {"x": x.shape}, {"y": (2, 5, "h", "w")}
    )
    program = read(model)
    rows = gram.unfolded(program.nodes[0], program, x)
    expected = np.moveaxis(run(model, {"x": x})[0], 1, -1).reshape(-1, 5)
    np.testing.assert_allclose(rows @ kernel.reshape(5, -1).T, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["vit20", "vit23", "vit_batch", "cnn"])
def test_noise_alone_calibrates_real_graphs(name: str, tmp_path: Path) -> None:
    """Nearer to the original than the same choice without compensation, and the same file from the same seed."""
    source = GRAPHS / f"{name}.onnx"
    found = []
    for number, compensate in enumerate((True, True, False)):
        out = tmp_path / f"{number}.onnx"
        prune_onnx(source, out, {"params": 0.7}, importance="obs", compensate=compensate, seed=5)
        found.append(out)
    assert found[0].read_bytes() == found[1].read_bytes()
    feed = {"pixels": weights((1, 3, 24, 24), seed=11)[0]}
    model = onnx.load(source)
    assert error(model, found[0], feed) < 0.7 * error(model, found[2], feed)


def test_calibration_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source, out = GRAPHS / "vit20.onnx", tmp_path / "out.onnx"
    for inputs, sentence in (
        ([np.zeros((1, 3, 8, 8))], "a calibration input has the shape"),
        ([], "no calibration input"),
    ):
        with pytest.raises(PlanError, match=sentence):
            prune_onnx(source, out, {"params": 0.7}, importance="obs", inputs=inputs)
    assert not list(tmp_path.iterdir())
    batches = [np.zeros((4, 3, 24, 24)), np.ones((1, 3, 24, 24))]
    assert prune_onnx(GRAPHS / "vit_batch.onnx", out, {"params": 0.7}, importance="obs", inputs=batches).met
