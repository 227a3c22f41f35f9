"""Call a function now and then from a thread, while a window is open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sampled(action: Callable[[], None], period_s: float) -> Iterator[None]:
    """Run `action` on entering, every `period_s` seconds, and on leaving. Calls never overlap."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(period_s):
            action()

    action()
    thread = threading.Thread(target=repeat, name="edgeprune-sampler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        action()
