"""Prompts: the checkpoint's own template and tokenizer, with pictures in their places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer

from edgeprune_runtime.errors import BundleError, PromptError
from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.prompting.prompt import Prompter, Rendered
from tests.tilings import pictures_of

IMAGE = 4


def prompter(folder: Path, template: str | None = None) -> Prompter:
    from edgeprune.models import open_checkpoint

    found = open_checkpoint(folder)
    return Prompter(
        folder / "tokenizer.json", template or found.chat_template, found.special_tokens, found.spec.image_token_id
    )


def ids_of(reader: Prompter, prompt: str, *, images: int, template: bool = True) -> list[int]:
    """Token ids with one run of rows per picture."""
    spec = pictures_of()["llava"]
    rendered = reader.render(prompt, images=images, template=template)
    ids: list[int] = reader.tokens(rendered, [pack_picture(spec.place(9, 9), spec)] * images).ids.tolist()
    return ids


@pytest.fixture(scope="module")
def words() -> Path:
    from tests.checkpoints import tiny_checkpoint

    return tiny_checkpoint()


@pytest.fixture(scope="module")
def named() -> Path:
    """SmolVLM's tokenizer, which knows the texts between tiles and joins line ends."""
    from tests.checkpoints import tiny_checkpoint

    return tiny_checkpoint(family="smolvlm")


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
    assert ids_of(prompter(folder), question, images=images) == once


@pytest.mark.parametrize(("bos", "count"), [("template", 0), ("tokenizer", 1), ("none", 0)])
def test_without_template_the_tokenizer_adds_what_it_adds(bos: str, count: int) -> None:
    from tests.checkpoints import tiny_checkpoint

    ids = ids_of(prompter(tiny_checkpoint(bos=bos)), "<image> red", images=1, template=False)
    assert ids.count(2) == count and ids.count(IMAGE) == 1


def test_a_checkpoint_without_template_puts_the_picture_first(words: Path) -> None:
    bare = Prompter(words / "tokenizer.json", None, {}, IMAGE)
    assert bare.render("red", images=1) == Rendered("<image>\nred", False)
    assert bare.render("red", images=2).text == "<image>\n<image>\nred"
    assert bare.render("red", images=0).text == "red"
    assert ids_of(bare, "red", images=1)[-2:][0] == IMAGE


@pytest.mark.parametrize(
    ("prompt", "images", "found"),
    [("red", 1, 0), ("<image> <image> red", 1, 2), ("<image> red", 0, 1)],
)
def test_pictures_and_placeholders_must_match(words: Path, prompt: str, images: int, found: int) -> None:
    with pytest.raises(PromptError, match=rf"{found} image placeholder.*{images} picture"):
        prompter(words).render(prompt, images=images, template=False)


def test_a_mark_says_where_a_picture_stands_and_one_too_many_is_refused(words: Path) -> None:
    asked = prompter(words)
    assert asked.render("what is <image>?", images=1).text.count("<image>") == 1
    assert "what is <image>" in asked.render("what is <image>?", images=1).text
    with pytest.raises(PromptError, match="2 marks <image> for 1 picture"):
        asked.render("<image> and <image>", images=1)


def test_a_prompt_that_is_no_unicode_text_is_refused(words: Path) -> None:
    with pytest.raises(PromptError):
        prompter(words).render("a \udcff b", images=0)


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
        prompter(words, template).render("red", images=0)


def test_templates_are_compiled_as_transformers_compiles_them(words: Path) -> None:
    template = (
        "{{ bos_token }}\n"
        "    {% for m in messages %}\n"
        "{% if loop.index > 3 %}{% break %}{% endif %}\n"
        "{{ m['content'][0]['text'] + ' ' + strftime_now('%Y')[:2] }}\n"
        "    {% endfor %}\n"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert prompter(words, template).render("red", images=0).text == "<s>\nred 20\n<|assistant|>"


def test_a_tokenizer_that_cannot_be_read_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match="tokenizer.json"):
        Prompter(tmp_path / "tokenizer.json", None, {}, IMAGE)


def test_a_template_that_marks_what_the_model_said_renders_its_content(words: Path) -> None:
    """`{% generation %}` blocks, which transformers knows for training masks."""
    template = (
        "{% for m in messages %}{% generation %}{{ m['content'][0]['text'] }}{% endgeneration %}{% endfor %}\n"
        "{% if add_generation_prompt %}\n    {% generation %}<|assistant|>{% endgeneration %}\n{% endif %}"
    )
    ours = prompter(words, template).render("red", images=0).text
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(words)
    messages = [{"role": "user", "content": [{"type": "text", "text": "red"}]}]
    theirs = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert ours == theirs == "red<|assistant|>"


