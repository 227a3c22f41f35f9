"""Numbers as text, for people. The only place where milliseconds, MiB and percent exist; None is "unknown"."""

from __future__ import annotations

from edgeprune_profiles.stats import MIN_PAIRS, Ratio

UNKNOWN = "unknown"
NBSP = "\N{NO-BREAK SPACE}"  # keeps a number and its unit on one line
METRIC_NAMES = {"exact_match": "Exact match", "vqa_accuracy": "VQA accuracy", "anls": "ANLS"}


def seconds(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if abs(value) < 0.9995e-3:
        return f"{_three(value * 1e6)}{NBSP}µs"
    return f"{_three(value * 1e3)}{NBSP}ms" if abs(value) < 0.9995 else f"{_three(value)}{NBSP}s"


def size(value: int | None) -> str:
    if value is None:
        return UNKNOWN
    mib = value / 2**20
    return f"{_three(mib)}{NBSP}MiB" if mib < 999.5 else f"{_three(mib / 1024)}{NBSP}GiB"


def energy(value: float | None) -> str:
    return UNKNOWN if value is None else f"{_three(value)}{NBSP}J"


def frequency(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value / 1e9:.2f}{NBSP}GHz"


def rate(value: float | None) -> str:
    return UNKNOWN if value is None else _three(value)


def count(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def percent(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{value * 100:.{digits}f}{NBSP}%"


def points(value: float) -> str:
    """A difference of two shares, in percentage points, with a real minus sign."""
    return f"{value * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def times(ratio: Ratio | None) -> str:
    """`2.9x [2.7, 3.1]`, or why no ratio is claimed."""
    if ratio is None:
        return UNKNOWN
    if ratio.n < MIN_PAIRS:
        return f"not distinguishable ({ratio.n} of {MIN_PAIRS} pairs needed)"
    interval = f"[{ratio.low:.2f}, {ratio.high:.2f}]"
    return f"{ratio.point:.2f}x {interval}" if ratio.distinguishable else f"not distinguishable {interval}"


def metric(name: str) -> str:
    return METRIC_NAMES.get(name, name)


def _three(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    digits = next((d for d, bound in ((2, 9.995), (1, 99.95)) if abs(value) < bound), 0)
    return f"{value:.{digits}f}"
