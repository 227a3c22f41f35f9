"""Rows that leave before layers of the language model: every decoder passes the gate, and what a request can ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.errors import ParityError, PlanError
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune_export.commands.export import export
from edgeprune_export.gate.language import ranks
from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.errors import PromptError, RequestError
from edgeprune_runtime.stages.recycled import recycled
from tests.checkpoints import tiny_checkpoint
from tests.exports import exported, options

QUESTION = "What is in the picture?"
TWO = {"method": "fastv", "layers": [1, 3], "keep": [0.5, 6]}
LLAVA: dict[str, Any] = {"tower": "clip", "decoder": "qwen2", "layers": 4}


def plan_of(**inside: Any) -> dict[str, Any]:
    return {"inside": [TWO | inside]}


#: Every kind of decoder, positions of one and of three axes, and rows that enter behind layers on both sides of a cut.
DECODERS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"tower": "clip", "decoder": "llama", "layers": 4, "rope": "llama3"}, plan_of(method="pdrop")),
    ({"tower": "vit", "decoder": "mistral", "layers": 4, "rope": "yarn"}, plan_of() | {"positions": "renumber"}),
    ({"tower": "dinov2", "decoder": "qwen2", "layers": 4}, plan_of(method="encoder")),
    ({"family": "internvl", "decoder": "qwen3", "head_dim": 24, "layers": 4}, plan_of(method="pdrop")),
    (
        {"family": "llava", "tower": "siglip", "decoder": "qwen2", "layers": 4},
        {"method": "divprune"} | plan_of(method="encoder"),
    ),
    ({"family": "qwen2_vl", "sections": (1, 2, 5), "layers": 4}, {"method": "received"} | plan_of(method="pdrop")),
    (
        {"family": "qwen2_vl", "sections": (1, 2, 5), "layers": 4},
        {"method": "received", "positions": "renumber"} | plan_of(),
    ),
    (
        {
            "family": "qwen3_vl",
            "head_dim": 24,
            "sections": (3, 4, 5),
            "layers": 4,
            "vision_layers": 4,
            "deepstack": (0, 2, 3),
        },
        {"method": "received"} | plan_of(method="pdrop", layers=[1, 2]),
    ),
    (
        {"family": "qwen3_vl", "head_dim": 24, "sections": (3, 4, 5), "layers": 4, "vision_layers": 4}
        | {"deepstack": (0, 2, 3)},
        {"method": "received"} | plan_of(method="feather", layers=[1, 3]),
    ),
)


@pytest.mark.parametrize(("variant", "plan"), DECODERS)
def test_every_decoder_passes_the_gate_with_rows_leaving(variant: dict[str, Any], plan: dict[str, Any]) -> None:
    sizes = {"sizes": ((64, 64), (32, 96))} if "qwen" in variant.get("family", "") else {}
    bundle = Bundle.open(exported(variant, budgets=("0.5", "1.0"), plan=plan, **sizes), verify=False)
    made = {check.name for check in bundle.manifest.parity.checks if check.passed}
    for number in (1, 2):
        name = f"rank-{number}-{plan['inside'][0]['method']}"
        assert {f"{name}: rows equal the method's", f"{name}: rows of the library's layers go on"} <= made
    assert {"prefill and head: logits, rows leaving", "prefill and head: logits"} <= made


METHODS = (
    "corematching",
    "transprune",
    "feather",
    "flowcut",
    "gsearch",
    "mustdrop",
    "random-rows",
    "sparsevlm",
    "uniform-rows",
    "vflowopt",
)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_passes_the_gate(method: str) -> None:
    bundle = Bundle.open(exported(LLAVA, budgets=("1.0",), plan=plan_of(method=method, keep=[0.5, 16])), verify=False)
    made = {check.name for check in bundle.manifest.parity.checks if check.passed}
    assert f"rank-2-{method}: rows of the library's layers go on" in made


@pytest.mark.parametrize("method", ["drop-all", "todre", "yopo"])
def test_nobody_stays_where_all_rows_leave(method: str) -> None:
    plan = plan_of(method=method, layers=[2], keep=[0])
    bundle = Bundle.open(exported(LLAVA, budgets=("1.0",), plan=plan), verify=False)
    assert all(check.passed for check in bundle.manifest.parity.checks)
    with Model.open(bundle.root, threads=1) as model:
        assert asked(model, budget="1.0").inside == (0,)


#: Decoders that differ in what a ranking reads: shared and unshared heads, biases, norms of queries and keys, scaled angles, positions of three
#: axes, rows that enter behind layers.
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"tower": "clip", "decoder": "llama", "rope": "llama3", "layers": 4},
    "mistral": {"tower": "vit", "decoder": "mistral", "rope": "yarn", "multi_head": True, "layers": 4},
    "qwen3": {"family": "internvl", "decoder": "qwen3", "head_dim": 24, "layers": 4},
    "qwen2_vl": {"family": "qwen2_vl", "sections": (1, 2, 5), "layers": 4},
    "qwen3_vl": {"family": "qwen3_vl", "head_dim": 24, "sections": (3, 4, 5), "layers": 4, "vision_layers": 4}
    | {"deepstack": (0, 2, 3)},
}
RANKINGS = (
    "fastv",
    "pdrop",
    "feather",
    "sparsevlm",
    "mustdrop",
    "flowcut",
    "gsearch",
    "transprune",
    "corematching",
    "lvlm-csp",
)


#: Rows that come back would miss what enters behind layers: refused, as `test_rows_that_cannot_come_back_so_are_refused` shows.
PASSES = [(kind, method) for kind in KINDS for method in RANKINGS if (kind, method) != ("qwen3_vl", "lvlm-csp")]


@pytest.mark.parametrize(("kind", "method"), PASSES)
def test_prefill_and_decode_are_one_long_pass_with_the_same_rows_gone(kind: str, method: str) -> None:
    """The gate's own words; the list of every cut by the library's queries, keys, values and activations besides."""
    inside = COMING_BACK if method == "lvlm-csp" else TWO | {"method": method, "keep": [0.5, 0.25]}
    qwen = "qwen" in KINDS[kind].get("family", "")
    plan = {"inside": [inside]} | ({"method": "received"} if qwen else {})
    sizes = {"sizes": ((64, 64), (32, 96))} if qwen else {}
    bundle = Bundle.open(exported(KINDS[kind], budgets=("0.5",), plan=plan, **sizes), verify=False)
    made = {check.name for check in bundle.manifest.parity.checks if check.passed}
    assert f"rank-2-{method}: rows of the library's layers go on" in made
    assert {"prefill and head: logits, rows leaving", "decode: greedy text of 8 tokens, rows leaving"} <= made


@pytest.mark.parametrize("method", ["pdrop", "feather", "sparsevlm", "transprune"])
@pytest.mark.parametrize("kind", ["llama", "qwen2_vl"])
def test_positions_may_be_counted_anew_behind_every_cut(kind: str, method: str) -> None:
    """What reads positions, and what stands at a place of its own, in the prompt and in the answer."""
    inside = TWO | {"method": method, "keep": [0.5, 0.25]}
    plan = {"inside": [inside], "positions": "renumber"} | ({"method": "received"} if kind == "qwen2_vl" else {})
    sizes = {"sizes": ((64, 64), (32, 96))} if kind == "qwen2_vl" else {}
    bundle = Bundle.open(exported(KINDS[kind], budgets=("0.5",), plan=plan, **sizes), verify=False)
    made = {check.name for check in bundle.manifest.parity.checks if check.passed}
    assert {"prefill and head: logits, rows leaving", "decode: greedy text of 8 tokens, rows leaving"} <= made


COMING_BACK = {"method": "lvlm-csp", "layers": [0, 1, 3], "keep": [0.25, 1, 6]}


@pytest.mark.parametrize("positions", ["keep", "renumber"])
@pytest.mark.parametrize("decoder", ["llama", "qwen2", "qwen3"])
def test_rows_come_back_as_they_entered(decoder: str, positions: str) -> None:
    plan = {"inside": [COMING_BACK], "positions": positions}
    bundle = Bundle.open(exported(LLAVA | {"decoder": decoder}, budgets=("0.5", "1.0"), plan=plan), verify=False)
    made = {check.name for check in bundle.manifest.parity.checks if check.passed}
    assert {"rank-2-lvlm-csp: rows of the library's layers go on", "prefill and head: logits, rows leaving"} <= made
    with Model.open(bundle.root, threads=1) as model:
        answer = asked(model)
        assert answer.inside == (round(answer.visual_tokens / 4), 6)
        back, last = model.language.rows_behind_cuts()
        assert np.array_equal(back, np.arange(answer.prompt_tokens))
        assert len(last) == answer.prompt_tokens - answer.visual_tokens + 6
        again = asked(model)
        assert again.token_ids == answer.token_ids and again.cached_tokens > 0
        assert asked(model, image=None, budget=None).inside == (0, 0)
        few = asked(model, inside=(8, 4))
        assert few.inside == (8, 4) and asked(model, inside="none").inside == (answer.visual_tokens,) * 2


@pytest.mark.parametrize(
    ("variant", "inside", "words"),
    [
        ({}, {"layers": [0, 1], "keep": [0.5, 0.5]}, "lvlm-csp has three layers, of which the first is 0"),
        ({}, {"keep": [0.25, 0.5, 0.1]}, "keeps 1 at the second, where all rows are back"),
        ({}, {"layers": [0, 1, 4]}, "before layer 4 of the language model"),
        (
            {"family": "qwen3_vl", "head_dim": 24, "sections": (3, 4, 5), "vision_layers": 4, "deepstack": (0, 2, 3)},
            {},
            "have missed what enters behind the first layers of qwen3_vl",
        ),
    ],
)
def test_rows_that_cannot_come_back_so_are_refused(
    tmp_path: Path, variant: dict[str, Any], inside: dict[str, Any], words: str
) -> None:
    of_family = {**variant, "layers": 4} if variant else LLAVA
    plan = {"method": "received"} if variant else {}
    with pytest.raises(PlanError, match=words):
        asked_for = options(("0.5",), plan=plan | {"inside": [COMING_BACK | inside]})
        export(tiny_checkpoint(**of_family), tmp_path / "bundle", asked_for)


def test_a_ranking_that_is_another_one_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate ranks by what the graph was given: had the graph another function in it, the lists would differ."""
    fastv = INSIDE["fastv"]
    assert isinstance(fastv, LanguageCut)
    other = dataclasses.replace(fastv, rank=lambda rows, settings: -fastv.rank(rows, settings))
    right = ranks.Ranking
    monkeypatch.setattr(ranks, "Ranking", lambda place: right(dataclasses.replace(place, cut=other)))
    with pytest.raises(ParityError, match="rank-1-fastv: rows equal the method's"):
        export(tiny_checkpoint(**LLAVA), tmp_path / "bundle", options(("0.5",), plan=plan_of()))


