"""The reference tower: equal to the library's without cuts, and what must hold of whole towers with cuts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel
from transformers.activations import ACT2FN

from .. import flowcut as whole_flowcut
from .tower import STEPS, controls, expedit, flowcut, gtp, mctf, token_transforming, tome
from .tower.rows import Floats, attention_map
from .tower.vit import SITES, Cuts, attended, forward
from .tower.weights import activated, drawn, of_transformers

N, WIDTH = 16, 8


def small(class_token: bool = True, blocks: int = 4) -> Any:
    return drawn(0, blocks=blocks, width=WIDTH, heads=2, hidden=12, class_token=class_token)


def embedded(seed: int, rows: int = 1 + N) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, WIDTH))


def test_without_cuts_it_is_the_librarys_tower() -> None:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=12,
        image_size=12,
        patch_size=4,
        initializer_range=0.5,
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    pixels = torch.randn(1, 3, 12, 12)
    with torch.no_grad():
        expected = model(pixel_values=pixels).last_hidden_state[0]
        rows = model.embeddings(pixels)[0]
    run = forward(rows.numpy(), of_transformers(model.state_dict(), 2, config.layer_norm_eps))
    np.testing.assert_allclose(run.normed, expected.numpy(), atol=2e-5)
    assert run.rows == [10] * 3 and run.state.scattered()[1].all()


def test_the_activations_are_the_librarys() -> None:
    x = np.linspace(-6, 6, 41)
    for kind in ("gelu", "quick_gelu"):
        np.testing.assert_allclose(activated(x, kind), ACT2FN[kind](torch.tensor(x)).numpy(), atol=1e-12)


def test_what_leaves_after_a_block_is_what_leaves_before_the_next() -> None:
    tower, x = small(), embedded(1)
    after = forward(x, tower, Cuts(controls.uniform, "after", {1: 0.5}))
    before = forward(x, tower, Cuts(controls.uniform, "before", {2: 0.5}))
    between = forward(x, tower, Cuts(controls.uniform, "between", {1: 0.5}))
    np.testing.assert_allclose(after.normed, before.normed)
    np.testing.assert_allclose(between.normed, after.normed)  # the MLP works row by row
    assert after.rows == between.rows == [17, 17, 9, 9]
    at_once = forward(x[[0, *after.state.place[1:] + 1]], tower)
    assert not np.allclose(at_once.normed, after.normed)
    first = forward(x, tower, Cuts(controls.uniform, "before", {0: 0.5}))
    np.testing.assert_allclose(first.normed, at_once.normed)


SETTINGS: dict[str, Mapping[str, Any]] = {"mctf": {"least": 4}, "random": {"total": N}, "zero-tprune": {"rounds": 4}}
AT_PLACES = [name for name in STEPS if name not in ("expedit", "pool")]


@pytest.mark.parametrize("name", AT_PLACES)
@pytest.mark.parametrize("site", SITES)
def test_places_owners_and_sizes_go_through_several_cuts(name: str, site: str) -> None:
    step, home = STEPS[name]
    settings = SETTINGS.get(name, {})
    x = embedded(2)
    graph = gtp.neighbours(x[1:], (4, 4), nearest=4) if name == "gtp" else None
    run = forward(x, small(), Cuts(step, site if name != "mctf" else home, {1: 0.75, 2: 9}, settings), graph=graph)
    state = run.state
    features, alive = state.scattered()
    assert alive.sum() == 9 if name != "evit" else alive.sum() in (8, 9)  # the fused row may be one of the nine
    np.testing.assert_array_equal(features[alive], state.x[np.argsort(state.place)][-alive.sum() :])
    assert list(state.place[state.place >= 0]) == [p for p in state.place if p >= 0]
    for patch in np.flatnonzero(alive):
        assert state.place[state.owner[patch]] == patch
    if name in ("absorb", "tome", "mctf"):
        assert state.size is not None
        assert list(state.size) == [1, *np.bincount(state.owner, minlength=10)[1:]]
    if name in ("class-attention", "flowcut", "gtp", "hired-early", "random", "received", "uniform", "zero-tprune"):
        assert state.size is None and (state.owner == -1).sum() == N - 9


def doubled(class_token: bool) -> Floats:
    """Patches in equal pairs, next to each other."""
    x = np.repeat(embedded(3, N // 2), 2, axis=0)
    return np.vstack([embedded(4, 1), x]) if class_token else x


@pytest.mark.parametrize(
    ("step", "site", "settings"),
    [
        (tome.step, "between", {}),
        (tome.step, "after", {}),
        (mctf.step, "before", {"least": 4, "tau_importance": 1e9, "tau_size": 1e9}),
    ],
)
def test_merging_equal_rows_with_sizes_loses_nothing(
    step: Callable[..., Any], site: str, settings: Mapping[str, Any]
) -> None:
    tower, x = small(), doubled(class_token=True)
    whole = forward(x, tower)
    run = forward(x, tower, Cuts(step, site, {1: 8}, settings))
    assert run.rows[-1] == 9 and run.state.size is not None and list(run.state.size) == [1] + [2] * 8
    np.testing.assert_allclose(run.normed[0], whole.normed[0])
    np.testing.assert_allclose(run.normed[run.state.owner], whole.normed[1:])
    bare = forward(x, tower, Cuts(step, site, {1: 8}, settings, proportional=False))
    assert not np.allclose(bare.normed[0], whole.normed[0])


def test_expedit_gives_back_every_patch_and_loses_nothing_on_equal_ones() -> None:
    tower = small(class_token=False)
    cells = embedded(5, 4).reshape(2, 2, WIDTH) * 3
    x = np.repeat(np.repeat(cells, 2, axis=0), 2, axis=1).reshape(N, WIDTH)
    settings = {"grid": (4, 4), "tau": 100.0}
    cuts = Cuts(expedit.step, "before", {1: 4}, settings, undone=lambda *a: expedit.undone(*a, tau=100.0))
    run = forward(x, tower, cuts)
    assert run.rows == [16, 4, 4, 4] and run.state.scattered()[1].all()
    np.testing.assert_allclose(run.normed, forward(x, tower).normed)


def test_a_soft_cut_can_be_undone_at_the_end() -> None:
    cuts = Cuts(token_transforming.step, "between", {1: 12, 2: 8}, {"tau": 1e-6}, undone=token_transforming.undone)
    run = forward(embedded(6), small(), cuts)
    assert run.rows == [17, 17, 13, 9] and run.normed.shape == (1 + N, WIDTH)
    inner = forward(embedded(6), small(), Cuts(token_transforming.step, "between", {1: 12, 2: 8}, {"tau": 1e-6})).state
    for patch, row in enumerate(inner.owner):  # as good as hard: a patch gets what its owner became
        np.testing.assert_allclose(run.state.x[1 + patch], inner.x[row])


def test_gtp_without_spreading_is_a_plain_drop() -> None:
    x, tower = embedded(7), small()
    graph = gtp.neighbours(x[1:], (4, 4))
    plain = forward(x, tower, Cuts(gtp.step, "between", {0: 12, 1: 8}, {"alpha": 0.0}), graph=graph)
    spread = forward(x, tower, Cuts(gtp.step, "between", {0: 12, 1: 8}, {"alpha": 0.4}), graph=graph)
    none = forward(x, tower, Cuts(gtp.step, "between", {0: 12, 1: 8}), graph=np.zeros((N, N)))
    np.testing.assert_allclose(plain.normed, none.normed)
    assert not np.allclose(plain.normed, spread.normed)
    by_score = forward(
        x, tower, Cuts(gtp.step, "between", {0: 12, 1: 8}, {"alpha": 0.4, "by_score": True}), graph=graph
    )
    np.testing.assert_allclose(by_score.normed[0], spread.normed[0])  # a block does not know the order of its rows


def test_padding_that_left_before_the_first_block_was_never_there() -> None:
    x, tower = embedded(8), small()
    valid = np.arange(1 + N) < 12
    run = forward(x, tower, Cuts(controls.uniform, "before", {0: 11}), valid=valid)
    np.testing.assert_allclose(run.normed, forward(x[:12], tower).normed)
    assert list(run.state.owner) == [*range(1, 12), *[-1] * 5]


def test_flowcut_cuts_the_tower_as_the_older_reference_does() -> None:
    tower, x = small(blocks=5), embedded(9)
    counts, feature_layer = [13, 9, 4], 5
    blocks = whole_flowcut.cut_blocks(feature_layer)
    keep = dict(zip(blocks, counts, strict=True))
    run = forward(x, tower, Cuts(flowcut.step, "after", keep, observe=flowcut.observe))

    rows, numbers = x, list(range(N))

    def read(block: int, there: list[int]) -> whole_flowcut.Block:
        nonlocal rows, numbers
        rows = rows[[0, *(1 + numbers.index(j) for j in there)]]
        numbers = there
        at = tower.blocks[block]
        normed = at.norm1(rows)
        q, k, v = at.q(normed), at.k(normed), at.v(normed)
        maps = attention_map(q, k, 2)
        rows = rows + at.out(attended(maps, v))
        rows = rows + at.fc2(activated(at.fc1(at.norm2(rows)), "gelu"))
        heads = v.reshape(len(v), 2, -1).transpose(1, 0, 2)
        return whole_flowcut.Block(maps[:, 0, 1:].tolist(), heads[:, 0].tolist(), heads[:, 1:].tolist())

    last = whole_flowcut.fixed(read, N, counts, feature_layer)[-1]
    assert list(run.state.place[1:]) == last.tokens
    assert run.state.score is not None
    np.testing.assert_allclose(run.state.score[1:], last.state)
