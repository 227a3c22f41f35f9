"""Weights are read one tensor at a time, exactly, and never past what the file holds."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeprune.models import open_checkpoint
from edgeprune.models.weights.stored import CHUNK_ELEMENTS, StoredTensor, stored_tensors
from edgeprune.models.weights.tensors import Weights
from edgeprune_runtime.errors import CheckpointError
from tests.checkpoints import own_copy, tiny_checkpoint


def weights_of(path: Path, tensor: torch.Tensor, name: str = "table") -> Weights:
    save_file({name: tensor}, path)
    return Weights({name: tuple(tensor.shape)}, {name: (stored_tensors(path)[name],)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_kind_reads_as_the_same_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    tensor[0, :3] = torch.tensor([0.0, -0.0, 6.1e-5]).to(dtype)
    weights = weights_of(tmp_path / "w.safetensors", tensor)
    np.testing.assert_array_equal(weights.read("table"), tensor.float().numpy())
    assert weights.dtype("table") == str(dtype).removeprefix("torch.")
    assert weights.nbytes("table") == tensor.nbytes


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 5), (3, 8), (7, 11), (0, 11)])
def test_rows_are_a_slice_of_the_whole(start: int, stop: int, tmp_path: Path) -> None:
    weights = weights_of(tmp_path / "w.safetensors", torch.arange(11.0)[:, None] * torch.ones(1, 4))
    np.testing.assert_array_equal(weights.read_rows("table", start, stop), weights.read("table")[start:stop])


def test_rows_of_a_joined_tensor_cross_its_parts() -> None:
    weights = open_checkpoint(tiny_checkpoint(tower="dinov2", swiglu=True, names="new")).weights
    name = "tower.0.fc_in.weight"
    assert len(weights.parts[name]) == 2
    half = weights.shape(name)[0] // 2
    np.testing.assert_array_equal(weights.read_rows(name, half - 3, half + 2), weights.read(name)[half - 3 : half + 2])


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 12)])
def test_rows_outside_the_tensor_are_a_mistake_of_the_caller(start: int, stop: int, tmp_path: Path) -> None:
    weights = weights_of(tmp_path / "w.safetensors", torch.ones(11, 4))
    with pytest.raises(ValueError, match="11 rows"):
        weights.read_rows("table", start, stop)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_not_finite_is_refused_by_name(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.ones(4, 4, dtype=dtype)
    tensor[2, 1] = value
    weights = weights_of(tmp_path / "w.safetensors", tensor)
    with pytest.raises(CheckpointError, match=r"table \(table\) holds NaN or infinity"):
        weights.read("table")


def test_both_infinities_do_not_cancel(tmp_path: Path) -> None:
    weights = weights_of(tmp_path / "w.safetensors", torch.tensor([float("inf"), float("-inf"), 1.0]))
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        weights.read("table")


def test_large_finite_numbers_are_not_taken_for_infinity(tmp_path: Path) -> None:
    tensor = torch.full((1000,), torch.finfo(torch.float32).max)
    np.testing.assert_array_equal(weights_of(tmp_path / "w.safetensors", tensor).read("table"), tensor.numpy())


def test_reading_holds_one_tensor_and_one_chunk(tmp_path: Path) -> None:
    rows = 5 * CHUNK_ELEMENTS // 1024
    weights = weights_of(tmp_path / "w.safetensors", torch.ones(rows, 1024, dtype=torch.float16))
    tracemalloc.start()
    table = weights.read("table")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < table.nbytes + 3 * CHUNK_ELEMENTS * 2


def test_a_file_cut_short_after_opening_is_an_error_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights = weights_of(path, torch.ones(100, 100))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="ends inside table; it was cut short"):
        weights.read("table")


def test_opening_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_checkpoint()
    monkeypatch.setattr(StoredTensor, "chunks", lambda *_: pytest.fail("weights were read"))
    open_checkpoint(folder)


def test_size_on_disk_counts_all_shards() -> None:
    folder = tiny_checkpoint(names="old", shards=3)
    shards = list(folder.glob("model-*.safetensors"))
    assert len(shards) >= 3
    assert open_checkpoint(folder).weight_bytes == sum(path.stat().st_size for path in shards)


def test_links_as_in_the_hub_cache_are_followed(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(shards=2), tmp_path)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for index, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(index))
        path.symlink_to(blobs / str(index))
    assert open_checkpoint(folder).weights.names() == open_checkpoint(tiny_checkpoint()).weights.names()


def test_names_come_in_the_order_of_a_forward_pass() -> None:
    names = open_checkpoint(tiny_checkpoint()).weights.names()
    order = [
        "tower.class_token",
        "tower.0.q.weight",
        "tower.1.q.weight",
        "connector.1.weight",
        "newline",
        "embed.weight",
    ]
    order += ["layers.0.q.weight", "layers.1.q.weight", "norm.weight", "head.weight"]
    assert [name for name in names if name in order] == order


def test_all_values_of_a_checkpoint_arrive(tmp_path: Path) -> None:
    folder = tiny_checkpoint(decoder="llama", names="old")
    stored = load_file(folder / "model.safetensors")
    weights = open_checkpoint(folder).weights
    for name in weights.names():
        [part] = weights.parts[name]
        np.testing.assert_array_equal(weights.read(name).ravel(), stored[part.name].numpy().ravel())
