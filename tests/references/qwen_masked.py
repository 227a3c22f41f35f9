"""Qwen-VL with visual tokens left out, in two ways that are the same: hidden from everybody as keys, and not there at all.

states[i] is what enters decoder layer i, the rows that Qwen3-VL adds behind layer i - 1 included; the last one enters the
final norm. (transformers' own hidden_states are taken at other places.) `kept` names, per picture, the tokens that stay, by
their index row by row; positions are those of the whole prompt unless others are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.references.qwen_generate import library_positions, picture_rows, qwen_model
from tests.references.qwen_positions import kept_rows

Kept = Sequence[Sequence[int]]
Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Run:
    """Of one forward pass: states, L + 1 of [S, D], and logits [S, V]."""

    states: list[NDArray[np.float32]]
    logits: NDArray[np.float32]


def whole_run(folder: Path, inputs: Inputs, positions: NDArray[np.int64] | None = None) -> Run:
    """The library's own forward pass; with `positions` [3, S], those instead of its own."""
    model = qwen_model(folder)
    given = {} if positions is None else {"position_ids": torch.tensor(positions)[:, None]}
    with torch.no_grad(), _entering(model) as states:
        logits = model(**inputs, **given, use_cache=False).logits
    return Run(states, logits[0].numpy())


def masked_run(folder: Path, inputs: Inputs, kept: Kept) -> Run:
    """The whole prompt with dropped tokens masked as keys for every query. Only kept rows come back."""
    rows, (positions, _) = rows_of(folder, inputs, kept), library_positions(folder, inputs)
    mask = torch.zeros_like(inputs["attention_mask"])
    mask[0, rows] = 1
    run = whole_run(folder, {**inputs, "attention_mask": mask}, positions)
    return Run([state[rows] for state in run.states], run.logits[rows])


def packed_run(
    folder: Path,
    inputs: Inputs,
    kept: Kept,
    *,
    positions: NDArray[np.int64] | None = None,
    late_rows: bool = True,
    said: Sequence[int] = (),
    following: int | None = None,
) -> Run:
    """The library's decoder on the kept rows alone, followed by those of the answer so far (`said`).

    `positions` [3, S'] replace those of the whole prompt, and `following` that of the first row of the answer; without
    `late_rows`, nothing enters behind the early layers.
    """
    model, rows = qwen_model(folder), rows_of(folder, inputs, kept)
    whole, behind = library_positions(folder, inputs)
    first = behind if following is None else following
    ids = torch.cat([inputs["input_ids"][0, rows], torch.tensor(list(said), dtype=torch.long)])
    visual = ids.eq(model.config.image_token_id)
    visual[len(rows) :] = False
    tokens, late = picture_rows(folder, inputs)
    answer = np.tile(np.arange(first, first + len(said)), (3, 1))
    at = np.concatenate([whole[:, rows] if positions is None else positions, answer], axis=1)
    more: dict[str, Any] = {}
    if late and late_rows:
        more = {"visual_pos_masks": visual[None], "deepstack_visual_embeds": [_kept(layer, kept) for layer in late]}
    with torch.no_grad(), _entering(model) as states:
        embedded = model.get_input_embeddings()(ids)
        embedded[visual] = _kept(tokens, kept)
        out = model.model.language_model(
            inputs_embeds=embedded[None], position_ids=torch.tensor(at)[:, None], use_cache=False, **more
        )
        logits = model.lm_head(out.last_hidden_state)
    return Run(states, logits[0].numpy())


def packed_answer(
    folder: Path, inputs: Inputs, kept: Kept, *, max_new_tokens: int = 8, following: int | None = None
) -> list[int]:
    """The greedy answer to what is left of the prompt, everything computed anew for each token."""
    stops = qwen_model(folder).generation_config.eos_token_id
    said: list[int] = []
    while len(said) < max_new_tokens and not (said and said[-1] in stops):
        said.append(int(packed_run(folder, inputs, kept, said=said, following=following).logits[-1].argmax()))
    return said


def rows_of(folder: Path, inputs: Inputs, kept: Kept) -> list[int]:
    """Rows of the expanded prompt that stay."""
    return kept_rows(inputs["input_ids"][0].tolist(), qwen_model(folder).config.image_token_id, kept)


def _kept(pictures: Sequence[torch.Tensor], kept: Kept) -> torch.Tensor:
    return torch.cat([rows[sorted(tokens)] for rows, tokens in zip(pictures, kept, strict=True)])


@contextmanager
def _entering(model: Any) -> Iterator[list[NDArray[np.float32]]]:
    states: list[NDArray[np.float32]] = []

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        states.append(inputs[0][0].numpy().copy())

    decoder = model.model.language_model
    hooks = [module.register_forward_pre_hook(note) for module in (*decoder.layers, decoder.norm)]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()
