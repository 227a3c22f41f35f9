"""What is asked of a model, checked before any work, and whose turn it is: its buffers hold one picture and one sequence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from edgeprune_runtime.errors import PromptError, RequestError
from edgeprune_runtime.prompting.sampling import Sampling
from edgeprune_runtime.prompting.turns import Prompt, turns_of
from edgeprune_runtime.stages.counts import InsideChoice

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One question; the fields are the arguments of `Model.ask`."""

    prompt: Prompt
    image: Any = None
    budget: str | float | int | None = None
    method: str | None = None
    tiles: int | None = None
    max_tokens: int = 128
    sampling: Sampling = Sampling()
    template: bool = True
    stop: bool = True
    inside: InsideChoice = None

    @property
    def images(self) -> tuple[Any, ...]:
        """Pictures and Views, in the order of their marks."""
        if self.image is None:
            return ()
        return tuple(self.image) if isinstance(self.image, (list, tuple)) else (self.image,)

    def check(self) -> None:
        """Raises RequestError for values that mean nothing, PromptError for a prompt that is none or empty."""
        if not any(turn.text.strip() for turn in turns_of(self.prompt)):
            raise PromptError("the prompt is empty; ask something")
        require_whole("max_tokens", self.max_tokens, 1)
        if self.tiles is not None:
            require_whole("tiles", self.tiles, 0)
        if not isinstance(self.sampling, Sampling):
            raise RequestError(f"sampling is {self.sampling!r}; expected a Sampling(temperature, top_p, seed)")


def require_question(what: str, text: Any) -> None:
    """Raise PromptError for anything but a text that says something."""
    if not isinstance(text, str):
        raise PromptError(f"{what} is {type(text).__name__}, expected text")
    if not text.strip():
        raise PromptError(f"{what} is empty; ask something")


def require_whole(name: str, value: Any, least: int) -> None:
    """Raise RequestError for anything but a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise RequestError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if value < least:
        raise RequestError(f"{name} is {value}; expected at least {least}")


class Turns:
    """Who may use a model. A second thread is refused at once, or with `wait` waits for its turn; a thread may go on with its own work."""

    def __init__(self, *, wait: bool) -> None:
        self._wait, self._lock = wait, threading.RLock()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the model. Raises RequestError while another thread does."""
        if not self._lock.acquire(blocking=self._wait):
            raise RequestError(
                "this model is answering another thread's request; wait for it, open the model with wait=True so that requests take turns, "
                "or open one model per thread"
            )
        try:
            yield
        finally:
            self._lock.release()

    def each(self, steps: Iterator[T]) -> Iterator[T]:
        """The same steps, the model held during each and free between two."""
        while True:
            with self.alone():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step
