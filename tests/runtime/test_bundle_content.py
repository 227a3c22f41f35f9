"""Hashes do not vouch for content: a bundle that is sealed rightly and says what cannot be is refused when it is opened."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.bundle import read_manifest
from edgeprune_runtime.checks.room import memory_at_hand, require_room
from edgeprune_runtime.errors import BackendUnavailable, BundleError
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.spec import Manifest
from tests.commands import complaint
from tests.exports import own_bundle

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return own_bundle(tiny_bundle, tmp_path)


def sealed_again(folder: Path, change: Change = lambda manifest: None) -> Path:
    """Every hash made right after the manifest, or a file, was changed; as a stranger would do it, without edgeprune."""
    values = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    change(values)
    for name in values["files"]:
        if (folder / name).is_file():
            data = (folder / name).read_bytes()
            values["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    data = json.dumps(values).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sha256").write_text(hashlib.sha256(data).hexdigest())
    return folder


def refusal(folder: Path) -> str:
    """The sentence, the same whether hashes are checked or not."""
    said = []
    for verify in (True, False):
        with pytest.raises(BundleError) as caught:
            Bundle.open(folder, verify=verify)
        said.append(str(caught.value))
    assert said[0] == said[1] and ";" in said[0] and "\n" not in said[0]
    return said[0]


def graph(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(g for g in manifest["graphs"] if g["name"] == name)
    return found


def language(**changes: Any) -> Change:
    return lambda m: m["language"].update(changes)


def tile(**changes: Any) -> Change:
    return lambda m: m["picture"]["tile"].update(changes)


def tiling(**rule: Any) -> Change:
    return lambda m: m["picture"].update(tiling=rule)


def sequence(**changes: Any) -> Change:
    return lambda m: m["picture"]["sequence"].update(changes)


CONTENT: dict[str, tuple[Change, str]] = {
    "another number of key/value heads": (lambda m: m["language"]["kv_heads"].__setitem__(0, 7), "past_key_0"),
    "negative heads": (lambda m: m["language"]["kv_heads"].__setitem__(0, -1), "kv_heads"),
    "a head that fills the memory": (language(head_dim=2**31 - 1), "past_key_0"),
    "a number beyond all integers": (language(hidden=10**40), "does not match"),
    "more layers than heads": (language(layers=9), "one each"),
    "stages with a hole": (lambda m: m["language"]["stages"][0].update(first=1), "one after the other"),
    "a cache that is no multiple": (lambda m: m["language"]["stages"][0].update(capacity=33), "a multiple"),
    "one graph twice": (lambda m: m["language"]["stages"][0].update(decode="prefill"), "one graph for several"),
    "an embedding table behind the end": (lambda m: m["language"]["embedding"].update(offset=2**40), "reaches beyond"),
    "an embedding table inside a number": (lambda m: m["language"]["embedding"].update(offset=2), "inside a number"),
    "an embedding table of another shape": (lambda m: m["language"]["embedding"].update(shape=[3, 64]), "has shape"),
    "no learned row": (language(learned=None), "no learned row"),
    "a missing input": (lambda m: graph(m, "decode")["inputs"].pop(), "has no input past_value"),
    "an unknown input": (
        lambda m: graph(m, "head")["inputs"].append(dict(graph(m, "head")["inputs"][0], name="x")),
        "x",
    ),
    "an unknown type": (lambda m: graph(m, "head")["inputs"][0].update(dtype="text"), "dtype"),
    "another vocabulary": (language(vocab=7), "expected [7, 64]"),
    "another K": (lambda m: m["selections"][0].update(keep=3), "visual as float32"),
    "a tower that is none": (lambda m: m["selections"][0].update(tower="nowhere"), "nowhere"),
    "the head as tower": (lambda m: m["selections"][0].update(tower="head"), "graph head"),
    "no budget": (lambda m: m.update(selections=[]), "no budget"),
    "a budget that nobody can ask for": (lambda m: m["selections"][0].update(budget="0.20"), "nobody can ask"),
    "a tile count left out": (
        lambda m: m.update(selections=[s for s in m["selections"] if s["tokens"] != 108]),
        "108 visual tokens",
    ),
    "another tile": (tile(px=47), "47"),
    "patches that do not merge": (tile(merge=5), "whole number of units"),
    "a deviation of nothing": (tile(std=[0.0, 1.0, 1.0]), "which no pixels have"),
    "a factor beyond all pixels": (tile(rescale=1e300), "which no pixels have"),
    "no such filter": (tile(resample=9), "0 to 5"),
    "a tile that fills the memory": (tile(px=2**31), "at most"),
    "canvases between tiles": (tiling(rule="anyres", pinpoints=[[50, 49]]), "whole number of tiles"),
    "a canvas that fills the memory": (
        tiling(rule="anyres", pinpoints=[[48 * 10**6, 48 * 10**6]]),
        "tiles of one picture",
    ),
    "canvases without end": (tiling(rule="ratio", least=1, most=10**9), "tiles of one picture"),
    "at least more than at most": (tiling(rule="ratio", least=9, most=3), "at least 9"),
    "another rule": (tiling(rule="split", longest_px=48), "at most 36"),
    "a text that fills the memory": (sequence(tile="{row:>999999999}"), "stand for something"),
    "a text that looks inside": (sequence(tile="{row.__class__}"), "stand for something"),
    "a text that is broken": (sequence(tile="{"), "stand for something"),
    "a long text": (sequence(before="a" * 5000), "characters"),
    "a hash that is none": (lambda m: m["files"].update(x={"sha256": "0", "bytes": 0}), "sha256"),
    "negative work": (lambda m: graph(m, "head")["work"].update(peak_bytes=-1), "peak_bytes"),
    "two graphs of one name": (lambda m: m["graphs"].append(graph(m, "head")), "two graphs of one name"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_a_manifest_that_cannot_be_is_refused_at_opening(bundle: Path, case: str) -> None:
    change, said = CONTENT[case]
    assert said in refusal(sealed_again(bundle, change))


@pytest.mark.parametrize(
    "command", [("run", "--prompt", "red"), ("inspect",), ("verify",), ("build", "--target", "rtx")]
)
def test_every_command_says_it_in_one_line(bundle: Path, command: tuple[str, ...]) -> None:
    sealed_again(bundle, CONTENT["another number of key/value heads"][0])
    name, *rest = command
    assert "does not hold together" in complaint(name, bundle, *rest)


def rewritten(folder: Path, name: str, change: Callable[[onnx.ModelProto], object]) -> Path:
    """A graph's file changed, and every hash made right."""
    model = onnx.load(str(folder / name), load_external_data=False)
    change(model)
    (folder / name).write_bytes(model.SerializeToString())
    return sealed_again(folder)


