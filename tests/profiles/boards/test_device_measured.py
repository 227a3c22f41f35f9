"""A profile of this processor: the tiny graphs are sound ONNX, and figures come from the shortest try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeprune_profiles.boards import measure_cpu, micro_graphs
from edgeprune_profiles.boards.device import need_bandwidth, need_peak
from edgeprune_profiles.boards.device_file import load_device, write_device
from tests.profiles.conftest import ENVIRONMENT


@pytest.mark.parametrize(
    "model",
    [micro_graphs.matmul(), micro_graphs.matmul_integer(), micro_graphs.chain(200)],
    ids=["float", "integer", "chain"],
)
def test_graphs_written_as_bytes_are_sound(model: bytes) -> None:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)


def test_they_compute_what_they_say() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 9, (3, 4)).astype(np.uint8), random.integers(-9, 9, (4, 5)).astype(np.int8)
    (product,) = ort.InferenceSession(micro_graphs.matmul_integer()).run(None, {"a": a, "b": b})
    np.testing.assert_array_equal(product, a.astype(np.int32) @ b.astype(np.int32))
    (end,) = ort.InferenceSession(micro_graphs.chain(3)).run(None, {"a": np.zeros(1, np.float32)})
    np.testing.assert_allclose(end, [np.cos(np.cos(np.cos(0.0)))], rtol=1e-6)
    assert len(onnx.load_from_string(micro_graphs.chain(300)).graph.node) == 300


def test_the_shortest_try_counts_and_the_first_does_not() -> None:
    ticks: Iterator[float] = iter([0.0, 5.0, 10.0, 12.0, 20.0, 24.0])
    calls: list[int] = []
    assert measure_cpu.best(lambda: calls.append(1), lambda: next(ticks), 3) == 2.0
    assert len(calls) == 4


@pytest.mark.parametrize("threads", [1, 2])
def test_a_measured_profile_can_be_projected_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int) -> None:
    monkeypatch.setattr(measure_cpu, "_SIDE", 64)
    monkeypatch.setattr(measure_cpu, "_COPY_BYTES", 1 << 20)
    device = measure_cpu.measure_cpu("here", ENVIRONMENT, threads, tries=2)
    write_device(device, tmp_path / "here.toml")
    found = load_device(str(tmp_path / "here.toml"))
    assert found == device
    assert (found.kind, found.power_w, found.price_usd) == ("cpu", None, None)
    assert found.memory.size_bytes is not None
    assert found.memory.size_bytes.value == ENVIRONMENT.memory_bytes
    assert need_peak(found, "fp32") > 0
    assert need_bandwidth(found) > 0
    assert "Made-up CPU" in found.sources["measured"].title
