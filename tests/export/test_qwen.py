"""Qwen-VL: exported through the gate, equal to transformers at budget 1.0, and below it to its decoder on the rows that are left.

Every variant has another trap (tests/checkpoints.py); pictures of several shapes come to several grids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from edgeprune.errors import PlanError
from edgeprune.models import open_checkpoint
from edgeprune_runtime import Model, Turn, View
from edgeprune_runtime.errors import PromptError
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.prompting.pack import KeptPicture, Packed, pack
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.prompting.turns import MARK, Prompt
from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tests.exports import exported
from tests.references.qwen_generate import library_positions, noise, qwen_answer, qwen_inputs
from tests.references.qwen_grids import nearest_grid
from tests.references.qwen_masked import packed_answer, packed_run
from tests.references.qwen_pixels import library_pixels, stretched, unflattened

TOKENS = 6
QUESTION = "what is the number 12?"
#: (height, width): of each a grid of its own.
SHAPES = ((60, 60), (30, 110), (140, 45))
#: A plan for each variant: with the positions, every way of choosing that fits meets windows, deepstack and other merges.
PLANS: tuple[dict[str, Any], ...] = (
    {"method": "divprune"},
    {"method": "received", "positions": "renumber"},
    {"method": "downsample", "budget_of": "picture"},
    {"method": "dart"},
    {"method": "cdpruner"},
    {"method": "received"},
    {"method": "mmtok", "positions": "renumber"},
    {"method": "hiprune"},
    {"method": "downsample"},
    {"method": "vflowopt", "budget_of": "picture"},
)


class Subject(NamedTuple):
    """A bundle, the checkpoint that it was made of, and its plan."""

    model: Model
    folder: Path
    plan: dict[str, Any]

    def size(self, image: Image.Image) -> tuple[int, int]:
        """The grid that this picture gets."""
        view = self.model.bundle.manifest.picture.place(image.height, image.width).view
        assert view is not None
        return view


def sizes_of(variant: dict[str, Any]) -> list[list[int]]:
    """A square, a wide and a tall grid, of several windows where there are windows."""
    spec = open_checkpoint(tiny_checkpoint(**variant)).spec
    step = spec.vision.patch_px * (spec.vision.window or 2 * spec.connector.merge)
    return [[2 * step, 2 * step], [step, 3 * step], [3 * step, step]]


@pytest.fixture(scope="module", params=zip(QWEN_VARIANTS, PLANS, strict=True), ids=map(variant_name, QWEN_VARIANTS))
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    variant, plan = request.param
    bundle = exported(variant, plan=plan, sizes=sizes_of(variant), pictures=2, text_tokens=160)
    with Model.open(bundle, threads=1) as model:
        yield Subject(model, tiny_checkpoint(**variant), plan)


def asked(image: Image.Image) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]}]


def composed(model: Model, prompt: Prompt, *views: View) -> Packed:
    """The prompt as the runtime packs it."""
    manifest, prompter = model.bundle.manifest, Prompter.of(model.bundle)
    tokens = prompter.tokens(prompter.render(prompt, images=len(views)), [view.picture for view in views])
    kept = [KeptPicture(view.picture, view.kept, manifest.plan.separators_for(view.selection)) for view in views]
    positions = manifest.plan.positions_for(*(view.selection for view in views))
    return pack(tokens, kept, positions, manifest.picture.sequence)


def kept_in_grid(view: View) -> list[int]:
    """Numbers of the kept tokens row by row in their grid."""
    slots = view.picture.slot.reshape(-1)[view.kept]
    return [int(slot) for slot in slots]


def test_the_gate_passes_on_several_grids(subject: Subject) -> None:
    report = subject.model.bundle.manifest.parity
    assert report.skipped is None and all(check.passed for check in report.checks)
    about = {check.name.split(":")[-1].strip() for check in report.checks if check.budget == "1.0"}
    assert about >= {"logits", "projected tokens", "indices equal the method's", "token ids equal the library's"}
    assert len(subject.model.bundle.manifest.picture.views) == 3


def test_pixels_are_those_of_the_library(subject: Subject) -> None:
    spec = open_checkpoint(subject.folder).spec
    for shape in SHAPES:
        image = noise(*shape)
        rows, grid = library_pixels(subject.folder, stretched(image, subject.size(image)))
        theirs = unflattened(rows, *grid, spec.vision.patch_px, spec.connector.merge)
        ours = tiles_from_image(image, subject.model.bundle.manifest.picture)
        np.testing.assert_allclose(ours[0], theirs, atol=1e-6)


def test_the_greedy_answer_is_that_of_transformers(subject: Subject) -> None:
    for shape in SHAPES:
        image = noise(*shape)
        ours = subject.model.ask(QUESTION, image=image, budget="1.0", max_tokens=TOKENS)
        theirs = qwen_answer(subject.folder, asked(image), [subject.size(image)], max_new_tokens=TOKENS)
        assert list(ours.token_ids) == theirs, shape


def test_three_turns_about_two_pictures_are_answered_as_by_transformers(subject: Subject) -> None:
    first, second = noise(*SHAPES[1], 1), noise(*SHAPES[2], 2)
    dialogue = [
        Turn("user", f"look at this: {MARK}what is the colour?"),
        Turn("assistant", "red"),
        Turn("user", f"{MARK} and in this picture?"),
    ]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [_text("look at this: "), _shown(first), _text("what is the colour?")]},
        {"role": "assistant", "content": [_text("red")]},
        {"role": "user", "content": [_shown(second), _text(" and in this picture?")]},
    ]
    sizes = [subject.size(first), subject.size(second)]
    ours = subject.model.ask(dialogue, image=[first, second], budget="1.0", max_tokens=TOKENS)
    assert list(ours.token_ids) == qwen_answer(subject.folder, messages, sizes, max_new_tokens=TOKENS)
    assert [one.grid for one in ours.pictures] == sizes
    packed = composed(subject.model, dialogue, *(subject.model.see(image, budget="1.0") for image in (first, second)))
    positions, following = library_positions(subject.folder, qwen_inputs(subject.folder, messages, sizes))
    np.testing.assert_array_equal(packed.positions, positions)
    assert packed.next_position == following


def test_what_is_left_is_answered_as_by_the_decoder_on_those_rows(subject: Subject) -> None:
    for shape in SHAPES:
        image = noise(*shape)
        view = subject.model.see(image, budget="0.2", question=QUESTION)
        if view.selection.method == "downsample":  # rows are means: the gate holds them
            return
        inputs = qwen_inputs(subject.folder, asked(image), [subject.size(image)])
        packed, kept = composed(subject.model, QUESTION, view), [kept_in_grid(view)]
        at: dict[str, Any] = {}
        if subject.plan.get("positions") == "renumber":
            at = {"positions": packed.positions, "following": packed.next_position}
        ours = subject.model.language.prefill(
            subject.model.language.compose(packed.ids, view.visual), packed.positions
        ).copy()
        theirs = packed_run(subject.folder, inputs, kept, **at).logits[-1]
        assert np.abs(ours - theirs).max() < 2e-3 * theirs.std(), shape
        if not at:
            answer = subject.model.ask(QUESTION, image=view, max_tokens=TOKENS)
            assert list(answer.token_ids) == packed_answer(subject.folder, inputs, kept, max_new_tokens=TOKENS)


def test_a_text_alone_is_answered_as_by_transformers(subject: Subject) -> None:
    ours = subject.model.ask(QUESTION, max_tokens=TOKENS)
    theirs = qwen_answer(subject.folder, [{"role": "user", "content": [_text(QUESTION)]}], max_new_tokens=TOKENS)
    assert list(ours.token_ids) == theirs


def test_k_is_exact_on_every_grid(subject: Subject) -> None:
    spec = subject.model.bundle.manifest.picture
    for shape in SHAPES:
        view = subject.model.see(noise(*shape), budget="0.2", question=QUESTION)
        own = spec.tokens_of(view.picture.place)
        candidates = own if subject.plan.get("budget_of") == "picture" else spec.candidates_max
        assert view.selection.keep == round(candidates * 0.2) and view.picture.candidates == own
        assert len(view.kept) == len(view.visual) == min(view.selection.keep, own)
        slots = view.picture.slot.reshape(-1)[view.kept]
        assert (slots >= 0).all() and (np.diff(slots) > 0).all()


def test_a_picture_gets_the_grid_that_stretches_it_least(subject: Subject) -> None:
    spec = subject.model.bundle.manifest.picture
    draw = np.random.default_rng(0)
    for height, width in draw.integers(1, 400, (200, 2)).tolist():
        assert spec.place(height, width).view == nearest_grid((height, width), spec.views)


# ------------------------------------------------------------------------------------------------------- what is refused


def test_a_grid_that_cuts_a_window_names_the_nearest() -> None:
    folder = tiny_checkpoint(**QWEN_VARIANTS[3])
    with pytest.raises(PlanError, match="multiples of 32 pixels; the nearest is 64x32"):
        open_checkpoint(folder, sizes=[(64, 40)])
    with pytest.raises(PlanError, match="less than the smallest grid, 32x32 pixels, has: 4"):
        open_checkpoint(folder, tokens=3)


def test_grids_are_not_for_models_whose_tiles_have_one_size() -> None:
    with pytest.raises(PlanError, match="one's tiles have .* pixels a side"):
        open_checkpoint(tiny_checkpoint(family="internvl"), tokens=64)


def test_more_pictures_than_there_is_room_for_are_refused_and_the_model_goes_on(subject: Subject) -> None:
    images = [noise(*SHAPES[0], seed) for seed in range(24)]
    with pytest.raises(PromptError, match="--max-images"):
        subject.model.ask(QUESTION, image=images, budget="1.0")
    with pytest.raises(PromptError, match="1 marks <image> for 2 picture"):
        subject.model.ask(f"{MARK} {QUESTION}", image=images[:2])
    assert subject.model.ask(QUESTION, image=images[0], max_tokens=1).visual_tokens


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _shown(image: Image.Image) -> dict[str, Any]:
    return {"type": "image", "image": image}
