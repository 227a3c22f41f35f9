"""The rows of the table: every method at the same counts, so that methods are compared and not budgets."""

from __future__ import annotations

WHOLE = "none"
RANDOM = "tower-random"
CONTROLS = (RANDOM, "tower-uniform", "pool")
EVERY = (
    "topk",
    "evit",
    "absorb",
    "tome",
    "mctf",
    "gtp",
    "zero-tprune",
    "token-transforming",
    "hired-early",
    "received",
    RANDOM,
    "tower-uniform",
)
#: Seven small cuts over the middle blocks: counts that came out best in trials; each cut keeps about 0.83 of what arrives.
MIDDLE = "3,4,5,6,7,8,9"
FINE = "162,134,111,92,76,63,52"
HARDER = ("159,129,105,85,69,56,46", "155,122,97,77,61,48,38")
#: ToMe as published: the same number of tokens in every block.
ALL = "0,1,2,3,4,5,6,7,8,9,10"

PLANS = (
    WHOLE,
    *(f"{name}@3,6,9:{keep}" for keep in ("0.8", "0.7", "0.65") for name in EVERY),
    *(f"{name}@{MIDDLE}:{FINE}" for name in EVERY),
    *(
        f"{name}@{MIDDLE}:{keep}"
        for name in ("absorb", "token-transforming", RANDOM)
        for keep in ("0.9", "0.87", "0.85", *HARDER)
    ),
    *(f"{name}@3,4,5,6,7:160,130,106,86,70" for name in ("absorb", "token-transforming", RANDOM)),
    *(
        f"{name}@{ALL}:{','.join(str(196 - r * (i + 1)) for i in range(11))}"
        for r in (8, 13)
        for name in ("tome", RANDOM)
    ),
    *(f"{name}@{block}:0.5" for block in (3, 6) for name in ("expedit", "pool", "topk", "absorb", RANDOM)),
)

#: In a tower of real proportions, where only times are taken.
LARGE = (
    WHOLE,
    *(f"{name}@3,6,9:0.65" for name in ("topk", "evit", "absorb", "tome", "zero-tprune", "token-transforming", RANDOM)),
    *(f"{name}@{MIDDLE}:0.83" for name in ("topk", "absorb", RANDOM)),
)


def control_of(plan: str) -> str | None:
    """The plan by which random tokens leave at the same blocks in the same numbers; None for that one and for the whole model."""
    name, _, counts = plan.partition("@")
    return None if plan == WHOLE or name == RANDOM else f"{RANDOM}@{counts}"
