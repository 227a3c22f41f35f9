"""What the runtime returns: an encoded picture, a streamed token, an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgeprune_runtime.pictures.packed import PackedPicture
from edgeprune_runtime.pictures.spec import Coordinates
from edgeprune_runtime.pictures.tiling import TileSpec, distortion
from edgeprune_runtime.spec import SelectionSpec
from edgeprune_runtime.timing import Span
from edgeprune_runtime.vision import Encoded

#: From this change of its proportions on, the answer about a picture says so.
_BENT = 1.1


@dataclass(frozen=True)
class ShownPicture:
    """One picture of a prompt, as the model saw it.

    size         (height, width) of the picture in pixels
    grid         (height, width) that it was resized to, where the model takes any size; None: tiles of one size
    coordinates  how the model names places: "pixels" of the grid, or "thousandths" of the picture's sides; None: it is not known to
    """

    size: tuple[int, int]
    grid: tuple[int, int] | None
    coordinates: Coordinates | None
    budget: str
    method: str
    visual_tokens: int
    kept: tuple[tuple[int, int, int], ...]

    @property
    def distortion(self) -> float:
        """By which factor its proportions changed, at least 1."""
        return 1.0 if self.grid is None else distortion(self.size, self.grid)

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """Where in the picture, in its own pixels, the place (x, y) is that an answer names."""
        height, width = self.size
        if self.coordinates == "thousandths":
            return x * width / 1000, y * height / 1000
        tall, wide = self.grid or self.size
        return x * width / wide, y * height / tall


@dataclass(frozen=True, eq=False)
class View:
    """An encoded picture under one budget: ask about it as often as you like without encoding it again.

    visual [k, D]; kept [k] flat token indices; `notes` are sentences for the user about what happened. salience [k]: the encoder's score of
    kept tokens, where the bundle ranks by it. joined: flat indices of tokens that merged with a kept one inside the tower.
    encoded: there for a method that looks at the question, which keeps tokens anew for each one; `question` is the one these are for.
    """

    selection: SelectionSpec
    picture: PackedPicture
    tile: TileSpec
    visual: np.ndarray
    kept: np.ndarray
    notes: tuple[str, ...]
    spans: tuple[Span, ...]
    encoded: Encoded | None = None
    question: str | None = None
    coordinates: Coordinates | None = None
    salience: np.ndarray | None = None
    joined: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def places(self) -> np.ndarray:
        """Row and column of kept tokens on their canvas: [k, 2]."""
        places: np.ndarray = self.picture.places.reshape(-1, 2)[self.kept]
        return places

    @property
    def triples(self) -> tuple[tuple[int, int, int], ...]:
        """Kept tokens as (tile, row, column); tile 0 is the overview, or the only tile."""
        return self.picture.triples(self.kept.tolist(), self.tile)

    @property
    def shown(self) -> ShownPicture:
        """What an answer says about this picture."""
        place, chosen = self.picture.place, self.selection
        return ShownPicture(
            place.size, place.view, self.coordinates, chosen.budget, chosen.method, len(self.kept), self.triples
        )


@dataclass(frozen=True)
class Answer:
    """One answer.

    `spans` holds every stage that ran for it, "decode" once per further token; a View that was made before brings none. Of the prompt's
    tokens, the first `cached_tokens` lay in the cache from the prompt before and were not computed again. Budget, method and kept tokens
    are those of all pictures together; `pictures` has each. `inside`: visual rows of each stage into which not all go.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length", "capacity"]
    prompt_tokens: int
    visual_tokens: int
    budget: str | None
    method: str | None
    kept: tuple[tuple[int, int, int], ...]
    spans: tuple[Span, ...]
    notes: tuple[str, ...] = ()
    pictures: tuple[ShownPicture, ...] = ()
    cached_tokens: int = 0
    inside: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A streamed token: its id, the text it completed, and after the last one the whole answer."""

    token_id: int | None
    text: str
    answer: Answer | None = None


def notes_of(selection: SelectionSpec, picture: PackedPicture, kept: int) -> tuple[str, ...]:
    """Sentences about a picture to which a budget means something else than usual."""
    notes = []
    if picture.place.overview and 0 in picture.canvas:
        notes.append("the picture is so thin that unpadding leaves no token of its tiles: only the thumbnail is seen")
    if picture.place.view is not None and (bent := distortion(picture.place.size, picture.place.view)) >= _BENT:
        height, width = picture.place.view
        notes.append(
            f"the picture's proportions changed by {bent - 1:.0%} to fit the grid of {height}x{width} pixels; export with another --grid to "
            "keep them"
        )
    candidates = picture.candidates
    if kept < selection.keep and not selection.whole:
        if kept == candidates:
            notes.append(
                f"the picture has {kept} visual tokens in all, fewer than the budget of {selection.keep}: all of them were kept, "
                "so the budget did not bind"
            )
        else:
            notes.append(
                f"{selection.method} left {kept} of the picture's {candidates} visual tokens, fewer than the budget of {selection.keep}: "
                "tokens leave inside the tower, and a picture this thin has few in each tile"
            )
    return tuple(notes)


def question_notes(tokens: int, rows: int) -> list[str]:
    """Says when a question is longer than what the method can look at."""
    if tokens <= rows:
        return []
    return [f"the question has {tokens} tokens of content; the method looked at the first {rows}"]
