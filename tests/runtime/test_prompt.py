"""Prompts: the checkpoint's own template and tokenizer, and where visual tokens and newlines go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune_runtime.errors import BundleError, PromptError
from edgeprune_runtime.pictures.packed import Layout, layout_from_size
from edgeprune_runtime.prompting.prompt import Prompter, pack
from edgeprune_runtime.spec import Preprocess

IMAGE = 4
NEXT = Preprocess(
    anyres=True,
    tile_px=16,
    patches=2,
    pinpoints=((16, 32), (32, 32)),
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
)
SINGLE = Preprocess(
    anyres=False, tile_px=16, patches=2, pinpoints=(), mean=(0.5,) * 3, std=(0.5,) * 3, resize_shortest=16
)
BEFORE, AFTER = [2, 9], [8, 7, 6]


class FakeBundle:
    """What a Prompter reads of a bundle, from a checkpoint folder."""

    def __init__(self, folder: Path, template: str | None, special: dict[str, str]) -> None:
        self.root, self._template = folder, template
        files = {"tokenizer.json": None} | ({} if template is None else {"chat_template.jinja": None})
        language = SimpleNamespace(image_token_id=IMAGE)
        self.manifest = SimpleNamespace(language=language, special_tokens=special, files=files)

    def path(self, name: str) -> Path:
        return self.root / name

    def text(self, name: str) -> str:
        assert self._template is not None
        return self._template


def prompter(folder: Path, template: str | None = None) -> Prompter:
    from edgeprune.models import open_checkpoint

    checkpoint = open_checkpoint(folder)
    fake: Any = FakeBundle(folder, template or checkpoint.chat_template, dict(checkpoint.special_tokens))
    return Prompter(fake)


@pytest.fixture(scope="module")
def words() -> Path:
    from tests.checkpoints import tiny_checkpoint

    return tiny_checkpoint()


# ----------------------------------------------------------------------------------------------- template and tokens


@pytest.mark.parametrize("bos", ["template", "tokenizer", "none"])
@pytest.mark.parametrize("tokenizer", ["words", "bytes"])
@pytest.mark.parametrize("images", [0, 1])
def test_ids_equal_those_of_the_transformers_processor(bos: str, tokenizer: str, images: int) -> None:
    """A template may leave the first token to the tokenizer, as LLaVA-1.5's and Mistral's do; it comes exactly once."""
    transformers = pytest.importorskip("transformers")
    from tests.checkpoints import tiny_checkpoint

    folder = tiny_checkpoint(bos=bos, tokenizer=tokenizer)
    question = "what is the number 12?"
    content: list[dict[str, Any]] = [{"type": "image", "image": np.zeros((40, 40, 3), np.uint8)}] * images
    content += [{"type": "text", "text": question}]
    processor = transformers.AutoProcessor.from_pretrained(folder)
    theirs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    ids = np.asarray(theirs["input_ids"]).reshape(-1)
    once = [int(token) for i, token in enumerate(ids) if token != IMAGE or i == 0 or ids[i - 1] != IMAGE]
    assert prompter(folder).ids(question, images=images) == once


@pytest.mark.parametrize(("bos", "count"), [("template", 0), ("tokenizer", 1), ("none", 0)])
def test_without_template_the_tokenizer_adds_what_it_adds(bos: str, count: int) -> None:
    from tests.checkpoints import tiny_checkpoint

    ids = prompter(tiny_checkpoint(bos=bos)).ids("<image> red", images=1, template=False)
    assert ids.count(2) == count and ids.count(IMAGE) == 1


def test_a_checkpoint_without_template_puts_the_picture_first(words: Path) -> None:
    fake: Any = FakeBundle(words, None, {})
    bare = Prompter(fake)
    assert bare.rendered("red", images=1) == "<image>\nred"
    assert bare.rendered("red", images=0) == "red"
    assert bare.ids("red", images=1)[-2:][0] == IMAGE


@pytest.mark.parametrize(
    ("prompt", "images", "found"),
    [("red", 1, 0), ("<image> <image> red", 1, 2), ("<image> red", 0, 1)],
)
def test_pictures_and_placeholders_must_match(words: Path, prompt: str, images: int, found: int) -> None:
    with pytest.raises(PromptError, match=rf"{found} image placeholder.*{images} picture"):
        prompter(words).ids(prompt, images=images, template=False)


def test_a_placeholder_inside_a_question_is_refused(words: Path) -> None:
    with pytest.raises(PromptError, match="contains the image placeholder"):
        prompter(words).ids("what is <image>?", images=1)


def test_a_prompt_that_is_no_unicode_text_is_refused(words: Path) -> None:
    with pytest.raises(PromptError):
        prompter(words).ids("a \udcff b", images=0)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('only one turn') }}", "only one turn"),
        ("{% for", "failed"),
        ("{{ missing.field }}", "failed"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "failed"),
        ("{{ messages.append(1) }}", "failed"),
        ("{{ 1 / 0 }}", "failed"),
    ],
)
def test_a_template_that_fails_is_a_prompt_error(words: Path, template: str, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        prompter(words, template).ids("red", images=0)


def test_templates_are_compiled_as_transformers_compiles_them(words: Path) -> None:
    template = (
        "{{ bos_token }}\n"
        "    {% for m in messages %}\n"
        "{% if loop.index > 3 %}{% break %}{% endif %}\n"
        "{{ m['content'][0]['text'] + ' ' + strftime_now('%Y')[:2] }}\n"
        "    {% endfor %}\n"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert prompter(words, template).rendered("red", images=0) == "<s>\nred 20\n<|assistant|>"


def test_a_tokenizer_that_cannot_be_read_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    fake: Any = FakeBundle(tmp_path, None, {})
    with pytest.raises(BundleError, match="tokenizer.json"):
        Prompter(fake)


# ------------------------------------------------------------------------------------------------------------ packing


def square() -> Layout:
    """2 x 2 tiles of 2 x 2 tokens: thumbnail 0..3, then rows of four and a newline: 4 5 6 7 nl / 9 10 11 12 nl / ..."""
    return layout_from_size(50, 50, NEXT)


def packed(layout: Layout, kept: list[int], newlines: str, positions: str) -> tuple[list[int], list[int], int]:
    result = pack([*BEFORE, IMAGE, *AFTER], IMAGE, layout, np.asarray(kept, np.int64), newlines, positions)
    return result.ids.tolist(), result.positions.tolist(), result.next_position


def by_slot(layout: Layout) -> list[int]:
    flat = layout.slot.reshape(-1)
    return [int(i) for i in np.argsort(flat, kind="stable") if flat[i] >= 0]


def test_everything_kept_is_the_unpruned_sequence() -> None:
    layout = square()
    for positions in ("keep", "renumber"):
        ids, where, following = packed(layout, by_slot(layout), "all", positions)
        inside = np.full(layout.length, -1)
        inside[layout.newline_slots] = -2
        assert ids == [*BEFORE, *inside, *AFTER]
        assert where == list(range(len(ids))) and following == len(ids)


def test_kept_tokens_keep_their_positions_and_text_follows_where_it_would_have() -> None:
    layout = square()  # flat 0 3 -> slots 0 3; flat 6 -> tile 1, second row: slot 9; flat 19 -> the last, slot 22
    ids, where, following = packed(layout, [0, 3, 6, 19], "all", "keep")
    assert ids == [2, 9, -1, -1, -2, -1, -2, -2, -1, -2, 8, 7, 6]
    assert where == [0, 1, 2, 5, 10, 11, 15, 20, 24, 25, 26, 27, 28]
    assert following == 2 + layout.length + 3 == 29


def test_renumbered_positions_are_contiguous() -> None:
    ids, where, following = packed(square(), [0, 3, 6, 19], "all", "renumber")
    assert where == list(range(len(ids))) and following == len(ids)


@pytest.mark.parametrize(
    ("kept", "rows"),
    [
        ([0, 3], []),
        ([0, 6, 19], [1, 3]),
        ([4], [0]),
        ([5, 8, 6], [0, 1]),
        ([19], [3]),
        ([0, 4, 6, 12, 14], [0, 1, 2, 3]),
    ],
)
def test_rows_keep_their_newline_when_they_keep_a_token(kept: list[int], rows: list[int]) -> None:
    layout = square()
    kept = sorted(kept, key=lambda i: int(layout.slot.flat[i]))
    ids, where, _ = packed(layout, kept, "rows", "keep")
    newlines = [position - len(BEFORE) for token, position in zip(ids, where, strict=True) if token == -2]
    assert newlines == [int(layout.newline_slots[row]) for row in rows]
    ids, where, _ = packed(layout, kept, "none", "keep")
    assert ids.count(-2) == 0 and ids.count(-1) == len(kept)


def test_thin_pictures_pack() -> None:
    wide, tall = layout_from_size(3, 300, NEXT), layout_from_size(300, 3, NEXT)
    assert wide.mosaic[0] == 0 and tall.mosaic[1] == 0
    for policy in ("all", "rows", "none"):
        ids, _, following = packed(wide, [0, 1, 2, 3], policy, "keep")
        assert ids == [2, 9, -1, -1, -1, -1, 8, 7, 6] and following == 9
        ids, _, following = packed(tall, [0, 1, 2, 3], policy, "keep")
        assert ids.count(-2) == (tall.mosaic[0] if policy == "all" else 0)
        assert following == 2 + tall.length + 3


def test_llava_1_5_has_no_newlines() -> None:
    ids, where, following = packed(layout_from_size(30, 20, SINGLE), [1, 3], "all", "keep")
    assert ids == [2, 9, -1, -1, 8, 7, 6]
    assert where == [0, 1, 3, 5, 6, 7, 8] and following == 9


def test_text_alone_is_its_own_sequence() -> None:
    result = pack([5, 6, 7], IMAGE, None, np.zeros(0, np.int64), "all", "keep")
    assert result.ids.tolist() == [5, 6, 7] and result.positions.tolist() == [0, 1, 2] and result.next_position == 3


@pytest.mark.parametrize(("before", "after"), [([], []), ([1], []), ([], [1])])
def test_the_placeholder_may_stand_anywhere(before: list[int], after: list[int]) -> None:
    layout = square()
    result = pack([*before, IMAGE, *after], IMAGE, layout, np.asarray([0]), "none", "keep")
    assert result.ids.tolist() == [*before, -1, *after]
    assert result.next_position == len(before) + layout.length + len(after)
