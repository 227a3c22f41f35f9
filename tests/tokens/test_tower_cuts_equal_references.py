"""Every method that cuts the tower equals its independent reference: one cut of random rows, and two cuts of a whole tower."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.models import open_classifier
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.tower.flow import FLOW
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut
from edgeprune_export.gate.eager_classifier import classifier_module
from edgeprune_export.gate.eager_cuts import cutting
from edgeprune_export.gate.noted_attention import NAME
from tests.classifiers import huggingface_folder, made_model, made_pixels
from tests.references.inside.tower import STEPS, expedit, flowcut, gtp, zero_tprune
from tests.references.inside.tower.vit import Cuts, forward
from tests.references.inside.tower.weights import of_transformers, reading

GRID, HEADS = (4, 5), 2
#: Ours -> the references' name where it is another.
CALLED = {"topk": "class-attention", "tower-random": "random", "tower-uniform": "uniform"}
NAMES = [name for name in INSIDE if isinstance(INSIDE[name], TowerMethod)]
WITHOUT_CLASS = [name for name in NAMES if not INSIDE[name].class_token]  # type: ignore[attr-defined]
#: What is done with padding is compared where a graph can do the same: sides of pairs are drawn with the padding among them.
PADDED = ["topk", "hired-early", "evit", "absorb", "received", "gtp", "tower-uniform"]


def settings_of(name: str, patches: int, first: int) -> dict[str, Any]:
    """What the reference is told besides."""
    drawn = np.concatenate([np.zeros(first), np.random.default_rng(0).random(patches).astype(np.float32)])
    return {
        "tower-random": {"total": first + patches, "noise": drawn},
        "pool": {"grid": GRID},
        "expedit": {"grid": GRID, "tau": 0.5},
        "gtp": {"alpha": 0.3},
        "token-transforming": {"tau": 0.1},
        "zero-tprune": {"rounds": 8},
    }.get(name, {})


def told(name: str) -> dict[str, float]:
    """The same for ours."""
    return {"expedit": {"tau": 0.5}, "gtp": {"alpha": 0.3}, "token-transforming": {"tau": 0.1}}.get(name, {})


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("name", NAMES)
def test_one_cut_of_random_rows(name: str, case: int) -> None:
    method: Any = INSIDE[name]
    class_token = name not in WITHOUT_CLASS or case % 2 == 0
    patches, first = GRID[0] * GRID[1], int(class_token)
    x, q, k, v = reading(case, first + patches)
    rng = np.random.default_rng(case)
    size = rng.integers(1, 4, len(x)).astype(float) if method.sizes and case >= 2 else None
    valid = None
    if (
        name in PADDED and case in (3, 4, 5) and (name, case) != ("evit", 3)
    ):  # a graph has its fused row, whoever leaves
        valid = np.concatenate([np.ones(first, bool), rng.random(patches) > (0.7 if case == 3 else 0.3)])
    keep = 12 if name in ("pool", "expedit") else 13
    tensors = [torch.from_numpy(part).float() for part in (x, q, k, v)]
    mass = None if size is None else torch.from_numpy(size).float()
    rows = Rows(
        tensors[0],
        torch.arange(len(x)),
        None if valid is None else torch.from_numpy(valid).float(),
        mass,
        owner=torch.arange(len(x)),
    )
    cut = TowerCut(keep, 0, first, GRID, 1, told(name), block=5, blocks=12)
    nobody = BlockRows(*tensors[1:], HEADS)
    if method.start is not None:
        rows = method.start(rows, nobody, cut)
    graph = gtp.neighbours(x[first:], GRID) if name == "gtp" else None
    if graph is not None and rows.links is not None:
        np.testing.assert_allclose(rows.links.numpy(), graph, atol=1e-6)
    block = BlockRows(*tensors[1:], HEADS, None if mass is None else torch.log(mass))
    found = method.step(rows, block, cut)
    step, _ = STEPS[CALLED.get(name, name)]
    expected = step(
        x,
        q,
        k,
        v,
        HEADS,
        keep,
        class_token=class_token,
        size=size,
        valid=valid,
        place=np.arange(len(x)),
        graph=graph,
        **settings_of(name, patches, first),
    )
    same(found, expected)
    if method.finish is not None:
        refined = np.random.default_rng(9).normal(size=expected.x.shape)
        again = method.finish(found._replace(x=torch.from_numpy(refined).float()), nobody, cut)
        wanted = expedit.undone(refined, expected.saved, class_token, tau=0.5)
        np.testing.assert_allclose(again.x.numpy(), wanted, atol=1e-4)


def same(found: Rows, expected: Any) -> None:
    """Rows are compared by the place that they have; those without one in their order."""
    assert found.place is not None and found.owner is not None
    ours, theirs = order(found.place.numpy()), order(expected.index)
    np.testing.assert_array_equal(found.place.numpy()[ours], expected.index[theirs])
    np.testing.assert_allclose(found.x.numpy()[ours], expected.x[theirs], rtol=1e-3, atol=1e-4)
    if expected.size is not None and found.size is not None:
        np.testing.assert_allclose(found.size.numpy()[ours], expected.size[theirs], rtol=1e-3, atol=1e-4)
    if expected.attention is not None:
        assert found.attention is not None
        maps = found.attention.numpy()[:, ours][:, :, ours]
        np.testing.assert_allclose(maps, expected.attention[:, theirs][:, :, theirs], atol=1e-5)
    mine, wanted = found.owner.numpy(), expected.owner
    np.testing.assert_array_equal(mine >= 0, wanted >= 0)
    there = mine >= 0
    np.testing.assert_array_equal(np.argsort(ours)[mine[there]], np.argsort(theirs)[wanted[there]])


def order(places: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.argsort(np.where(places < 0, 1000, places), kind="stable")
    return found


@pytest.mark.parametrize(
    "name", [*(name for name in NAMES if name not in ("tower-random", "pool", "expedit")), "flowcut"]
)
def test_two_cuts_of_a_whole_tower(name: str, tmp_path: Any) -> None:
    method: Any = FLOW if name == "flowcut" else INSIDE[name]
    model = made_model(layers=4)
    module = classifier_module(open_classifier(huggingface_folder(tmp_path / "source", model)), NAME)
    keep = {0: 11, 1: 8} if method.site == "before" else {1: 11, 2: 8}
    if name == "mctf":
        keep = {1: 13, 2: 10}
    cuts = TowerCuts(method, keep, 16, 1, (4, 4), settings=told(name), blocks=4)
    pixels = made_pixels(1)
    tower: Any = module.base_model
    with torch.inference_mode():
        embedded = tower.embeddings(pixels)[0].double().numpy()
        with cutting(tower, cuts, Rows, last=3):
            found = tower(pixels).last_hidden_state[0]
    step, site = STEPS[CALLED.get(name, name)]
    assert site == method.site
    settings = {"gtp": {"alpha": 0.3}, "token-transforming": {"tau": 0.1}}.get(name, {})
    rounds = {i: {"rounds": zero_tprune.rounds_at(i, 4)} for i in range(4)} if name == "zero-tprune" else {}
    run = forward(
        embedded,
        of_transformers(dict(model.vit.state_dict()), 3, 1e-6),
        Cuts(step, site, keep, settings, rounds, flowcut.observe if name == "flowcut" else None),
        graph=gtp.neighbours(embedded[1:], (4, 4)) if name == "gtp" else None,
    )
    np.testing.assert_allclose(found[0].numpy(), run.normed[0], rtol=1e-3, atol=1e-4)
    assert len(found) == len(run.normed)