def first_size(value: onnx.ValueInfoProto, size: int) -> None:
    value.type.tensor_type.shape.dim[0].dim_value = size


def external(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        stored = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        entry = next(e for e in stored[0].external_data if e.key == key)
        entry.value = value

    return change


def other_dims(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL).dims[0] += 1


FILES: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "another shape": (lambda m: first_size(m.graph.input[0], 2), "expected float32 [1, 64]"),
    "a size without a number": (lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].Clear(), "[-1, 64]"),
    "another type": (lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 10), "logits as float16"),
    "another name": (lambda m: setattr(m.graph.output[0], "name", "x"), "has no output logits"),
    "an input more": (lambda m: m.graph.input.add(name="x"), "input x"),
    "an offset behind the end": (external("offset", str(2**40)), "reaches beyond"),
    "an offset that is no number": (external("offset", "-1"), "not an ONNX graph"),
    "a length of nothing": (external("length", "0"), "whose type and shape take"),
    "a length behind the end": (external("length", str(2**40)), "whose type and shape take"),
    "more rows than bytes": (other_dims, "whose type and shape take"),
    "texts as weights": (lambda m: setattr(m.graph.initializer[0], "data_type", 8), "None"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_graph_that_is_not_what_its_manifest_says_is_refused_at_opening(bundle: Path, case: str) -> None:
    change, said = FILES[case]
    assert said in refusal(rewritten(bundle, "head.onnx", change))


def test_a_graph_that_cannot_be_parsed_is_refused_at_opening(bundle: Path) -> None:
    (bundle / "head.onnx").write_bytes(b"\xff" * 64)
    assert "not an ONNX graph" in refusal(sealed_again(bundle))


def test_a_manifest_larger_than_any_is_not_read(bundle: Path) -> None:
    with (bundle / "manifest.json").open("r+b") as file:
        file.truncate(65 << 20)
    assert "larger than 64 MiB" in refusal(bundle)


def test_a_graph_that_fails_while_running_is_a_typed_error(bundle: Path) -> None:
    """A shape that only the run can find out to be wrong."""

    def outside(model: onnx.ModelProto) -> None:
        far = numpy_helper.from_array(np.full((1, 1), 10**9), "far")
        model.graph.initializer.append(far)
        node = next(n for n in model.graph.node if n.op_type == "RotaryEmbedding")
        node.input[3] = "far"

    rewritten(bundle, "decode.onnx", outside)
    with Model.open(bundle, threads=1) as model, pytest.raises(BundleError, match="failed in graph decode"):
        model.ask("red", max_tokens=3)


def test_kept_tokens_must_be_tokens_of_the_picture(tiny_bundle: Path) -> None:
    spec = read_manifest(tiny_bundle).picture
    picture = pack_picture(spec.place(*spec.largest), spec)
    kept = np.flatnonzero(picture.slot.reshape(-1) >= 0)
    kept = kept[np.argsort(picture.slot.reshape(-1)[kept])]
    picture.require_kept(kept, "g")
    padding = np.flatnonzero(picture.slot.reshape(-1) < 0)[:1]
    for wrong in (kept[::-1], kept[[0, 0]], np.asarray([-1]), np.asarray([picture.slot.size]), padding):
        if wrong.size:
            with pytest.raises(BundleError, match="do not use this bundle"):
                picture.require_kept(wrong, "g")


def with_capacity(manifest: Manifest, positions: int) -> Manifest:
    stages = tuple(msgspec.structs.replace(stage, capacity=positions) for stage in manifest.language.stages)
    return msgspec.structs.replace(manifest, language=msgspec.structs.replace(manifest.language, stages=stages))


def test_a_cache_that_memory_cannot_hold_is_told_before_it_is_allocated(tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    require_room(manifest, None)
    require_room(manifest, 1 << 30)
    with pytest.raises(BackendUnavailable, match=r"16777216 positions.*has 1.0 GiB of memory left"):
        require_room(with_capacity(manifest, 1 << 24), 1 << 30)


def test_memory_at_hand_is_the_least_of_what_is_free_and_what_a_container_may_have(tmp_path: Path) -> None:
    assert memory_at_hand(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4 kB\nSwapFree: 2 kB\n")
    assert memory_at_hand(tmp_path) == 6 * 1024
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert memory_at_hand(tmp_path) == 6 * 1024
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("5000\n")
    assert memory_at_hand(tmp_path) == 5000


def test_a_buffer_that_cannot_be_had_is_a_typed_error() -> None:
    from edgeprune_runtime.backends.host import HostMemory

    with pytest.raises(BackendUnavailable, match="no memory for a buffer"):
        HostMemory().zeros((1 << 40, 1 << 18), "float32")


def test_a_structure_file_of_another_form_is_a_bundle_error(bundle: Path) -> None:
    for content in (b"{}", b"\xff", b"[" * 100_000, b'{"parts": {"tower": {"blocks": 3}}}', struct.pack("<d", 1)):
        (bundle / "structure.json").write_bytes(content)
        sealed_again(bundle, lambda m: m["files"].update({"structure.json": {"sha256": "", "bytes": 0}}))
        assert "structure.json" in complaint("inspect", bundle)
