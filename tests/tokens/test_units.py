"""Patches become visual tokens as in plain loops, as in transformers' own pixel shuffles, and in graphs as in torch."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.internvl.modeling_internvl import InternVLModel

from edgeprune.tokens.units import merged, pooled
from edgeprune_export.graphs import units as graphs
from edgeprune_export.onnx.graph import Graph

WIDTH = 5
#: Merge, and units along a side.
SIZES = [(1, 4), (2, 3), (3, 2), (3, 4), (4, 1), (4, 2)]
every_size = pytest.mark.parametrize(("merge", "across"), SIZES)


def patches_of(merge: int, across: int) -> list[list[int]]:
    """Per unit in raster order the numbers of its patches, in raster order too."""
    side = merge * across
    return [
        [(merge * row + i) * side + merge * col + j for i in range(merge) for j in range(merge)]
        for row in range(across)
        for col in range(across)
    ]


def drawn(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@every_size
def test_channels_of_the_patches_of_a_unit_stand_side_by_side(merge: int, across: int) -> None:
    features = drawn((merge * across) ** 2, WIDTH)
    expected = [torch.cat([features[p] for p in unit]) for unit in patches_of(merge, across)]
    assert torch.equal(merged(features, merge), torch.stack(expected))


@every_size
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_whatever_is_per_patch_becomes_the_mean_over_a_unit_s_patches(merge: int, across: int, dim: int) -> None:
    shape = [2, 3, 4]
    shape[dim] = (merge * across) ** 2
    values = drawn(*shape)
    units = [values.index_select(dim, torch.tensor(unit)).mean(dim=dim) for unit in patches_of(merge, across)]
    torch.testing.assert_close(pooled(values, merge, dim), torch.stack(units, dim=dim))


@pytest.mark.parametrize("merge", [2, 3, 4])
def test_merging_is_idefics3_s_pixel_shuffle(merge: int) -> None:
    features = drawn((3 * merge) ** 2, WIDTH)
    theirs = Idefics3Connector.pixel_shuffle(None, features[None], merge)
    assert torch.equal(merged(features, merge), theirs[0])


@pytest.mark.parametrize("merge", [2, 4])  # theirs takes a binary fraction: a third of 9 is not whole for it
def test_merging_is_internvl_s_pixel_shuffle(merge: int) -> None:
    side = 3 * merge
    features = drawn(side**2, WIDTH)
    theirs = InternVLModel.pixel_shuffle(None, features.view(1, side, side, WIDTH), scale_factor=1 / merge)
    assert torch.equal(merged(features, merge), theirs.reshape(9, -1))


@every_size
def test_graphs_merge_and_pool_as_torch_does(merge: int, across: int) -> None:
    side = merge * across
    features, values = drawn(side**2, WIDTH), drawn(2, 3, side**2)
    g = Graph("units", weights_file="none")
    for name, value in (("features", features), ("values", values)):
        g.input(name, "float32", tuple(value.shape))
    g.output(
        graphs.merged(g, "features", (side, side), WIDTH, merge), "merged", "float32", (across**2, merge**2 * WIDTH)
    )
    g.output(graphs.pooled(g, "values", (2, 3), (side, side), merge), "pooled", "float32", (2, 3, across**2))
    session = ort.InferenceSession(g.model().SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["merged", "pooled"], {"features": features.numpy(), "values": values.numpy()})
    np.testing.assert_array_equal(found[0], merged(features, merge))
    np.testing.assert_allclose(found[1], pooled(values, merge, -1), rtol=1e-6, atol=1e-6)