def picture(seed: int = 0, size: tuple[int, int] = (300, 500)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def cut() -> Iterator[Model]:
    with Model.open(exported(LLAVA, budgets=("0.5", "1.0"), plan=plan_of(), stage_chunk=32), threads=1) as model:
        yield model


def asked(model: Model, **how: Any) -> Any:
    return model.ask(QUESTION, **({"image": picture(), "budget": "0.5", "max_tokens": 6, "stop": False} | how))


def test_as_exported_shares_and_counts_stay(cut: Model) -> None:
    answer = asked(cut)
    assert answer.inside == (round(answer.visual_tokens / 2), 6)
    for rows, visual in zip(cut.language.rows_behind_cuts(), answer.inside, strict=True):
        assert len(rows) == answer.prompt_tokens - answer.visual_tokens + visual
        assert np.array_equal(rows, np.unique(rows))


def test_rows_behind_a_later_cut_are_among_those_behind_the_one_before(cut: Model) -> None:
    asked(cut)
    first, second = cut.language.rows_behind_cuts()
    assert set(second.tolist()) <= set(first.tolist())


def test_where_nobody_leaves_the_answer_is_that_of_a_bundle_without_cuts(cut: Model) -> None:
    with Model.open(exported(LLAVA, budgets=("0.5", "1.0"), parity=False), threads=1) as plain:
        for question in ({}, {"image": None, "budget": None}):
            assert asked(cut, inside="none", **question).token_ids == asked(plain, **question).token_ids


def test_means_of_what_leaves_stay_besides_what_is_asked_for() -> None:
    bundle = exported(LLAVA, budgets=("0.5",), inside=["sparsevlm@1,3:0.5,6"])
    with Model.open(bundle, threads=1) as model:
        for inside in (None, (20, 4), (4, 0)):
            answer = asked(model, inside=inside)
            visual, first, second = answer.visual_tokens, *(inside or (round(answer.visual_tokens / 2), 6))
            behind = first + recycled(visual - first)
            assert answer.inside == (behind, second + recycled(behind - second))
            for rows, left in zip(model.language.rows_behind_cuts(), answer.inside, strict=True):
                assert len(rows) == answer.prompt_tokens - visual + left and np.array_equal(rows, np.unique(rows))
            assert asked(model, inside=inside).token_ids == answer.token_ids
        assert asked(model, image=None, budget=None).inside == (0, 0)
        none = asked(model, inside="none")
    without = exported(LLAVA, budgets=("0.5",), inside=["sparsevlm@1,3:0.5,6:recycle=0"])
    with Model.open(without, threads=1) as model:
        assert asked(model, inside=(20, 4)).inside == (20, 4)
        assert asked(model, inside="none").token_ids == none.token_ids


def test_a_request_says_how_many_stay(cut: Model) -> None:
    visual = asked(cut).visual_tokens
    for inside, expected in (
        ((20, 10), (20, 10)),
        (12, (12, 12)),
        (0.5, (round(visual / 2), round(visual / 4))),
        (0, (0, 0)),
    ):
        assert asked(cut, inside=inside).inside == expected


def test_an_answer_is_the_same_whatever_was_asked_before(cut: Model) -> None:
    first = asked(cut).token_ids
    asked(cut, inside="none", image=picture(1), budget="1.0")
    assert asked(cut).token_ids == first


def test_a_thin_prompt_keeps_all_its_visual_rows_and_says_so(cut: Model) -> None:
    answer = asked(cut, inside=(1000, 500))
    assert answer.inside == (answer.visual_tokens,) * 2
    assert "none left there" in answer.notes[-1]


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("all", "expected 'none'"),
        (-1, "keeps -1"),
        (2.5, "keeps 2.5"),
        ((1, 2, 3), "give one, or one for each"),
        (float("nan"), "keeps nan"),
    ],
)
def test_a_count_that_means_nothing_is_refused_before_any_work(cut: Model, inside: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        cut.ask(QUESTION, image="no such file.png", inside=inside)


def test_a_bundle_without_cuts_can_only_let_nobody_leave(opened: Model) -> None:
    with pytest.raises(RequestError, match="no cuts inside the language model"):
        opened.ask(QUESTION, inside=10)
    assert opened.ask(QUESTION, inside="none", max_tokens=1).inside == ()


def test_a_stage_without_room_names_itself() -> None:
    bundle = exported(
        LLAVA, budgets=("1.0",), plan=plan_of(keep=[8, 8]), stage_room="kept", stage_chunk=8, parity=False
    )
    with Model.open(bundle, threads=1) as model:
        stages = model.bundle.manifest.language.stages
        assert stages[1].capacity == stages[2].capacity < stages[0].capacity
        assert asked(model, budget="1.0").inside == (8, 8)
        with pytest.raises(PromptError, match="layers 1 to 2 of the language model, which have room for"):
            asked(model, budget="1.0", inside="none")


def test_numbers_that_are_not_finite_are_cleared_everywhere(cut: Model) -> None:
    first = asked(cut)
    embeds = np.full((40, cut.bundle.manifest.language.row_width), np.nan, np.float32)
    with pytest.raises(RequestError, match="no longer finite"):
        cut.language.prefill(embeds, np.arange(40)[None])
    assert all(np.isfinite(cut.language.ranked_from(0)[name]).all() for name in ("query", "past_key_0"))
    assert asked(cut).token_ids == first.token_ids


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ({"layers": [0, 2]}, "before layer 0 .* a --budget chooses"),
        ({"layers": [1, 4]}, "before layer 4 of the language model, which has layers 0 to 3"),
        ({"keep": [5000, 6]}, "keeps 5000 rows before layer 1, and at most"),
        ({"keep": [6, 0.5]}, "rows before layer 3, and only 6 arrive there"),
    ],
)
def test_what_no_model_can_do_is_refused_before_any_work(tmp_path: Path, inside: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        export(tiny_checkpoint(**LLAVA), tmp_path / "bundle", options(("0.5",), plan=plan_of(**inside)))
    assert not (tmp_path / "bundle").exists()


def test_who_lets_nobody_stay_cannot_be_asked_to_keep_some(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="yopo lets all visual rows leave; write yopo@2:0"):
        plan = plan_of(method="yopo", layers=[2], keep=[0.5])
        export(tiny_checkpoint(**LLAVA), tmp_path / "bundle", options(("0.5",), plan=plan))


def test_a_key_set_larger_than_the_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="mustdrop always keeps up to .* more than the 3 before layer 3"):
        plan = plan_of(method="mustdrop", keep=[0.5, 3])
        export(tiny_checkpoint(**LLAVA), tmp_path / "bundle", options(("1.0",), plan=plan))


