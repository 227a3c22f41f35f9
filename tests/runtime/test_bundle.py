"""A bundle is read whole and unharmed, or refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.bundle import contained
from edgeprune_runtime.errors import BundleError, EdgepruneError
from edgeprune_runtime.spec import SCHEMA, TensorRef
from tests.exports import edit_manifest, own_bundle, resealed

#: A file that a hostile manifest describes rightly: only the rule about paths can refuse it.
SECRET = {"sha256": hashlib.sha256(b"secret").hexdigest(), "bytes": 6}
OUTSIDE = ("../outside.bin", "a/../../outside.bin", "/etc/hostname", "", "C:weights.bin", "..", "a\\b", "a" * 5000)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return own_bundle(tiny_bundle, tmp_path)


def refusal(folder: Path, *, verify: bool = True) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder, verify=verify)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message, "says what was found and what to do"
    return message


def sealed_files(folder: Path) -> list[str]:
    return sorted(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"])


def test_everything_in_the_folder_is_sealed(tiny_bundle: Path) -> None:
    on_disk = {path.relative_to(tiny_bundle).as_posix() for path in tiny_bundle.rglob("*") if path.is_file()}
    assert on_disk == {*sealed_files(tiny_bundle), "manifest.json", "manifest.sha256"}


def test_a_flipped_byte_in_any_file_is_found(bundle: Path) -> None:
    for name in sealed_files(bundle):
        path = bundle / name
        data = path.read_bytes()
        for at in {0, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            message = refusal(bundle)
            assert name in message and "corrupt" in message
        path.write_bytes(data)
    Bundle.open(bundle)


def test_a_file_cut_short_is_found_even_without_hashing(bundle: Path) -> None:
    for name in sealed_files(bundle):
        path = bundle / name
        data = path.read_bytes()
        for part in (data[:-1], data[: len(data) // 2], b"", data + b"\0"):
            path.write_bytes(part)
            assert name in refusal(bundle, verify=False)
        path.write_bytes(data)
    Bundle.open(bundle, verify=False)


def test_a_missing_file_is_named(bundle: Path) -> None:
    for name in sealed_files(bundle):
        path = bundle / name
        path.rename(bundle / "elsewhere")
        assert f"{name} is missing" in refusal(bundle)
        (bundle / "elsewhere").rename(path)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_out_of_the_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "outside.bin").write_bytes(b"secret")
    (bundle / "a").mkdir()
    resealed(bundle, lambda m: m["files"].update({name: SECRET}))
    assert any(part in refusal(bundle) for part in ("not inside the bundle", "not a plain file inside", "is missing"))


def test_a_link_out_of_the_bundle_is_refused(bundle: Path) -> None:
    outside = bundle.parent / "outside.bin"
    (bundle / "weights.bin").rename(outside)
    (bundle / "weights.bin").symlink_to(outside)
    assert "not a plain file inside it" in refusal(bundle)


def test_a_folder_linked_out_of_the_bundle_is_refused(bundle: Path) -> None:
    away = bundle.parent / "away"
    away.mkdir()
    (away / "part.bin").write_bytes(b"secret")
    (bundle / "inner").symlink_to(away)
    resealed(bundle, lambda m: m["files"].update({"inner/part.bin": SECRET}))
    assert "not a plain file inside it" in refusal(bundle)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: os.mkfifo(path)], ids=["folder", "pipe"])
def test_something_that_is_no_file_is_refused_and_not_waited_for(bundle: Path, make: Callable[[Path], None]) -> None:
    (bundle / "head.onnx").unlink()
    make(bundle / "head.onnx")
    assert "not a plain file" in refusal(bundle)


def test_graphs_and_weights_must_lie_inside_even_when_a_name_is_not_sealed(bundle: Path) -> None:
    resealed(bundle, lambda m: m.update(weights_file="../outside.bin"))
    assert "../outside.bin" in refusal(bundle)


def test_a_link_to_the_bundle_itself_is_fine(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny_bundle)
    assert Bundle.open(tmp_path / "link").sha256 == Bundle.open(tiny_bundle).sha256


def test_a_folder_without_manifest_is_not_a_bundle(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    assert "edgeprune export" in refusal(bundle)
    refusal(bundle / "weights.bin")
    refusal(bundle / "nowhere")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '{"schema": "1"}', '{"schema": true}', '{"schema": 1.0}', "{}", "\xff", "[" * 100_000],
)
def test_a_manifest_that_says_nothing_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text, encoding="latin-1")
    refusal(bundle)


def test_a_newer_schema_asks_for_an_upgrade(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m.update(schema=SCHEMA + 1, something_new=1))
    message = refusal(bundle)
    assert f"schema {SCHEMA + 1}" in message and "upgrade" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(extra=1),
        lambda m: m.pop("plan"),
        lambda m: m["language"].update(capacity="many"),
        lambda m: m["graphs"][0]["inputs"][0].update(shape=["batch", 3, 48, 48]),
        lambda m: m.update(precision="fp7"),
    ],
)
def test_a_manifest_of_another_form_is_refused(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit_manifest(bundle, change)
    refusal(bundle)


@pytest.mark.parametrize("graph", ["tower", "prefill", "decode", "head", "select-hired-k36"])
def test_a_graph_that_the_manifest_needs_must_be_in_it(bundle: Path, graph: str) -> None:
    resealed(bundle, lambda m: m.update(graphs=[g for g in m["graphs"] if g["name"] != graph]))
    assert graph in refusal(bundle)


def test_an_unknown_graph_is_a_bundle_error(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no graph 'encoder'; it has tower"):
        Bundle.open(tiny_bundle).graph("encoder")


@pytest.mark.parametrize("offset", [-4096, 1 << 40])
def test_a_tensor_beyond_the_weights_file_is_refused(tiny_bundle: Path, offset: int) -> None:
    with pytest.raises(BundleError, match="beyond its weights file"):
        Bundle.open(tiny_bundle).tensor(TensorRef("float32", (4,), offset))


def test_tensors_are_mapped_and_read_only(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    table = bundle.tensor(bundle.manifest.language.embedding)
    assert table.shape == (bundle.manifest.language.vocab, bundle.manifest.language.hidden)
    with pytest.raises(ValueError):
        table[0, 0] = 1
    base: Any = table
    while not isinstance(base, np.memmap):
        base = base.base
    assert np.isfinite(table).all() and table.std() > 0


def damaged_manifests(data: bytes) -> Iterator[bytes]:
    """One flipped bit at each of many places, the same on every run."""
    places = random.Random(0)
    for _ in range(80):
        at, bit = places.randrange(len(data)), 1 << places.randrange(7)
        yield data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def test_a_flipped_bit_in_the_manifest_is_refused(bundle: Path) -> None:
    path = bundle / "manifest.json"
    data = path.read_bytes()
    accepted = []
    for damaged in damaged_manifests(data):
        path.write_bytes(damaged)
        try:
            Bundle.open(bundle)
        except BundleError:
            continue
        accepted.append(next(i for i, (a, b) in enumerate(zip(damaged, data, strict=True)) if a != b))
    assert not accepted, [data[max(0, i - 30) : i + 10] for i in accepted[:5]]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["language"]["stages"][0].update(capacity=m["language"]["stages"][0]["capacity"] + 32),
        lambda m: m["language"].update(chunk=16),
        lambda m: m["language"].update(layers=1),
        lambda m: m["language"].update(kv_heads=[4, 4]),
        lambda m: m["language"].update(hidden=32),
        lambda m: m["language"].update(vocab=7),
        lambda m: m["language"]["embedding"].update(shape=[5, 64]),
        lambda m: m["language"]["embedding"].update(shape=[-1, 64]),
        lambda m: m["language"]["stages"][0].update(behind=1),
        lambda m: m["language"].update(stages=[]),
        lambda m: m["language"].update(axes=3),
        lambda m: m["picture"]["tile"].update(patches=5),
        lambda m: m["picture"]["tile"].update(px=0),
        lambda m: m["picture"]["tile"].update(merge=2),
        lambda m: m["picture"]["tiling"].update(pinpoints=[]),
        lambda m: m["picture"]["tiling"].update(rule="single"),
        lambda m: m["graphs"][0]["outputs"][0].update(shape=[1, 2, 7]),
        lambda m: m["graphs"][0]["outputs"].pop(),
        lambda m: m["graphs"][0]["outputs"].pop(0),
        lambda m: m.update(selections=[]),
        lambda m: m["graphs"][0]["inputs"][0].update(shape=[1, 3, 47, 48]),
        lambda m: m["graphs"][0].update(file="head.onnx"),
        lambda m: m["graphs"][0].update(file="tokenizer.json"),
    ],
)
def test_a_manifest_that_does_not_fit_its_graphs_is_a_typed_error(
    bundle: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    """Whoever edits a manifest gets an EdgepruneError, when the bundle is opened or at the latest when it is asked."""
    edit_manifest(bundle, change)
    with pytest.raises(EdgepruneError), Model.open(bundle, threads=1) as model:
        model.ask("what is this?", image=np.zeros((40, 90, 3), np.uint8), max_tokens=2)


@pytest.mark.parametrize("name", ["x.bin", "deep/er/x.bin"])
def test_a_plain_file_inside_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"1")
    assert contained(tmp_path, name) == path
