"""A language model cut into stages of layers gives the logits of the one that is not cut."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from edgeprune.models import inverse_frequencies, open_checkpoint
from edgeprune_export.graphs.decoder import block_graph, head_graph, rotary_tables, store_decoder
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime import Bundle
from edgeprune_runtime.backends import backend
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.spec import LanguageSpec, StageSpec, TensorRef
from tests.checkpoints import tiny_checkpoint

LAYERS, CHUNK, CAPACITY = 4, 8, 40
WEIGHTS = "weights.bin"
#: Layers where a stage begins.
CUTS = ((0,), (0, 1), (0, 3), (0, 1, 2), (0, 1, 2, 3))
Cut = tuple[int, ...]


def stages_of(cut: Cut, larger: int = 0) -> tuple[StageSpec, ...]:
    """larger: positions that each further stage's cache has more than the one before."""
    behind = (*cut[1:], LAYERS)
    return tuple(
        StageSpec(first, end, CAPACITY + number * larger, f"prefill-{number}", f"decode-{number}")
        for number, (first, end) in enumerate(zip(cut, behind, strict=True))
    )


def bundle_of(folder: Path, stages: tuple[StageSpec, ...], sealed: Path, decoder: str = "qwen2") -> Bundle:
    """A folder with the language model alone, and a manifest by hand, the rest of it that of any sealed bundle."""
    checkpoint = open_checkpoint(tiny_checkpoint(layers=LAYERS, decoder=decoder))
    spec, read = checkpoint.spec.language, checkpoint.weights.blocks
    folder.mkdir()
    with WeightsWriter(folder / WEIGHTS) as writer:
        list(store_decoder(writer, read, spec, "fp32", "float32"))
        cos, sin = rotary_tables(*inverse_frequencies(spec.rope, spec.head_dim), 200)
        writer.add("rotary.cos", [cos])
        writer.add("rotary.sin", [sin])
    graphs = [head_graph(spec, writer, WEIGHTS)]
    for stage in stages:
        for name, rows in ((stage.prefill, CHUNK), (stage.decode, 1)):
            layers = stage.first, stage.behind
            graphs.append(block_graph(name, spec, writer, WEIGHTS, rows=rows, capacity=stage.capacity, layers=layers))
    for graph in graphs:
        onnx.save(graph.model(), folder / f"{graph.name}.onnx")
    table = writer["embed.weight"]
    language = LanguageSpec(
        hidden=spec.hidden,
        layers=spec.layers,
        kv_heads=tuple(spec.at(i).kv_heads for i in range(spec.layers)),
        head_dim=spec.head_dim,
        vocab=spec.vocab,
        stages=stages,
        chunk=CHUNK,
        image_token_id=checkpoint.spec.image_token_id,
        eos_token_ids=checkpoint.spec.eos_token_ids,
        embedding=TensorRef("float32", table.shape, table.offset),
        positions=200,
    )
    manifest = Bundle.open(sealed, verify=False).manifest
    specs = tuple(graph.spec(f"{graph.name}.onnx") for graph in graphs)
    return Bundle(folder, msgspec.structs.replace(manifest, language=language, graphs=specs, weights_file=WEIGHTS))


Opened = Callable[..., LanguageModel]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Opened:
    """The language model that is cut so, opened once."""
    root = tmp_path_factory.mktemp("stages")

    @functools.cache
    def open_it(cut: Cut, larger: int = 0, decoder: str = "qwen2") -> LanguageModel:
        name = f"{decoder}-{'-'.join(map(str, cut))}-{larger}"
        return LanguageModel(bundle_of(root / name, stages_of(cut, larger), tiny_bundle, decoder), backend(threads=1))

    return open_it


def logits(language: LanguageModel, length: int, steps: int = 3) -> np.ndarray:
    """[1 + steps, V] of a prompt with a gap in its positions, and of the tokens that follow it."""
    ids = np.random.default_rng(length).integers(7, 120, length + steps)
    where = np.arange(length + steps) + 30 * (np.arange(length + steps) > length // 2)
    rows = [language.prefill(language.embed(ids[:length]), where[None, :length]).copy()]
    rows += [language.step(int(ids[at]), int(where[at])).copy() for at in range(length, length + steps)]
    return np.stack(rows)


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("cut", CUTS[1:])
@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, 3 * CHUNK + 2])
def test_stages_give_the_logits_of_the_whole(opened: Opened, cut: Cut, length: int) -> None:
    close(logits(opened(cut), length), logits(opened(CUTS[0]), length))


@pytest.mark.parametrize("decoder", ["llama", "qwen3"])
def test_stages_of_other_decoders_give_the_logits_of_the_whole(opened: Opened, decoder: str) -> None:
    close(logits(opened((0, 2), 0, decoder), 19), logits(opened((0,), 0, decoder), 19))


def test_every_stage_has_a_cache_of_its_own_capacity(opened: Opened) -> None:
    """A longer cache in later stages changes no logit; a request may fill the shortest."""
    same, longer = opened((0, 2)), opened((0, 2), 24)
    assert longer.cache_bytes > same.cache_bytes
    close(logits(longer, CAPACITY - 3), logits(same, CAPACITY - 3))


def test_nothing_of_an_earlier_sequence_is_left_in_any_stage(opened: Opened) -> None:
    language = opened((0, 1, 2))
    fresh = logits(language, 5)
    logits(language, 3 * CHUNK + 2)
    assert np.array_equal(logits(language, 5), fresh)


def test_a_stage_names_its_layers_and_only_the_last_one_a_row(tmp_path: Path, tiny_bundle: Path) -> None:
    bundle = bundle_of(tmp_path / "two", stages_of((0, 3)), tiny_bundle)
    inputs = {graph.name: [spec.name for spec in graph.inputs] for graph in bundle.manifest.graphs}
    for kind in ("prefill", "decode"):
        assert [f"past_key_{i}" in inputs[f"{kind}-0"] for i in range(4)] == [True, True, True, False]
        assert [f"past_key_{i}" in inputs[f"{kind}-1"] for i in range(4)] == [False, False, False, True]
        assert ("row" in inputs[f"{kind}-0"], "row" in inputs[f"{kind}-1"]) == (False, True)
    rows = {graph.name: graph.outputs[-1].shape[0] for graph in bundle.manifest.graphs if graph.name != "head"}
    assert rows == {"prefill-0": CHUNK, "decode-0": 1, "prefill-1": 1, "decode-1": 1}
    assert bundle.manifest.language.capacity == CAPACITY
    assert bundle.manifest.language.graphs == ("prefill-0", "decode-0", "prefill-1", "decode-1", "head")
