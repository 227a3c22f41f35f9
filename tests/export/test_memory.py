"""Weights are written in blocks: what lands in the file does not depend on them, and freed memory goes back to the kernel."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.models import open_checkpoint
from edgeprune.models.weights.stored import CHUNK_ELEMENTS
from edgeprune_export.bundle import memory
from edgeprune_export.graphs import linear
from edgeprune_export.graphs.linear import store_linear
from edgeprune_export.onnx.quantized import quantize_rows
from edgeprune_export.onnx.weights import WeightsWriter
from tests.checkpoints import tiny_checkpoint


def in_blocks(array: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def stored(path: Path, matrices: list[np.ndarray], rows: int) -> tuple[bytes, tuple[int, ...], bytes]:
    """Bytes and shape of the int8 tensor of layers read `rows` rows at a time, and bytes of its scales."""
    sources = {f"{i}.weight": matrix for i, matrix in enumerate(matrices)}
    with WeightsWriter(path) as writer:
        names = [name.removesuffix(".weight") for name in sources]
        store_linear(writer, "all", lambda name: in_blocks(sources[name], rows), names, bias=False, precision="int8")
        places = [writer["all.int8"], writer["all.scale"]]
    data = path.read_bytes()
    weight, scale = (data[place.offset : place.offset + place.nbytes] for place in places)
    return weight, places[0].shape, scale


@settings(max_examples=60, deadline=None)
@given(
    outs=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    inputs=st.integers(1, 33),
    rows=st.integers(1, 41),
    slab=st.integers(1, 700),
    seed=st.integers(0, 2**32 - 1),
)
def test_quantising_in_blocks_writes_what_quantising_the_whole_would(
    outs: list[int], inputs: int, rows: int, slab: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    matrices = [rng.normal(size=(out, inputs)).astype(np.float32) for out in outs]
    matrices[0][0] = 0  # a row without a scale of its own
    whole, scale = quantize_rows(np.concatenate(matrices))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_SLAB_BYTES", slab)
        found = stored(tmp_path_factory.mktemp("weights") / "weights.bin", matrices, rows)
    assert found == (np.ascontiguousarray(whole.T).tobytes(), (inputs, sum(outs)), scale.tobytes())


def test_blocks_of_a_tensor_join_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = open_checkpoint(tiny_checkpoint(tower="dinov2", swiglu=True, names="new")).weights
    monkeypatch.setattr("edgeprune.models.weights.tensors.CHUNK_ELEMENTS", 1000)
    for name in weights.names():
        blocks = list(weights.blocks(name))
        np.testing.assert_array_equal(np.concatenate(blocks), weights.read(name))
        assert all(len(block) == 1 or block.size <= 1000 for block in blocks), name
    assert max(len(list(weights.blocks(name))) for name in weights.names()) > 3


def test_a_matrix_is_quantised_without_a_float_copy(tmp_path: Path) -> None:
    """64 MiB of int8 from 256 MiB of float32 that never exist at once."""
    shape = (16 * CHUNK_ELEMENTS // 1024, 1024)
    block = np.ones((CHUNK_ELEMENTS // 1024, 1024), np.float32)
    tracemalloc.start()
    with WeightsWriter(tmp_path / "weights.bin") as writer:
        store_linear(writer, "all", lambda name: (block for _ in range(16)), ["a"], bias=False, precision="int8")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert writer["all.int8"].shape == shape[::-1]
    assert peak < np.prod(shape) + 8 * block.nbytes


# ------------------------------------------------------------------------------------------------------ freed memory

_HELD_AFTER_FREEING = """
import numpy, pathlib, sys
from edgeprune_export.bundle.memory import return_freed_memory
def held():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
if sys.argv[1] == "fixed":
    return_freed_memory()
numpy.ones(8 << 20, numpy.uint8)  # freed: glibc now serves all that is smaller from its arena
before, small, large = held(), [], []
for _ in range(60):
    large.append(numpy.ones(4 << 20, numpy.uint8))
    small.append(numpy.ones(4 << 10, numpy.uint8))
large.clear()
print(held() - before)
"""


def held_after_freeing(how: str) -> int:
    """Bytes still resident after 240 MiB were freed between small arrays that stay."""
    command = [sys.executable, "-c", _HELD_AFTER_FREEING, how]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_freed_matrices_go_back_to_the_kernel() -> None:
    assert held_after_freeing("as it is") > 100 << 20, "the cure is no longer needed"
    assert held_after_freeing("fixed") < 20 << 20


@pytest.mark.parametrize("missing", [AttributeError, OSError, TypeError])
def test_a_c_library_without_mallopt_is_left_alone(missing: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: object) -> object:
        raise missing("no such thing")

    monkeypatch.setattr(ctypes, "CDLL", without)
    memory.return_freed_memory()
