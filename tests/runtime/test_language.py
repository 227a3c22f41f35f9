"""Chunked prefill and decode over one cache equal one long pass, whatever the length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_runtime import Bundle
from edgeprune_runtime.backends import backend
from edgeprune_runtime.backends.host import HostMemory
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.spec import GraphSpec
from tests.exports import CHUNK

LENGTHS = (1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3)


@pytest.fixture(scope="module")
def language(tiny_bundle: Path) -> LanguageModel:
    return LanguageModel(Bundle.open(tiny_bundle, verify=False), backend(threads=1))


def tokens(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(7, 120, count)


def positions(count: int, jump: int = 0) -> np.ndarray:
    """[1, count]: contiguous, or with a jump in the middle, as kept visual tokens have."""
    return (np.arange(count) + jump * (np.arange(count) >= count // 2))[None]


def whole(language: LanguageModel, ids: np.ndarray, jump: int = 0) -> np.ndarray:
    return language.prefill(language.embed(ids), positions(len(ids), jump)).copy()


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("jump", [0, 40])
def test_prefill_and_decode_equal_one_long_prefill(language: LanguageModel, length: int, jump: int) -> None:
    ids, where = tokens(length + 4), positions(length + 4, jump)
    language.prefill(language.embed(ids[:length]), where[:, :length])
    for end in range(length, len(ids)):
        stepped = language.step(int(ids[end]), int(where[0, end])).copy()
        assert language.length == end + 1
    close(stepped, whole(language, ids, jump))


@pytest.mark.parametrize("length", LENGTHS)
def test_prefill_equals_decoding_token_by_token(language: LanguageModel, length: int) -> None:
    ids = tokens(length, seed=1)
    stepped = language.prefill(language.embed(ids[:1]), positions(1)).copy()
    for at in range(1, length):
        stepped = language.step(int(ids[at]), at).copy()
    close(whole(language, ids), stepped)


def test_a_sequence_may_fill_the_whole_capacity(language: LanguageModel, tiny_bundle: Path) -> None:
    capacity = Bundle.open(tiny_bundle, verify=False).manifest.language.capacity
    ids = tokens(capacity)
    language.prefill(language.embed(ids[:-1]), positions(capacity - 1))
    close(language.step(int(ids[-1]), capacity - 1).copy(), whole(language, ids))


def test_nothing_of_an_earlier_sequence_is_left(language: LanguageModel) -> None:
    fresh = whole(language, tokens(5))
    whole(language, tokens(3 * CHUNK, seed=9))
    assert np.array_equal(whole(language, tokens(5)), fresh)


def test_positions_matter(language: LanguageModel) -> None:
    """Distances between tokens count, a common shift does not."""
    ids = tokens(20)
    assert np.abs(whole(language, ids) - whole(language, ids, jump=30)).max() > 1e-2
    shifted = language.prefill(language.embed(ids), positions(20) + 50)
    close(shifted, whole(language, ids))


def test_later_rows_of_a_chunk_change_nothing(language: LanguageModel) -> None:
    """Rows beyond the prompt hold whatever the last run left there."""
    ids = tokens(CHUNK, seed=3)
    whole(language, ids)
    first = whole(language, ids[:7])
    whole(language, tokens(CHUNK, seed=4))
    assert np.array_equal(whole(language, ids[:7]), first)


@dataclass
class Recording(HostMemory):
    """A backend that executes nothing and remembers what it was given."""

    name: str = "recording"
    bound: dict[str, list[Mapping[str, np.ndarray]]] = field(default_factory=dict)
    runs: list[tuple[str, dict[str, int]]] = field(default_factory=list)

    def why_unavailable(self, root: Path | None = None) -> str | None:
        return None

    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> Any:
        recording, calls = self, self.bound.setdefault(graph.name, [])

        class Session:
            def dtype(self, name: str) -> str:
                return "float32"

            def bind(self, buffers: Mapping[str, np.ndarray]) -> None:
                assert set(buffers) <= {spec.name for spec in (*graph.inputs, *graph.outputs)}
                calls.append(dict(buffers))

            def run(self) -> None:
                scalars = {name: int(a.flat[0]) for name, a in calls[-1].items() if a.size == 1 and name != "hidden"}
                recording.runs.append((graph.name, scalars))

        return Session()


def test_the_cache_is_bound_once_and_past_and_present_are_the_same_memory(tiny_bundle: Path) -> None:
    bundle, engine = Bundle.open(tiny_bundle, verify=False), Recording()
    language = LanguageModel(bundle, engine)
    language.prefill(language.embed(tokens(2 * CHUNK + 3)), positions(2 * CHUNK + 3))
    for step in range(5):
        language.step(9, 100 + step)
    assert {name: len(calls) for name, calls in engine.bound.items()} == {"prefill": 1, "decode": 1, "head": 1}
    (prefill,), (decode,) = engine.bound["prefill"], engine.bound["decode"]
    for i in range(bundle.manifest.language.layers):
        for kind in ("key", "value"):
            past = prefill[f"past_{kind}_{i}"]
            assert past is prefill[f"present_{kind}_{i}"]
            assert past is decode[f"past_{kind}_{i}"] and past is decode[f"present_{kind}_{i}"]
    spec = bundle.manifest.language
    assert language.cache_bytes == 2 * sum(spec.kv_heads) * spec.capacity * spec.head_dim * 4


def test_chunks_are_written_one_after_the_other_and_the_head_runs_once(tiny_bundle: Path) -> None:
    engine = Recording()
    language = LanguageModel(Bundle.open(tiny_bundle, verify=False), engine)
    language.prefill(language.embed(tokens(2 * CHUNK + 3)), positions(2 * CHUNK + 3))
    language.step(9, 300)
    blocks = [(name, run["row"], run["last_index"], run["total"]) for name, run in engine.runs if name != "head"]
    length = 2 * CHUNK + 3
    assert blocks == [
        ("prefill", CHUNK - 1, CHUNK - 1, CHUNK),
        ("prefill", CHUNK - 1, 2 * CHUNK - 1, 2 * CHUNK),
        ("prefill", 2, 3 * CHUNK - 1, 3 * CHUNK),
        ("decode", 0, length, length + 1),
    ]
    assert [name for name, _ in engine.runs] == ["prefill", "prefill", "prefill", "head", "decode", "head"]


def test_embedding_rows_come_from_the_weights_file(language: LanguageModel, tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle, verify=False)
    table = np.asarray(bundle.tensor(bundle.manifest.language.embedding), np.float32)
    assert np.array_equal(language.embed([5, 3, 5]), table[[5, 3, 5]])
    assert language.embed([]).shape == (0, bundle.manifest.language.hidden)
