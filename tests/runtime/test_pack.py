"""Which rows of a prompt stay and where they stand: as plain loops say it, and as numbers written down."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import Grids, Single, TileSpec
from edgeprune_runtime.prompting.pack import LEARNED, VISUAL, KeptPicture, Packed, PromptTokens, pack
from edgeprune_runtime.prompting.prompt import Prompter, Rendered
from edgeprune_runtime.spec import Positions, Separators
from tests.references.packing import packed_prompt, picture_items
from tests.references.qwen_positions import packed_positions
from tests.tilings import MOSAIC, PLAIN, canvases, tile_spec

IMAGE = 4
NEXT = PictureSpec(tile_spec(16, 2), canvases(16, (1, 2), (2, 2)), MOSAIC)
SINGLE = PictureSpec(tile_spec(16, 2), Single(resize_shortest=16), PLAIN)
BEFORE, AFTER = [2, 9], [8, 7, 6]
ONE = SequenceSpec()  # positions of one axis
SEPARATORS: tuple[Separators, ...] = ("all", "rows", "none")


def picture_of(height: int, width: int, spec: PictureSpec = NEXT) -> PackedPicture:
    return pack_picture(spec.place(height, width), spec)


def square() -> PackedPicture:
    """2 x 2 tiles of 2 x 2 tokens: overview 0..3, then rows of four and a newline: 4 5 6 7 nl / 9 10 11 12 nl / ..."""
    return picture_of(50, 50)


def plain(ids: list[int]) -> PromptTokens:
    """Tokens none of which belongs to a picture."""
    return PromptTokens(np.asarray(ids, np.int64), IMAGE, np.full((len(ids), 2), -1), np.full(len(ids), -1))


def packed(
    picture: PackedPicture, kept: list[int], separators: Separators, positions: Positions
) -> tuple[list[int], list[int], int]:
    return _lists(
        pack(
            plain([*BEFORE, IMAGE, *AFTER]),
            [KeptPicture(picture, np.asarray(kept, np.int64), separators)],
            positions,
            ONE,
        )
    )


def _lists(result: Packed) -> tuple[list[int], list[int], int]:
    assert result.positions.shape == (1, len(result.ids))
    return result.ids.tolist(), result.positions[0].tolist(), result.next_position


def by_slot(picture: PackedPicture) -> list[int]:
    flat = picture.slot.reshape(-1)
    return [int(i) for i in np.argsort(flat, kind="stable") if flat[i] >= 0]


# ------------------------------------------------------------------------------------------------------- numbers by hand


def test_everything_kept_is_the_unpruned_sequence() -> None:
    picture = square()
    positions: tuple[Positions, ...] = ("keep", "renumber")
    for policy in positions:
        ids, where, following = packed(picture, by_slot(picture), "all", policy)
        assert ids == [*BEFORE, *np.where(picture.unit >= 0, VISUAL, LEARNED), *AFTER]
        assert where == list(range(len(ids))) and following == len(ids)


def test_kept_tokens_keep_their_positions_and_text_follows_where_it_would_have() -> None:
    picture = square()  # flat 0 3 -> slots 0 3; flat 6 -> tile 1, second row: slot 9; flat 19 -> the last, slot 22
    ids, where, following = packed(picture, [0, 3, 6, 19], "all", "keep")
    assert ids == [2, 9, -1, -1, -2, -1, -2, -2, -1, -2, 8, 7, 6]
    assert where == [0, 1, 2, 5, 10, 11, 15, 20, 24, 25, 26, 27, 28]
    assert following == 2 + picture.length + 3 == 29


def test_renumbered_positions_are_contiguous() -> None:
    ids, where, following = packed(square(), [0, 3, 6, 19], "all", "renumber")
    assert where == list(range(len(ids))) and following == len(ids) == 13


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
    picture = square()
    kept = sorted(kept, key=lambda i: int(picture.slot.flat[i]))
    ids, where, _ = packed(picture, kept, "rows", "keep")
    newlines = [position - len(BEFORE) for token, position in zip(ids, where, strict=True) if token == LEARNED]
    learned = np.flatnonzero(picture.unit < 0)
    assert newlines == [int(learned[row]) for row in rows]
    ids, where, _ = packed(picture, kept, "none", "keep")
    assert ids.count(LEARNED) == 0 and ids.count(VISUAL) == len(kept)


def test_thin_pictures_pack() -> None:
    wide, tall = picture_of(3, 300), picture_of(300, 3)
    assert wide.canvas[0] == 0 and tall.canvas[1] == 0
    for policy in SEPARATORS:
        ids, _, following = packed(wide, [0, 1, 2, 3], policy, "keep")
        assert ids == [2, 9, -1, -1, -1, -1, 8, 7, 6] and following == 9
        ids, _, following = packed(tall, [0, 1, 2, 3], policy, "keep")
        assert ids.count(LEARNED) == (tall.canvas[0] if policy == "all" else 0)
        assert following == 2 + tall.length + 3


def test_llava_1_5_has_no_newlines() -> None:
    ids, where, following = packed(picture_of(30, 20, SINGLE), [1, 3], "all", "keep")
    assert ids == [2, 9, -1, -1, 8, 7, 6]
    assert where == [0, 1, 3, 5, 6, 7, 8] and following == 9


def test_text_alone_is_its_own_sequence() -> None:
    assert _lists(pack(plain([5, 6, 7]), (), "keep", ONE)) == ([5, 6, 7], [0, 1, 2], 3)


@pytest.mark.parametrize(("before", "after"), [([], []), ([1], []), ([], [1])])
def test_the_placeholder_may_stand_anywhere(before: list[int], after: list[int]) -> None:
    picture = square()
    result = pack(plain([*before, IMAGE, *after]), [KeptPicture(picture, np.asarray([0]), "none")], "keep", ONE)
    assert result.ids.tolist() == [*before, VISUAL, *after]
    assert result.next_position == len(before) + picture.length + len(after)


def test_two_pictures_stand_one_behind_the_other() -> None:
    single, mosaic = picture_of(30, 20, SINGLE), square()
    kept = KeptPicture(single, np.asarray([1]), "rows"), KeptPicture(mosaic, np.asarray([6, 19]), "rows")
    ids, where, following = _lists(pack(plain([9, IMAGE, 8, IMAGE, 7]), kept, "keep", ONE))
    assert ids == [9, -1, 8, -1, -2, -1, -2, 7]
    assert where == [0, 2, 5, 6 + 9, 6 + 13, 6 + 22, 6 + 23, 6 + 24] and following == 31


# ------------------------------------------------------------------------------------------------------ texts and tiles


@functools.cache
def family(name: str, tokenizer: str) -> tuple[PictureSpec, Prompter, Any]:
    """How a made checkpoint of this family shows pictures, and its tokenizer twice: as the product reads it, and bare."""
    from edgeprune.models import open_checkpoint
    from tests.checkpoints import tiny_checkpoint

    folder: Path = tiny_checkpoint(family=name, tokenizer=tokenizer)
    spec = open_checkpoint(folder).spec
    reader = Prompter(folder / "tokenizer.json", None, {}, spec.image_token_id)
    return spec.picture, reader, Tokenizer.from_file(str(folder / "tokenizer.json"))


def placeholder(reader: Prompter) -> str:
    return reader.render("", images=1).text.strip()


def text_of(tokenizer: Any, ids: list[int]) -> str:
    """Tokens as they are spelled, * for a visual row and | for a learned one."""
    return "".join({VISUAL: "*", LEARNED: "|"}.get(i) or tokenizer.id_to_token(i) for i in ids)


def small_smolvlm(kept: list[int], separators: Separators) -> tuple[str, list[int], int]:
    """A picture of 1 x 2 tiles and its overview, nine tokens each, between two words: what stays of it, and where."""
    spec, reader, tokenizer = family("smolvlm", "words")
    picture = pack_picture(spec.limited(2).place(40, 90), spec)
    assert (picture.place.rows, picture.place.cols, picture.tile_order) == (1, 2, (1, 2, 0))
    tokens = reader.tokens(Rendered("red<image>blue", False), [picture])
    ids, where, following = _lists(pack(tokens, [KeptPicture(picture, np.asarray(kept), separators)], "keep", ONE))
    return text_of(tokenizer, ids), where, following


FAKE = "<fake_token_around_image>"


@pytest.mark.parametrize(
    ("kept", "rows"),
    [
        ([9, 10], f"red{FAKE}<row_1_col_1>**ĊĊ{FAKE}blue"),  # tile 1 alone: the joined line end is also that of its row
        ([26], f"red{FAKE}<row_1_col_2>*ĊĊ{FAKE}blue"),
        (
            [0, 8],
            f"redĊĊ{FAKE}<global-img>**{FAKE}blue",
        ),  # the overview alone: the same token, which is also the overview's
        ([9, 18, 0], f"red{FAKE}<row_1_col_1>*{FAKE}<row_1_col_2>*ĊĊ{FAKE}<global-img>*{FAKE}blue"),
    ],
)
def test_texts_stay_with_the_rows_they_stand_for(kept: list[int], rows: str) -> None:
    assert small_smolvlm(kept, "rows")[0] == rows
    stars = "*" * len(kept)
    assert small_smolvlm(kept, "none")[0] == f"red{stars}{FAKE}blue", "what closes the picture is no separator"
    whole, _, _ = small_smolvlm(kept, "all")
    texts = f"red{FAKE}<row_1_col_1>{FAKE}<row_1_col_2>ĊĊ{FAKE}<global-img>{FAKE}blue"
    assert whole.replace("*", "") == texts and whole.count("*") == len(kept)


def test_positions_count_the_texts_that_left() -> None:
    """red, 2 texts, 9 rows, 2 texts, 9 rows, the line ends, 2 texts, 9 rows, the closing text, blue."""
    _, where, following = small_smolvlm([10, 26, 8], "none")
    assert where == [0, 1 + 2 + 1, 12 + 2 + 8, 23 + 3 + 8, 35, 36] and following == 37
    _, where, _ = small_smolvlm([10, 26, 8], "all")
    assert where == [0, 1, 2, 4, 12, 13, 22, 23, 24, 25, 34, 35, 36]


def test_a_picture_of_one_tile_keeps_or_loses_its_own_text() -> None:
    spec, reader, tokenizer = family("smolvlm", "words")
    picture = pack_picture(spec.limited(0).place(40, 90), spec)
    tokens = reader.tokens(Rendered("red<image>", False), [picture])
    found = [
        text_of(tokenizer, pack(tokens, [KeptPicture(picture, np.asarray([3]), s)], "keep", ONE).ids.tolist())
        for s in SEPARATORS
    ]
    assert found == [f"red{FAKE}<global-img>*{FAKE}"] * 2 + [f"red*{FAKE}"]


# ------------------------------------------------------------------------------------------------------- the reference


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data())
def test_packing_equals_plain_loops(data: Any) -> None:
    """Every family's sequence, up to three pictures, any text around them, any tokens kept."""
    name = data.draw(st.sampled_from(["smolvlm", "internvl", "llava_next"]))
    spec, reader, tokenizer = family(name, data.draw(st.sampled_from(["words", "bytes"])))
    separators = data.draw(st.sampled_from(SEPARATORS))
    word = st.sampled_from(["", "red", "\n", "\n\n", "red\n", "red ", " blue", "é"])
    around, pictures, ours = [data.draw(word)], [], []
    for _ in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
        picture = pack_picture(spec.limited(data.draw(st.sampled_from([None, 0, 2, 3]))).place(*size), spec)
        order = by_slot(picture)
        chosen = data.draw(st.sets(st.sampled_from(order), max_size=12) | st.just(set(order)))
        kept = [token for token in order if token in chosen]
        items = picture_items(picture.place, spec.tile.side, spec.tile.extra, spec.sequence)
        pictures.append((items, {divmod(token, spec.tile.units) for token in kept}))
        ours.append(KeptPicture(picture, np.asarray(kept, np.int64), separators))
        around.append(data.draw(word))
    token = placeholder(reader)
    tokens = reader.tokens(Rendered(token.join(around), False), [one.picture for one in ours])

    def tokenise(text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = tokenizer.encode(text)
        return encoding.ids, encoding.offsets

    expected = packed_prompt(around, pictures, token, separators, tokenise)
    assert _lists(pack(tokens, ours, "keep", ONE)) == expected
    ids, where, following = _lists(pack(tokens, ours, "renumber", ONE))
    assert (ids, where, following) == (expected[0], list(range(len(ids))), len(ids))


# ------------------------------------------------------------------------------------------------------- three axes


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_positions_of_three_axes_are_those_of_plain_loops(data: Any) -> None:
    """Any pictures on any grids, any text around them, any tokens left out: what stays stands where it stood."""
    sizes = tuple((8 * h, 8 * w) for h, w in ((2, 2), (1, 5), (4, 3)))
    unit = TileSpec(px=40, patches=5, mean=(0.5,) * 3, std=(0.5,) * 3)
    spec = PictureSpec(unit, Grids(sizes), SequenceSpec(positions="canvas"))
    texts, ids, pictures, grids, kept = [data.draw(st.integers(0, 4))], [], [], [], []
    ids += [7] * texts[0]
    for _ in range(data.draw(st.integers(1, 3))):
        picture = pack_picture(spec.place(*data.draw(st.sampled_from(sizes))), spec)
        assert picture.place.view is not None
        rows, columns = (side // 8 for side in picture.place.view)
        chosen = sorted(data.draw(st.sets(st.integers(0, rows * columns - 1), min_size=1)))
        flat = [token // columns * unit.side + token % columns for token in chosen]
        pictures.append(KeptPicture(picture, np.asarray(flat), "all"))
        grids.append((rows, columns))
        kept.append(chosen)
        texts.append(data.draw(st.integers(1, 4)))
        ids += [IMAGE] + [7] * texts[-1]
    found = pack(plain(ids), pictures, "keep", spec.sequence)
    positions, following = packed_positions(texts, grids, kept)
    np.testing.assert_array_equal(found.positions, positions)
    assert found.next_position == following
    again = pack(plain(ids), pictures, "renumber", spec.sequence)
    assert again.positions.tolist() == [list(range(len(again.ids)))] * 3 and again.next_position == len(again.ids)
