"""References of token reduction inside the vision tower, one method per module, and a tower to run them in.

Every method is a `step(x, q, k, v, heads, keep, ...) -> Step`, see `rows`.
"""

from __future__ import annotations

from collections.abc import Callable

from . import (
    absorb,
    controls,
    drops,
    evit,
    expedit,
    flowcut,
    gtp,
    hired_early,
    mctf,
    token_transforming,
    tome,
    zero_tprune,
)
from .rows import Step

#: Name -> (step, the site at which its source has it).
STEPS: dict[str, tuple[Callable[..., Step], str]] = {
    "absorb": (absorb.step, "between"),
    "class-attention": (drops.by_class_attention, "between"),
    "evit": (evit.step, "between"),
    "expedit": (expedit.step, "before"),
    "flowcut": (flowcut.step, "after"),
    "gtp": (gtp.step, "between"),
    "hired-early": (hired_early.step, "after"),
    "mctf": (mctf.step, "before"),
    "pool": (controls.pool, "between"),
    "random": (controls.random, "between"),
    "received": (drops.by_attention_received, "between"),
    "token-transforming": (token_transforming.step, "between"),
    "tome": (tome.step, "between"),
    "uniform": (controls.uniform, "between"),
    "zero-tprune": (zero_tprune.step, "after"),
}
