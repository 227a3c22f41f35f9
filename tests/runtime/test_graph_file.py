"""A graph reads only files that the manifest seals; what a tensor names is found wherever onnx lets a tensor stand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.backends.graph_file import read_graph_file
from edgeprune_runtime.engines.sets import engine_folders
from edgeprune_runtime.errors import BundleError
from tests.exports import own_bundle, resealed


def locations(path: Path) -> set[str]:
    return {tensor.location for tensor in read_graph_file(path).external}


def tensor(place: str) -> TensorProto:
    made = TensorProto(name=f"of {place}", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", place), ("length", "4")):
        made.external_data.add(key=key, value=value)
    return made


def constant(place: str) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["out"])
    node.attribute.append(helper.make_attribute("value", tensor(place)))
    return node


def graph(place: str) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], initializer=[tensor(place)])


def in_subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([constant("x.bin")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner))


def in_sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor("x.bin"))


PLACES: dict[str, Callable[[onnx.ModelProto], object]] = {
    "initializer": lambda model: model.graph.initializer.append(tensor("x.bin")),
    "attribute": lambda model: model.graph.node.append(constant("x.bin")),
    "subgraph": in_subgraph,
    "sparse": in_sparse,
    "function": lambda model: model.functions.add(name="f", domain="d").node.append(constant("x.bin")),
    "training": lambda model: model.training_info.add().algorithm.CopyFrom(graph("x.bin")),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_location_is_found_wherever_a_tensor_stands(tmp_path: Path, place: str) -> None:
    model = helper.make_model(graph("weights.bin"))
    PLACES[place](model)
    path = tmp_path / "g.onnx"
    path.write_bytes(model.SerializeToString())
    assert locations(path) == {"weights.bin", "x.bin"}


def test_a_graph_that_holds_its_weights_names_no_file(tmp_path: Path) -> None:
    weights = helper.make_tensor("location", TensorProto.FLOAT, [100], [float(i) for i in range(100)])
    path = tmp_path / "g.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([], "g", [], [], initializer=[weights])).SerializeToString())
    assert locations(path) == set()


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x3a\x7f", b"\x08\x01", b"\x3b", b"\x09\x01"])
def test_what_is_no_graph_is_a_typed_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="is not an ONNX graph"):
        locations(tmp_path / "g.onnx")


def redirect(bundle: Path, place: str, *names: str) -> Path:
    """Let graphs read their weights from another file, with every hash right."""
    for name in names:
        model = onnx.load(str(bundle / name), load_external_data=False)
        for one in model.graph.initializer:
            for entry in one.external_data:
                entry.value = place if entry.key == "location" else entry.value
        (bundle / name).write_bytes(model.SerializeToString())

    def seal(manifest: dict) -> None:
        for name in names:
            data = (bundle / name).read_bytes()
            manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    return resealed(bundle, seal)


@pytest.mark.parametrize("place", ["unlisted.bin", "../outside.bin", "/etc/hostname", "*/_ORT_MEM_ADDR_/*", ""])
def test_weights_outside_the_seal_are_refused_when_the_bundle_is_opened(
    tiny_bundle: Path, tmp_path: Path, place: str
) -> None:
    bundle = own_bundle(tiny_bundle, tmp_path)
    (bundle / "unlisted.bin").write_bytes((bundle / "weights.bin").read_bytes())
    redirect(bundle, place, "decode.onnx")
    with pytest.raises(BundleError, match=r"decode.onnx .* reads weights from .* does not seal"):
        Bundle.open(bundle)


def test_they_are_refused_before_the_graph_runs_where_nothing_was_verified(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = own_bundle(tiny_bundle, tmp_path)
    (bundle / "unlisted.bin").write_bytes((bundle / "weights.bin").read_bytes())
    names = [path.name for path in bundle.glob("*.onnx")]
    with (
        pytest.raises(BundleError, match="does not seal"),
        Model.open(redirect(bundle, "unlisted.bin", *names), verify=False),
    ):
        pass


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256"])
def test_a_manifest_or_digest_that_is_a_link_out_is_refused(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    bundle = own_bundle(tiny_bundle, tmp_path)
    (bundle / name).rename(tmp_path / name)
    (bundle / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match=name):
        Bundle.open(bundle)


@pytest.mark.parametrize("linked", ["engines", "engines/key"])
def test_engines_behind_a_link_out_of_the_bundle_are_refused(tmp_path: Path, linked: str) -> None:
    bundle, away = tmp_path / "bundle", tmp_path / "away"
    for folder in (away, away / "key"):
        folder.mkdir()
        (folder / "engines.json").write_text("{}")
    (bundle / linked).parent.mkdir(parents=True)
    (bundle / linked).symlink_to(away)
    with pytest.raises(BundleError, match="link out of the bundle"):
        engine_folders(bundle)