@pytest.mark.parametrize(
    ("template", "says"), [("{{ bos_token }} red", True), ("red {{ bos_token }}", False), ("red", False)]
)
def test_a_template_that_spells_the_first_token_says_so(words: Path, template: str, says: bool) -> None:
    assert prompter(words, template).render("x", images=0).spells_bos is says
    assert not prompter(words, template).render("<s> red", images=0, template=False).spells_bos


def test_the_prompter_of_a_bundle_is_that_of_its_checkpoint(tiny_bundle: Path) -> None:
    from edgeprune_runtime import Bundle
    from tests.checkpoints import tiny_checkpoint

    asked = Prompter.of(Bundle.open(tiny_bundle, verify=False)).render("red", images=1)
    assert asked == prompter(tiny_checkpoint()).render("red", images=1)


def test_an_empty_prompt_is_refused(words: Path) -> None:
    reader = prompter(words)
    with pytest.raises(PromptError, match="empty"):
        reader.tokens(reader.render("", images=0, template=False))


# ------------------------------------------------------------------------------------------------ texts of the pictures


def picture(height: int, width: int, name: str = "smolvlm") -> PackedPicture:
    spec = pictures_of()[name]
    if name == "smolvlm":
        sequence = {
            key: value.replace("<around>", "<fake_token_around_image>").replace("<global>", "<global-img>")
            for key in ("tile", "row", "whole", "alone", "after")
            if (value := getattr(spec.sequence, key))
        }
        spec = replace_texts(spec, sequence)
    return pack_picture(spec.place(height, width), spec)


def replace_texts(spec: Any, texts: dict[str, str]) -> Any:
    return msgspec.structs.replace(spec, sequence=msgspec.structs.replace(spec.sequence, **texts))


def told(folder: Path, text: str, pictures: list[PackedPicture]) -> list[tuple[str, list[int], int]]:
    """(token, group, picture) of everything that may leave with rows."""
    reader = prompter(folder)
    tokens = reader.tokens(reader.render(text, images=len(pictures), template=False), pictures)
    spelled = [Tokenizer.from_file(str(folder / "tokenizer.json")).id_to_token(int(i)) for i in tokens.ids]
    found = zip(spelled, tokens.group.tolist(), tokens.picture.tolist(), strict=True)
    return [one for one in found if one[2] >= 0]


def test_tokens_between_tiles_belong_to_the_rows_of_their_tiles(named: Path) -> None:
    """2 x 3 tiles of four tokens: the last row's line end and the one before the overview are one token, which belongs to both."""
    wide = picture(28, 56)
    assert (wide.place.rows, wide.place.cols) == (2, 3)
    found = told(named, "red<image>blue", [wide])
    tiles = [
        (name, [4 * tile, 4 * tile + 4], 0)
        for row in (1, 2)
        for col in (1, 2, 3)
        for tile in [(row - 1) * 3 + col - 1]
        for name in ("<fake_token_around_image>", f"<row_{row}_col_{col}>")
    ]
    ends = [("Ċ", [0, 12], 0), ("ĊĊ", [12, 28], 0)]
    overview = [(name, [24, 28], 0) for name in ("<fake_token_around_image>", "<global-img>")]
    assert found == [*tiles[:6], ends[0], *tiles[6:], ends[1], *overview]


def test_several_pictures_keep_their_texts_apart(named: Path) -> None:
    found = told(named, "<image><image>", [picture(9, 9), picture(28, 84)])
    assert {number for _, _, number in found} == {0, 1}
    assert all(behind <= 40 for _, (_, behind), _ in found)


def test_a_token_that_reaches_beyond_the_texts_of_a_picture_always_stays(named: Path) -> None:
    """A line end of the question joins that of the picture."""
    spec = replace_texts(pictures_of()["smolvlm"], {"tile": "\n", "row": "", "whole": "", "after": ""})
    one = pack_picture(spec.place(28, 56), spec)
    apart, joined = (told(named, f"red{space}<image>", [one]) for space in ("", "\n"))
    assert len(apart) == 6 and len(joined) == 5


def test_tokens_of_pictures_without_texts_belong_to_nothing(words: Path) -> None:
    assert told(words, "red <image> blue", [picture(30, 70, "llava_next")]) == []


def test_the_expanded_prompt_has_a_placeholder_for_every_row(named: Path) -> None:
    reader, one = prompter(named), picture(28, 56)
    asked = reader.render("<image> red", images=1, template=False)
    expanded = reader.expanded(asked, [one])
    assert expanded.count("<image>") == one.length == 28
    assert expanded.replace("<image>" * 4, "<image>") == reader.expanded(asked, [picture_of_ones(one)])


def picture_of_ones(picture: PackedPicture) -> PackedPicture:
    """The same with runs of one row."""
    return replace(picture, segments=tuple(s if s.text else replace(s, stop=s.start + 1) for s in picture.segments))
