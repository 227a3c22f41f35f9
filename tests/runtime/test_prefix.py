"""A prompt that begins like the one before starts behind it, and its logits are those of a fresh run to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_runtime import Bundle
from edgeprune_runtime.backends import backend
from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.prompting.prefix import PromptPrefix
from edgeprune_runtime.stages.chain import Chain
from tests.exports import CHUNK, QWEN_GRIDS, exported

ROOM: dict[str, Any] = {"pictures": 2, "text_tokens": 160, "parity": False, "more_methods": ["cdpruner"]}
#: Float products, separators and a learned row; int8 products, one scale for all rows of a chunk; rows that leave inside the
#: language model, or come back there; three axes and rows behind layers.
BUNDLES: dict[str, Callable[[], Path]] = {
    "fp32": lambda: exported(**ROOM),
    "int8": lambda: exported(precision="int8", **ROOM),
    "leaving": lambda: exported({"layers": 4}, **ROOM, inside=["transprune@1,2:0.5,0.25"]),
    "coming back": lambda: exported({"layers": 4}, **ROOM, inside=["lvlm-csp@0,1,2:0.25,1,0.1"]),
    "int8, leaving": lambda: exported({"layers": 4}, precision="int8", **ROOM, inside=["pdrop@1,2:0.5,0.25"]),
    "deepstack": lambda: exported(QWEN_GRIDS[2][0], **(QWEN_GRIDS[2][1] | ROOM)),
}
STEPS = 3
LENGTHS = (1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5)


def opened(name: str, *, reuse: bool = True) -> LanguageModel:
    return LanguageModel(Bundle.open(BUNDLES[name](), verify=False), backend(threads=1), reuse=reuse)


@pytest.fixture(scope="module", params=BUNDLES)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[LanguageModel, LanguageModel]]:
    """The same bundle twice: one model that starts behind what it has, one that is made to compute everything."""
    yield opened(request.param), opened(request.param, reuse=False)


@pytest.fixture
def language() -> LanguageModel:
    return opened("fp32")


def rows(language: LanguageModel, count: int, seed: int = 0) -> np.ndarray:
    """[count, row width]; where rows enter behind layers, so do these."""
    spec = language._spec
    return np.random.default_rng(seed).standard_normal((count, spec.row_width), np.float32)


def places(language: LanguageModel, count: int, jump: int = 0) -> np.ndarray:
    """[axes, count], with a jump in the middle, as kept visual tokens have."""
    line = np.arange(count) + jump * (np.arange(count) >= count // 2)
    return np.stack([line + axis for axis in range(language._spec.axes)])


def logits_of(language: LanguageModel, embeds: np.ndarray, positions: np.ndarray) -> list[bytes]:
    """Of the prompt and of a few steps after it."""
    found = [language.prefill(embeds, positions).tobytes()]
    for step in range(STEPS):
        found.append(language.step(9 + step, int(positions.max()) + 1 + step).tobytes())
    return found


def whole_chunks(count: int) -> int:
    return count // CHUNK * CHUNK


@pytest.mark.parametrize("common", (0, *LENGTHS))
@pytest.mark.parametrize("more", [1, CHUNK - 3, CHUNK + 2])
def test_a_prompt_starts_behind_the_whole_chunks_that_it_shares_with_the_last(
    pair: tuple[LanguageModel, LanguageModel], common: int, more: int
) -> None:
    ours, fresh = pair
    first = rows(ours, common + CHUNK, seed=1)
    second = np.concatenate([first[:common], rows(ours, more, seed=2)])
    where = places(ours, len(second))
    logits_of(ours, first, places(ours, len(first)))
    assert logits_of(ours, second, where) == logits_of(fresh, second, where)
    assert ours.reused == whole_chunks(common) and fresh.reused == 0


@pytest.mark.parametrize("length", LENGTHS)
def test_a_prompt_that_is_asked_again_runs_its_last_rows_only(
    pair: tuple[LanguageModel, LanguageModel], length: int
) -> None:
    ours, fresh = pair
    embeds, where = rows(ours, length), places(ours, length, jump=30)
    expected = logits_of(fresh, embeds, where)
    for _ in range(3):
        assert logits_of(ours, embeds.copy(), where.copy()) == expected
    assert ours.reused == whole_chunks(length - 1)


@pytest.mark.parametrize("first", [40, 2 * CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("second", [1, CHUNK, 2 * CHUNK + 1, 3 * CHUNK])
def test_prompts_may_become_shorter_and_longer(
    pair: tuple[LanguageModel, LanguageModel], first: int, second: int
) -> None:
    ours, fresh = pair
    embeds = rows(ours, max(first, second))
    for length in (first, second, first):
        where = places(ours, length)
        assert logits_of(ours, embeds[:length], where) == logits_of(fresh, embeds[:length], where)


def test_what_an_earlier_prompt_left_in_a_chunk_decides_nothing(
    pair: tuple[LanguageModel, LanguageModel],
) -> None:
    """int8 products choose one scale for all rows of a chunk, those beyond the prompt included."""
    _, fresh = pair
    embeds, where = rows(fresh, 7), places(fresh, 7)
    first = logits_of(fresh, embeds, where)
    for scale in (100, 1e-3):
        logits_of(fresh, rows(fresh, 2 * CHUNK, seed=3) * np.float32(scale), places(fresh, 2 * CHUNK))
        assert logits_of(fresh, embeds, where) == first


def test_equal_rows_at_other_positions_are_other_rows(language: LanguageModel) -> None:
    embeds = rows(language, 3 * CHUNK)
    language.prefill(embeds, places(language, 3 * CHUNK))
    moved = places(language, 3 * CHUNK)
    moved[:, CHUNK + 4 :] += 10  # as with another budget, or another policy of positions
    found = logits_of(language, embeds, moved)
    assert language.reused == CHUNK
    assert found == logits_of(opened("fp32"), embeds, moved)


def test_tokens_that_were_decoded_are_computed_again_as_part_of_the_next_prompt(
    pair: tuple[LanguageModel, LanguageModel],
) -> None:
    """A fresh run would compute them in chunks, whose sums are rounded otherwise."""
    ours, fresh = pair
    length, said = CHUNK + 5, [int(n) for n in np.random.default_rng(3).integers(7, 90, CHUNK)]
    start = rows(ours, length)
    ours.prefill(start, places(ours, length))
    for number, token in enumerate(said):
        ours.step(token, length + number)
    width = ours._spec.row_width - ours._spec.hidden
    answer = np.pad(ours.embed(said), ((0, 0), (0, width)))
    dialogue = np.concatenate([start, answer, rows(ours, 6, seed=5)])
    where = places(ours, len(dialogue))
    assert logits_of(ours, dialogue, where) == logits_of(fresh, dialogue, where)
    assert ours.reused == CHUNK


def broken_run(at: int, error: BaseException) -> Callable[..., None]:
    """`Chain.run` that fails when rows from `at` on are due."""
    real = Chain.run

    def run(self: Chain, embeds: np.ndarray, positions: np.ndarray, start: int) -> None:
        if start >= at:
            raise error
        real(self, embeds, positions, start)

    return run


@pytest.mark.parametrize("error", [RequestError("no memory"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("kept", [True, False], ids=["shared prefix", "other prompt"])
def test_a_prompt_that_fails_halfway_leaves_nothing_to_start_behind(
    language: LanguageModel, monkeypatch: pytest.MonkeyPatch, error: BaseException, kept: bool
) -> None:
    length = 3 * CHUNK
    embeds, where = rows(language, length), places(language, length)
    expected = logits_of(language, embeds, where)
    other = np.concatenate([embeds[: CHUNK if kept else 0], rows(language, length, seed=8)])[:length]
    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(Chain, "run", broken_run(2 * CHUNK, error))
        language.prefill(other, where)
    assert logits_of(language, embeds, where) == expected
    assert language.reused == 0


def test_a_step_that_fails_leaves_nothing_to_start_behind(
    language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeds, where = rows(language, 2 * CHUNK), places(language, 2 * CHUNK)
    language.prefill(embeds, where)
    with monkeypatch.context() as patched, pytest.raises(RequestError):
        patched.setattr(Chain, "run", broken_run(0, RequestError("no memory")))
        language.step(9, 70)
    language.prefill(embeds, where)
    assert language.reused == 0


def test_a_cache_that_was_cleared_is_not_started_behind(language: LanguageModel) -> None:
    embeds, where = rows(language, 3 * CHUNK), places(language, 3 * CHUNK)
    expected = logits_of(language, embeds, where)
    spoilt = embeds.copy()
    spoilt[-1] = np.nan
    with pytest.raises(RequestError, match="no longer finite"):
        language.prefill(spoilt, where)
    assert logits_of(language, embeds, where) == expected
    assert language.reused == 0


def test_rows_that_were_overwritten_do_not_count(language: LanguageModel) -> None:
    """A step may be taken from any length, as where decoding is measured alone."""
    embeds, where = rows(language, 3 * CHUNK), places(language, 3 * CHUNK)
    expected = logits_of(language, embeds, where)
    language._lists.lengths = [CHUNK + 3]
    language.step(9, CHUNK + 3)
    assert logits_of(language, embeds, where) == expected
    assert language.reused == CHUNK


def test_one_prompt_is_remembered_by_its_rows_and_no_more(language: LanguageModel) -> None:
    assert language.kept_bytes == 0
    for length in (3 * CHUNK, 5):
        embeds, where = rows(language, length), places(language, length)
        language.prefill(embeds, where)
        assert language.kept_bytes == embeds.nbytes + where.nbytes
    language.forget()
    assert language.kept_bytes == 0
    fresh = opened("fp32", reuse=False)
    fresh.prefill(rows(fresh, 3 * CHUNK), places(fresh, 3 * CHUNK))
    assert fresh.kept_bytes == 0


def test_what_was_forgotten_is_computed_again(language: LanguageModel) -> None:
    embeds, where = rows(language, 3 * CHUNK), places(language, 3 * CHUNK)
    language.prefill(embeds, where)
    language.forget()
    language.prefill(embeds, where)
    assert language.reused == 0


def test_two_models_of_one_bundle_know_nothing_of_each_other(language: LanguageModel) -> None:
    other = opened("fp32")
    embeds, where = rows(language, 3 * CHUNK), places(language, 3 * CHUNK)
    expected = logits_of(language, embeds, where)
    assert logits_of(other, embeds, where) == expected and other.reused == 0
    logits_of(other, rows(language, 3 * CHUNK, seed=4), where)
    assert logits_of(language, embeds, where) == expected and language.reused == 2 * CHUNK


def held(count: int, width: int = 4) -> tuple[PromptPrefix, np.ndarray, np.ndarray]:
    prefix = PromptPrefix(CHUNK)
    embeds, where = np.zeros((count, width), np.float32), np.arange(count)[None]
    prefix.hold(embeds, where)
    return prefix, embeds.copy(), where


def test_only_the_same_bits_are_the_same_rows() -> None:
    prefix, embeds, where = held(3 * CHUNK)
    assert prefix.shared(embeds, where) == 2 * CHUNK
    embeds[CHUNK, 0] = -0.0
    assert prefix.shared(embeds, where) == CHUNK
    embeds[0, 3] = np.finfo(np.float32).smallest_subnormal
    assert prefix.shared(embeds, where) == 0


@pytest.mark.parametrize(
    ("embeds", "positions"),
    [((3 * CHUNK, 5), (1, 3 * CHUNK)), ((3 * CHUNK, 4), (3, 3 * CHUNK))],
    ids=["row width", "axes"],
)
def test_rows_of_another_shape_share_nothing(embeds: Sequence[int], positions: Sequence[int]) -> None:
    prefix, *_ = held(3 * CHUNK)
    where: Any = np.broadcast_to(np.arange(3 * CHUNK), positions)
    assert prefix.shared(np.zeros(embeds, np.float32), where[:, : embeds[0]]) == 0


def test_a_prompt_of_one_row_and_one_of_none_share_nothing() -> None:
    prefix, embeds, where = held(3 * CHUNK)
    for count in (0, 1):
        assert prefix.shared(embeds[:count], where[:, :count]) == 0
