"""What an instrument is: a name, a reason when it cannot measure here, and windows that end in one reading.

Protocols and not base classes, so that a fake in a test or an instrument from elsewhere needs no import from here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

R_co = TypeVar("R_co", covariant=True)


class Window(Protocol[R_co]):
    """An interval that is being, or has been, measured."""

    def reading(self) -> R_co:
        """The frozen result. Raises RuntimeError while the window is still open."""


class Meter(Protocol[R_co]):
    """An instrument."""

    @property
    def name(self) -> str: ...

    def why_unavailable(self) -> str | None:
        """None when it can measure here; otherwise a sentence for the user that says why and what to do."""

    def window(self) -> AbstractContextManager[Window[R_co]]:
        """Measure from entering to leaving. An instrument that is unavailable reads None, never 0."""
