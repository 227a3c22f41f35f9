"""Ask a bundle about pictures: the public face of the runtime.

    with Model.open("bundle") as model:
        view = model.see("photo.jpg", budget="0.2")
        print(model.ask("What is this?", image=view).text)

A failed request raises a RequestError and leaves the model usable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import msgspec

from edgeprune_runtime import budgets
from edgeprune_runtime.backends import choose
from edgeprune_runtime.backends.host import HostMemory
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.checks.room import memory_at_hand, require_room
from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.pictures.equal import without_equal
from edgeprune_runtime.pictures.load import load_image
from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.prompting.generation import generate
from edgeprune_runtime.prompting.packed_prompt import packed_prompt
from edgeprune_runtime.prompting.prefill_prompt import prefill_prompt
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.prompting.requests import Request, Turns, require_question, require_whole
from edgeprune_runtime.prompting.sampling import Sampling
from edgeprune_runtime.prompting.turns import Prompt, question_of
from edgeprune_runtime.registry import unknown
from edgeprune_runtime.results import Answer, Earlier, Piece, View, notes_of, question_notes, spared_notes
from edgeprune_runtime.spec import Positions, SelectionSpec, Separators
from edgeprune_runtime.stages.counts import InsideChoice, keeps
from edgeprune_runtime.timing import Stopwatch
from edgeprune_runtime.vision import Vision

_GREEDY = Sampling()
Choices = Sequence[tuple[str | float | int | None, str | None]]


class Model:
    """An opened bundle: one request at a time.

    A request that comes while another thread's is running is refused at once with a RequestError, or waits for its turn if the model was
    opened with wait=True. To answer several at once, open several models: their weights are one file in memory.

    A prompt that begins like the one before starts behind what both have in common: a second question about a View, a longer dialogue, a
    retry. The answer is the same; with reuse=False every prompt is computed from its first row, and nothing of it is kept.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        backend: str = "auto",
        threads: int = 0,
        verify: bool = True,
        wait: bool = False,
        reuse: bool = True,
    ) -> None:
        chosen = choose(backend, threads=threads, root=bundle.root, verify=verify)
        engine = chosen.backend
        self.bundle = bundle
        self.backend, self.backend_why = engine.name, chosen.why
        self._manifest = bundle.manifest
        if isinstance(engine, HostMemory):
            require_room(bundle.manifest, memory_at_hand())
        self._prompter = Prompter.of(bundle)
        self.vision = Vision(bundle, engine)
        self.language = LanguageModel(bundle, engine, reuse=reuse)
        self._plan = self._manifest.plan
        self._request = 0
        self._open = True
        self._turns = Turns(wait=wait)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: str = "auto",
        threads: int = 0,
        verify: bool = True,
        wait: bool = False,
        reuse: bool = True,
    ) -> Model:
        """Open a bundle folder; see `Bundle.open` for `verify`, and the class for `wait` and `reuse`."""
        bundle = Bundle.open(path, verify=verify)
        return cls(bundle, backend=backend, threads=threads, verify=verify, wait=wait, reuse=reuse)

    def __enter__(self) -> Model:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop sessions and buffers; the model cannot be used afterwards. Closing it again does nothing."""
        with self._turns.alone():
            if self._open:
                del self.vision, self.language
                self._open = False

    def forget(self) -> None:
        """Let the next prompt be computed from its first row: for first questions that shall be measured as such."""
        with self._turns.alone():
            self._require_open()
            self.language.forget()

    def set_policies(self, *, positions: Positions, separators: Separators) -> None:
        """Replace the bundle's policies of positions and separators, to compare them on the same bundle. Raises RequestError for others."""
        for name, value, known in (
            ("positions", positions, get_args(Positions)),
            ("separators", separators, get_args(Separators)),
        ):
            if value not in known:
                raise RequestError(unknown(name, value, known))
        self._require_open()
        self._plan = msgspec.structs.replace(self._plan, positions=positions, separators=separators)

    @property
    def budgets(self) -> tuple[str, ...]:
        """Budgets of the bundle's own method, as the user wrote them at export."""
        return budgets.budgets(self._manifest)

    def budget_label(self, budget: str | float | int) -> str:
        """The bundle's own spelling of a budget: 0.2 and "0.20" are "0.2". Raises BudgetError for one it does not hold."""
        return budgets.budget_label(self._manifest, budget)

    def methods(self, budget: str) -> tuple[str, ...]:
        """Methods that the bundle holds at this budget, its own first."""
        return budgets.methods(self._manifest, budget)

    def see(
        self,
        image: Any,
        *,
        budget: str | float | int | None = None,
        method: str | None = None,
        tiles: int | None = None,
        question: str | None = None,
        skip_equal: float | None = None,
    ) -> View:
        """Encode a picture (path, bytes, PIL image or uint8 array) and keep K tokens of it.

        tiles       at most so many tiles beside the overview, 0: one view of the whole picture; None: as many as the model takes
        question    what will be asked, for methods that look at it; `ask` keeps tokens anew for any other question
        skip_equal  leave out tokens whose pixels equal those of one before them, within so many of 255 levels; None: none
        """
        return self.see_each(image, [(budget, method)], tiles=tiles, question=question, skip_equal=skip_equal)[0]

    def see_each(
        self,
        image: Any,
        choices: Choices,
        *,
        tiles: int | None = None,
        question: str | None = None,
        skip_equal: float | None = None,
    ) -> tuple[View, ...]:
        """Encode a picture once and keep tokens of it under each (budget, method); all views share the first two spans."""
        if question is not None:
            require_question("the question", question)
        with self._turns.alone():
            return self._see(image, choices, tiles, question, skip_equal)

    def _see(
        self, image: Any, choices: Choices, tiles: int | None, question: str | None, skip_equal: float | None = None
    ) -> tuple[View, ...]:
        self._require_open()
        watch = Stopwatch()
        with watch.span("preprocess"):
            pixels, spec = load_image(image), self._manifest.picture
            if tiles is not None:
                require_whole("tiles", tiles, 0)
            limited = spec.limited(tiles)
            place = limited.place(pixels.height, pixels.width)
            picture = pack_picture(place, spec)
            chosen = [budgets.selection(self._manifest, *one, spec.tokens_of(place)) for one in choices]
            shown = tiles_from_image(pixels, limited, place)
            picture = without_equal(picture, shown, spec.tile, skip_equal)
        with watch.span("tower"):
            notes = spared_notes(self.vision.encode(shown, picture, [s.tower for s in chosen]), len(shown))
        return tuple(self._view(s, picture, Earlier(watch.spans, notes), question) for s in chosen)

    def _view(self, selection: SelectionSpec, picture: PackedPicture, earlier: Earlier, question: str | None) -> View:
        """Keep tokens of the picture in the buffers; a question counts only for methods that look at it."""
        watch, notes = Stopwatch(), earlier.notes
        with watch.span("select"):
            asks = self.vision.reads_question(selection)
            if asks:
                words = None if question is None else self.language.embed(self._prompter.content_ids(question))
                self.vision.ask(words)
                notes += question_notes(0 if words is None else len(words), self.vision.question_rows)
            selected = self.vision.select(selection)
            picture.require_kept(selected.kept, selection.graph)
        encoded = self.vision.encoded(selection) if asks else None
        said = (*notes_of(selection, picture, len(selected.kept)), *notes)
        spans, about = earlier.spans + watch.spans, question if asks else None
        spec = self._manifest.picture
        joined = self.vision.joined(selection, selected.kept)
        known = encoded, about, spec.coordinates, selected.salience, joined
        return View(selection, picture, spec.tile, selected.visual, selected.kept, said, spans, *known)

    def _view_for(self, view: View, question: str) -> View:
        """The view itself, or what its method keeps of the same encoded picture for this question."""
        if view.encoded is None or view.question == question:
            return replace(view, spans=())
        if view.selection not in self._manifest.selections:
            raise RequestError(
                "this View was made by another bundle, which holds other selections; see the picture again"
            )
        self.vision.restore(view.selection, view.encoded)
        return self._view(view.selection, view.picture, Earlier(), question)

    def ask(
        self,
        prompt: Prompt,
        *,
        image: Any = None,
        budget: str | float | int | None = None,
        method: str | None = None,
        tiles: int | None = None,
        max_tokens: int = 128,
        sampling: Sampling = _GREEDY,
        template: bool = True,
        stop: bool = True,
        inside: InsideChoice = None,
    ) -> Answer:
        """Answer one question, about a picture (or a View of one) or about none.

        prompt  a question, or a dialogue as a list of Turn; "<image>" in it stands for the next picture, which otherwise come first
        image   one picture or View, or a list of them; budget, method and tiles are those of each
        stop    False goes on past the end token
        inside  visual rows that stay at the cuts inside the language model: "none" leaves, or as `stages.counts.InsideChoice` says
        """
        request = Request(prompt, image, budget, method, tiles, max_tokens, sampling, template, stop, inside)
        with self._turns.alone():
            *_, last = self._stream(request)
        assert last.answer is not None  # the last piece of a stream always carries it
        return last.answer

    def stream(
        self,
        prompt: Prompt,
        *,
        image: Any = None,
        budget: str | float | int | None = None,
        method: str | None = None,
        tiles: int | None = None,
        max_tokens: int = 128,
        sampling: Sampling = _GREEDY,
        template: bool = True,
        stop: bool = True,
        inside: InsideChoice = None,
    ) -> Iterator[Piece]:
        """Like `ask`, yielding each token as it is chosen; the last piece carries the whole answer."""
        request = Request(prompt, image, budget, method, tiles, max_tokens, sampling, template, stop, inside)
        return self._turns.each(self._stream(request))

    def _stream(self, request: Request) -> Iterator[Piece]:
        request.check()
        self._require_open()
        keeps(self._manifest.language, request.inside)  # before any work
        watch = Stopwatch()
        with watch.span("preprocess"):
            asked = self._prompter.render(request.prompt, images=len(request.images), template=request.template)
        views = tuple(self._viewed(image, request) for image in request.images)
        with watch.span("prefill"):
            tokens = self._prompter.tokens(asked, [view.picture for view in views])
            packed = packed_prompt(tokens, views, self._manifest, self._plan)
            self._request += 1  # from here on the cache is this prompt's, also where computing it fails
            number = self._request
            start = prefill_prompt(self.language, self.bundle, packed, views, request, self._plan.positions)
        yield from generate(request, start, watch, self.language, self._prompter, lambda: self._request == number)

    def _viewed(self, image: Any, request: Request) -> View:
        """A picture of a request, encoded; a View as it is, or with the tokens that its method keeps for this question."""
        question = question_of(request.prompt)
        if isinstance(image, View):
            return self._view_for(image, question)
        return self._see(image, [(request.budget, request.method)], request.tiles, question)[0]

    def _require_open(self) -> None:
        if not self._open:
            raise RequestError("the model is closed; open the bundle again")
