"""Every family: exported through the gate, and at budget 1.0 the answer is that of transformers' whole model, token for token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from edgeprune_runtime import Model, View
from edgeprune_runtime.prompting.pack import KeptPicture, pack
from edgeprune_runtime.prompting.prompt import Prompter
from tests.checkpoints import tiny_checkpoint, variant_name
from tests.exports import FAMILY_GATED, exported
from tests.references.families import expanded_ids, reference_answer, reference_logits

QUESTION = "what is the number 12?"
TOKENS = 6
#: (height, width): wide, tall, square, and smaller than a patch.
SHAPES = ((30, 150), (130, 45), (64, 64), (7, 5))
LIMITS = (("internvl", 2), ("smolvlm", 2), ("idefics3", 0), ("llava_onevision", 2), ("llava_onevision", 0))


class Subject(NamedTuple):
    """A bundle, and the checkpoint that it was made of."""

    model: Model
    folder: Path
    plan: dict[str, Any]


def picture(shape: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8))


def prompt_and_logits(model: Model, view: View) -> tuple[list[int], np.ndarray]:
    """Token ids of the prompt, an image placeholder for each row of the picture, and logits [V] of the first token."""
    manifest, prompter = model.bundle.manifest, Prompter.of(model.bundle)
    tokens = prompter.tokens(prompter.render(QUESTION, images=1), (view.picture,))
    kept = KeptPicture(view.picture, view.kept, manifest.plan.separators_for(view.selection))
    packed = pack(tokens, [kept], manifest.plan.positions_for(view.selection), manifest.picture.sequence)
    logits = model.language.prefill(model.language.compose(packed.ids, view.visual), packed.positions).copy()
    return np.where(packed.ids < 0, manifest.language.image_token_id, packed.ids).tolist(), logits


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, as a share of the reference's root mean square."""
    return float(np.abs(ours - theirs).max() / np.sqrt(np.mean(theirs**2)))


@pytest.fixture(scope="module", params=FAMILY_GATED, ids=[variant_name(variant) for variant, _ in FAMILY_GATED])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    variant, plan = request.param
    with Model.open(exported(variant, plan=plan), threads=1) as model:
        yield Subject(model, tiny_checkpoint(**variant), plan)


def test_the_gate_passes_and_holds_the_whole_forward_pass_of_transformers(subject: Subject) -> None:
    report = subject.model.bundle.manifest.parity
    assert report.skipped is None and report.pictures == 2 and all(check.passed for check in report.checks)
    for budget in ("0.2", "1.0"):
        about = {check.name.split(":")[-1].strip() for check in report.checks if check.budget == budget}
        assert about >= {"logits", "projected tokens", "indices equal the method's"}
        assert any(name.startswith("greedy text of") for name in about)
    # Only where transformers' own processor and model ran are its token ids known.
    assert {check.budget for check in report.checks if "token ids equal the library's" in check.name} == {"1.0"}


def test_the_prompt_and_its_logits_are_those_of_transformers(subject: Subject) -> None:
    for shape in SHAPES:
        view = subject.model.see(picture(shape), budget="1.0")
        ids, logits = prompt_and_logits(subject.model, view)
        assert ids == expanded_ids(subject.folder, picture(shape), QUESTION), shape
        assert apart(logits, reference_logits(subject.folder, picture(shape), QUESTION)) < 2e-3, shape


def test_the_greedy_answer_is_that_of_transformers(subject: Subject) -> None:
    for shape in SHAPES:
        ours = subject.model.ask(QUESTION, image=picture(shape), budget="1.0", max_tokens=TOKENS)
        assert list(ours.token_ids) == reference_answer(subject.folder, picture(shape), QUESTION, TOKENS), shape


def test_k_is_exact_and_pictures_with_fewer_tokens_keep_them_all(subject: Subject) -> None:
    manifest = subject.model.bundle.manifest
    by_picture = subject.plan.get("budget_of") == "picture"
    for shape in SHAPES:
        view = subject.model.see(picture(shape), budget="0.2", question=QUESTION)
        own = manifest.picture.tokens_of(view.picture.place)
        candidates = own if by_picture else manifest.picture.candidates_max
        assert view.selection.keep == round(candidates * 0.2)
        assert len(view.kept) == len(view.visual) == min(view.selection.keep, view.picture.candidates)
        slots = view.picture.slot.reshape(-1)[view.kept]
        assert (slots >= 0).all() and (np.diff(slots) > 0).all()


def test_dropping_changes_the_answer_and_a_smaller_prompt_still_gives_one(subject: Subject) -> None:
    logits = {}
    for budget in ("0.2", "1.0"):
        view = subject.model.see(picture(SHAPES[0]), budget=budget, question=QUESTION)
        ids, logits[budget] = prompt_and_logits(subject.model, view)
        assert len(ids) == subject.model.ask(QUESTION, image=view, max_tokens=1).prompt_tokens
    assert np.isfinite(logits["0.2"]).all()
    assert apart(logits["0.2"], logits["1.0"]) > 1e-2


# ------------------------------------------------------------------------------------------------------- fewer tiles


@pytest.mark.parametrize(("family", "tiles"), LIMITS)
def test_a_limit_of_tiles_at_export_is_the_limit_of_a_request(family: str, tiles: int) -> None:
    variant = {"family": family}
    limited = exported(variant, budgets=["1.0"], plan={"method": "uniform"}, tiles=tiles)
    whole = exported(variant, budgets=["1.0"], plan={"method": "uniform"}, parity=False)
    with Model.open(limited, threads=1) as few, Model.open(whole, threads=1) as all_:
        few_spec, spec = few.bundle.manifest.picture, all_.bundle.manifest.picture
        assert few_spec.tiling == spec.limited(tiles).tiling
        assert few_spec.tiles_max < spec.tiles_max and few.bundle.manifest.language.capacity < 400
        assert all(check.passed for check in few.bundle.manifest.parity.checks)
        for shape in SHAPES:
            one, other = few.see(picture(shape)), all_.see(picture(shape), tiles=tiles)
            assert one.picture.place == other.picture.place and one.picture.tiles <= max(tiles, 1) + 1
            assert apart(prompt_and_logits(few, one)[1], prompt_and_logits(all_, other)[1]) < 1e-4
            answers = [model.ask(QUESTION, image=v, max_tokens=TOKENS) for model, v in ((few, one), (all_, other))]
            assert answers[0].token_ids == answers[1].token_ids
