"""The reference decoder: equal to transformers' decoders, and prefill + decode equal to one pass with the same drops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from .attention import angles_of, plain_frequencies, turned
from .cuts import (
    Cut,
    corematching_cut,
    drop_all_cut,
    encoder_cut,
    fastv_cut,
    feather_cut,
    flowcut_cut,
    lvlm_csp,
    mustdrop_cut,
    pdrop_cut,
    places_of,
    recycling_cut,
    sparsevlm_cut,
    stages_by_cuts,
    transprune_cut,
)
from .decoder import Decoder, Layer, LayerCache, Stage, decode, prefill, rms_norm, rows_of_layer, whole_pass
from .rows import Array, going_on

LAYERS, HEADS, GROUPS, WIDTH, CHANNELS, INNER, WORDS = 5, 4, 2, 6, 16, 20, 11
BEFORE, PICTURE, QUESTION, ANSWER = 3, 12, 4, 5
LENGTH = BEFORE + PICTURE + QUESTION
VISUAL = list(range(BEFORE, BEFORE + PICTURE))


def drawn_decoder(seed: int = 0, biases: bool = True, head_norms: bool = True) -> Decoder:
    draw = np.random.default_rng(seed)

    def matrix(*shape: int) -> Array:
        return draw.standard_normal(shape) / np.sqrt(shape[-1]) * 1.5

    def layer() -> Layer:
        inside, outside = HEADS * WIDTH, GROUPS * WIDTH
        bias = [draw.standard_normal(n) * 0.3 if biases else None for n in (inside, outside, outside, CHANNELS)]
        norms = [1 + draw.standard_normal(WIDTH) * 0.2 if head_norms else None for _ in range(2)]
        return Layer(
            1 + draw.standard_normal(CHANNELS) * 0.2,
            matrix(inside, CHANNELS),
            matrix(outside, CHANNELS),
            matrix(outside, CHANNELS),
            matrix(CHANNELS, inside),
            1 + draw.standard_normal(CHANNELS) * 0.2,
            matrix(INNER, CHANNELS),
            matrix(INNER, CHANNELS),
            matrix(CHANNELS, INNER),
            *bias,
            *norms,
        )

    return Decoder(
        [layer() for _ in range(LAYERS)],
        np.ones(CHANNELS),
        matrix(WORDS, CHANNELS),
        WIDTH,
        plain_frequencies(WIDTH),
    )


def drawn_rows(seed: int, rows: int = LENGTH + ANSWER) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, CHANNELS))


def in_steps(
    model: Decoder, embeds: Array, positions: list[int], stages: list[Stage], renumber: bool
) -> tuple[Array, list[LayerCache]]:
    """Prefill, then the given continuation token by token."""
    first, caches = prefill(model, embeds[:LENGTH], positions[:LENGTH], stages, renumber)
    logits = [first]
    for row in range(LENGTH, len(embeds)):
        logits.append(decode(model, embeds[row], positions[row], caches, renumber))
    return np.stack(logits), caches


# against transformers -------------------------------------------------------------------------------------------------

KINDS = {
    "llama": {"attention_bias": True},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
}


def library_model(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=WORDS,
        hidden_size=CHANNELS,
        intermediate_size=INNER,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        head_dim=WIDTH,
        tie_word_embeddings=False,
        initializer_range=0.4,
        attn_implementation="eager",
        **KINDS[kind],
    )
    model = AutoModelForCausalLM.from_config(config).double().eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            weight.data.add_(0.2 * torch.randn_like(weight))
    return model


def as_reference(model: Any) -> Decoder:
    state = {name: weight.detach().numpy() for name, weight in model.named_parameters()}

    def layer(prefix: str) -> Layer:
        def get(name: str) -> Array | None:
            return state.get(f"{prefix}.{name}")

        def must(name: str) -> Array:
            return state[f"{prefix}.{name}.weight"]

        return Layer(
            must("input_layernorm"),
            *(must(f"self_attn.{part}_proj") for part in "qkvo"),
            must("post_attention_layernorm"),
            *(must(f"mlp.{part}_proj") for part in ("gate", "up", "down")),
            *(get(f"self_attn.{part}_proj.bias") for part in "qkvo"),
            *(get(f"self_attn.{part}_norm.weight") for part in "qk"),
        )

    config = model.config
    width = model.model.layers[0].self_attn.head_dim
    theta = config.rope_parameters["rope_theta"]
    layers = [layer(f"model.layers.{i}") for i in range(config.num_hidden_layers)]
    frequencies = plain_frequencies(width, theta)
    return Decoder(layers, state["model.norm.weight"], state["lm_head.weight"], width, frequencies, config.rms_norm_eps)


@pytest.mark.parametrize("kind", KINDS)
def test_without_cuts_it_is_the_library_s_decoder(kind: str) -> None:
    model = library_model(kind)
    reference = as_reference(model)
    assert (reference.layers[0].query_bias is not None) == (kind in ("llama", "qwen2"))
    assert (reference.layers[0].query_norm is not None) == (kind == "qwen3")
    rows = drawn_rows(1, 9)
    with torch.no_grad():
        expected = model(inputs_embeds=torch.from_numpy(rows)[None]).logits[0].numpy()
    found, _ = whole_pass(reference, rows, range(9), 1, [])
    np.testing.assert_allclose(found, expected, atol=2e-5)  # the library turns and norms in float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("renumber", [False, True], ids=["kept", "renumbered"])
def test_a_cut_is_the_library_s_layers_on_fewer_rows(kind: str, renumber: bool) -> None:
    model = library_model(kind)
    rows, stay = drawn_rows(2, 9), [0, 1, 4, 6, 7, 8]
    positions = list(range(len(stay))) if renumber else stay
    with torch.no_grad():
        hidden, at = torch.from_numpy(rows)[None], torch.arange(9)[None]
        for number, layer in enumerate(model.model.layers):
            if number == 1:
                hidden, at = hidden[:, stay], torch.tensor(positions)[None]
            n = hidden.shape[1]
            ahead = torch.full((n, n), -torch.inf, dtype=torch.float64).triu(1)[None, None]
            given = layer(
                hidden,
                position_embeddings=model.model.rotary_emb(hidden, at),
                attention_mask=ahead,
                position_ids=at,
            )
            hidden = given if isinstance(given, torch.Tensor) else given[0]
        expected = model.lm_head(model.model.norm(hidden))[0, -1].numpy()
    found, _ = whole_pass(as_reference(model), rows, range(9), 9, [Stage(1, tuple(stay))], renumber)
    np.testing.assert_allclose(found[0], expected, atol=2e-5)


# prefill + decode = one pass with the same drops ----------------------------------------------------------------------

MODEL = drawn_decoder()
RATERS = [LENGTH - 3, LENGTH - 1]
SCORE = {row: float(np.sin(row * 7)) for row in VISUAL}
PLACES = {row: divmod(i, 4) for i, row in enumerate(VISUAL)}
CUTS: dict[str, list[Cut]] = {
    "none": [],
    "fastv": [fastv_cut(1, 6)],
    "fastv twice": [fastv_cut(2, 6), fastv_cut(4, 1)],
    "pdrop": [pdrop_cut(MODEL, 1, 6), pdrop_cut(MODEL, 3, 3)],
    "feather": [feather_cut(MODEL, 1, 6, PLACES), feather_cut(MODEL, 3, 2)],
    "flowcut": [flowcut_cut(2, 5)],
    "sparsevlm": [sparsevlm_cut(1, 7, RATERS), sparsevlm_cut(2, 4, RATERS)],
    "sparsevlm with recycling": [recycling_cut(1, 7, RATERS), recycling_cut(3, 2, RATERS)],
    "mustdrop": [mustdrop_cut(1, 6, 0.001, 0.001, VISUAL[-2:]), mustdrop_cut(2, 3, 0.001, 0.001, VISUAL[-2:])],
    "transprune": [transprune_cut(MODEL, before, count, 1, VISUAL) for before, count in ((2, 10), (3, 7), (4, 2))],
    "corematching": [corematching_cut(2, 4)],
    "vflowopt": [encoder_cut(1, 8, SCORE), encoder_cut(3, 4, SCORE)],
    "drop all": [drop_all_cut(3)],
    "drop all at once": [drop_all_cut(1)],
    "fastv and drop all": [fastv_cut(1, 4), drop_all_cut(4)],
}


@pytest.mark.parametrize("renumber", [False, True], ids=["kept", "renumbered"])
@pytest.mark.parametrize("name", CUTS)
def test_prefill_and_decode_equal_one_pass_with_the_same_drops(name: str, renumber: bool) -> None:
    embeds, positions = drawn_rows(3), list(range(LENGTH + ANSWER))
    stages = stages_by_cuts(MODEL, embeds[:LENGTH], positions[:LENGTH], VISUAL, CUTS[name], renumber)
    whole, _ = whole_pass(MODEL, embeds, positions, LENGTH, stages, renumber)
    steps, caches = in_steps(MODEL, embeds, positions, stages, renumber)
    assert whole.shape == (1 + ANSWER, WORDS)
    np.testing.assert_allclose(steps, whole, atol=1e-10)
    rows = [len(rows_of_layer(stages, layer, LENGTH)) for layer in range(LAYERS)]
    assert [len(cache.keys) for cache in caches] == [n + ANSWER for n in rows]


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("head_norms", [False, True])
@pytest.mark.parametrize("renumber", [False, True])
def test_the_same_for_every_kind_of_layer(biases: bool, head_norms: bool, renumber: bool) -> None:
    model = drawn_decoder(5, biases, head_norms)
    embeds, positions = drawn_rows(6), list(range(LENGTH + ANSWER))
    stages = stages_by_cuts(model, embeds[:LENGTH], positions[:LENGTH], VISUAL, [fastv_cut(2, 3)], renumber)
    whole, _ = whole_pass(model, embeds, positions, LENGTH, stages, renumber)
    steps, _ = in_steps(model, embeds, positions, stages, renumber)
    np.testing.assert_allclose(steps, whole, atol=1e-10)


@pytest.mark.parametrize("renumber", [False, True])
def test_the_same_where_every_layer_sees_other_rows(renumber: bool) -> None:
    """Skipping and coming back, as routing by layer would do."""
    draw = np.random.default_rng(8)
    embeds, positions = drawn_rows(9), list(range(LENGTH + ANSWER))
    everything = list(range(LENGTH))
    stages = [
        Stage(layer, tuple(going_on(everything, VISUAL, sorted(draw.choice(VISUAL, 5, replace=False).tolist()))))
        for layer in range(LAYERS)
    ]
    whole, _ = whole_pass(MODEL, embeds, positions, LENGTH, stages, renumber)
    steps, _ = in_steps(MODEL, embeds, positions, stages, renumber)
    np.testing.assert_allclose(steps, whole, atol=1e-10)


def test_positions_with_jumps_travel_with_their_rows() -> None:
    """Kept positions need not be 0, 1, 2: several visual rows may share one, as in Qwen-VL."""
    embeds = drawn_rows(10)
    positions = [min(row, BEFORE) if row < BEFORE + PICTURE else row - PICTURE + 4 for row in range(len(embeds))]
    stages = stages_by_cuts(MODEL, embeds[:LENGTH], positions[:LENGTH], VISUAL, [fastv_cut(2, 3)])
    whole, readings = whole_pass(MODEL, embeds, positions, LENGTH, stages)
    steps, _ = in_steps(MODEL, embeds, positions, stages, False)
    np.testing.assert_allclose(steps, whole, atol=1e-10)
    assert readings[-1].positions == [positions[row] for row in readings[-1].rows]


def test_kept_and_renumbered_positions_differ_only_behind_a_cut() -> None:
    embeds, positions = drawn_rows(3), list(range(LENGTH + ANSWER))
    for stages, same in (([], True), ([Stage(2, tuple(going_on(range(LENGTH), VISUAL, VISUAL[::2])))], False)):
        kept, _ = whole_pass(MODEL, embeds, positions, LENGTH, stages)
        renumbered, _ = whole_pass(MODEL, embeds, positions, LENGTH, stages, True)
        assert np.allclose(kept, renumbered) == same


def test_a_cut_changes_no_layer_before_it() -> None:
    embeds, positions = drawn_rows(3), list(range(LENGTH + ANSWER))
    _, whole = whole_pass(MODEL, embeds, positions, LENGTH, [])
    stages = [Stage(3, tuple(going_on(range(LENGTH), VISUAL, [VISUAL[0]])))]
    _, cut = whole_pass(MODEL, embeds, positions, LENGTH, stages)
    assert [reading.rows for reading in cut[:3]] == [reading.rows for reading in whole[:3]]
    assert all(np.array_equal(a.keys, b.keys) for a, b in zip(cut[:3], whole[:3], strict=True))
    assert len(cut[3].rows) == len(whole[3].rows) - PICTURE + 1


def test_rows_that_come_back_have_their_embeddings() -> None:
    embeds, positions = drawn_rows(3, LENGTH), list(range(LENGTH))
    stages = lvlm_csp(MODEL, embeds, positions, VISUAL, representative=4, scatter=2, prune=4, count=3)
    _, readings = whole_pass(MODEL, embeds, positions, LENGTH, stages)
    seen = [len(reading.rows) - BEFORE - QUESTION for reading in readings]
    assert seen == [4, 4, PICTURE, PICTURE, 3]
    assert readings[0].rows[BEFORE : BEFORE + 4] == VISUAL[::3]
    away = [row for row in VISUAL if row not in readings[0].rows]
    np.testing.assert_array_equal(readings[2].hidden[places_of(readings[2], away)], embeds[away])
    touched = [row for row in range(LENGTH) if row not in away]
    assert not np.isclose(readings[2].hidden[places_of(readings[2], touched)], embeds[touched]).all(axis=1).any()


def test_a_recycled_row_is_the_mean_of_its_cluster_at_the_centre_s_place() -> None:
    embeds, positions = drawn_rows(3, LENGTH), list(range(LENGTH))
    (stage,) = stages_by_cuts(MODEL, embeds, positions, VISUAL, [recycling_cut(2, 4, RATERS)])
    assert len(stage.rows) == BEFORE + 4 + 1 + QUESTION  # 8 leave: 3 of them are clustered around one centre
    ((centre, weights),) = stage.merged.items()
    assert centre in weights and centre in stage.rows and len(weights) == 3
    _, whole = whole_pass(MODEL, embeds, positions, LENGTH, [])
    _, cut = whole_pass(MODEL, embeds, positions, LENGTH, [stage])
    mean = whole[2].hidden[list(weights)].mean(axis=0)
    np.testing.assert_allclose(cut[2].hidden[cut[2].rows.index(centre)], mean, rtol=1e-5)
    others = [row for row in stage.rows if row != centre]
    np.testing.assert_array_equal(cut[2].hidden[places_of(cut[2], others)], whole[2].hidden[others])


def test_re_entry_decodes_as_one_pass() -> None:
    embeds, positions = drawn_rows(11), list(range(LENGTH + ANSWER))
    stages = lvlm_csp(MODEL, embeds[:LENGTH], positions[:LENGTH], VISUAL, 4, 2, 4, 3)
    whole, _ = whole_pass(MODEL, embeds, positions, LENGTH, stages)
    steps, caches = in_steps(MODEL, embeds, positions, stages, False)
    np.testing.assert_allclose(steps, whole, atol=1e-10)
    assert [len(cache.keys) for cache in caches] == [LENGTH - n + ANSWER for n in (8, 8, 0, 0, 9)]


def test_the_prompt_s_last_row_cannot_leave() -> None:
    with pytest.raises(ValueError, match="last row stays"):
        rows_of_layer([Stage(1, (0, 1))], 2, 4)


def test_turning_back_undoes_the_rotation_and_keeps_products_of_one_position() -> None:
    x = drawn_rows(12, 7)[:, :WIDTH]
    angles = angles_of(range(7), plain_frequencies(WIDTH))
    np.testing.assert_allclose(turned(turned(x, angles), -angles), x, atol=1e-12)
    np.testing.assert_allclose(
        turned(x, angles_of([3] * 7, plain_frequencies(WIDTH)))
        @ turned(x, angles_of([3] * 7, plain_frequencies(WIDTH))).T,
        x @ x.T,
        atol=1e-12,
    )


def test_rms_norm_has_mean_square_one() -> None:
    made = rms_norm(drawn_rows(13, 4), np.ones(CHANNELS), 0.0)
    np.testing.assert_allclose((made**2).mean(axis=1), 1.0)