def test_a_second_question_finds_the_stage_before_the_first_cut_in_the_cache(cut: Model) -> None:
    view = cut.see(picture(), budget="1.0")
    cut.forget()
    fresh = [cut.ask(f"{QUESTION} {more}", image=view, max_tokens=6, stop=False) for more in ("Why?", "Where?")]
    cut.forget()
    again = cut.ask(f"{QUESTION} Where?", image=view, max_tokens=6, stop=False)
    assert fresh[1].cached_tokens > 0 and again.cached_tokens == 0
    assert fresh[1].token_ids == again.token_ids and fresh[1].inside == again.inside


def test_the_encoders_order_needs_a_tower_that_gives_it(tmp_path: Path) -> None:
    plan = {"method": "flowcut"} | plan_of(method="encoder")
    with pytest.raises(PlanError, match="which the tower of flowcut does not give"):
        export(tiny_checkpoint(**LLAVA), tmp_path / "bundle", options(("0.5",), plan=plan))


def test_a_view_of_another_plan_has_no_scores_for_a_ranking_that_reads_them(cut: Model) -> None:
    bundle = exported(LLAVA, budgets=("0.5", "1.0"), plan=plan_of(method="encoder"), stage_chunk=32, parity=False)
    view = cut.see(picture(), budget="0.5")
    with Model.open(bundle, threads=1) as model:
        assert asked(model).inside
        with pytest.raises(
            RequestError, match="made by another bundle, without scores of its tokens; see the picture again"
        ):
            asked(model, image=view, budget=None)
