"""Numbers as text, for people. The only place where milliseconds, MiB and percent exist; None is "unknown"."""

from __future__ import annotations

import math

from edgeprune_profiles.record.power_profile import EnergyRatio
from edgeprune_runtime.statistics import LEAST, Interval, Ratio

UNKNOWN = "unknown"
NEAR = 1.01  # two factors that round alike
NBSP = "\N{NO-BREAK SPACE}"  # keeps a number and its unit on one line
COVERS = {
    "gpu": "the graphics board only",
    "cpu": "the processor packages only",
    "module": "the module",
    "board": "the board",
}
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


def limit_size(value: int | None) -> str:
    """A limit as it was asked: in GB what is round there, else as any size."""
    return f"{value / 1e9:g}{NBSP}GB" if value and value % 10**7 == 0 else size(value)


def energy(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{_three(value * 1e3)}{NBSP}mJ" if abs(value) < 0.9995 else f"{_three(value)}{NBSP}J"


def frequency(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value / 1e9:.2f}{NBSP}GHz"


def rate(value: float | None) -> str:
    return UNKNOWN if value is None else _three(value)


def count(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def counted(number: int, what: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def percent(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{value * 100:.{digits}f}{NBSP}%"


def points(value: float) -> str:
    """A difference of two shares, in percentage points, with a real minus sign."""
    return f"{value * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def times(ratio: Ratio | None) -> str:
    """`2.9x [2.7, 3.1]`, or why no ratio is claimed."""
    if ratio is None:
        return UNKNOWN
    if ratio.n < LEAST:
        return f"not distinguishable ({ratio.n} of {LEAST} pairs needed)"
    interval = f"[{ratio.low:.2f}, {ratio.high:.2f}]"
    return f"{ratio.point:.2f}x {interval}" if ratio.distinguishable else f"not distinguishable {interval}"


def short_times(ratio: Ratio | EnergyRatio | None) -> str:
    """`2.90x [2.70, 3.10]`, behind a tilde where it is not distinguishable from 1: for the cell of a table. One pair has no interval."""
    if ratio is None:
        return UNKNOWN
    if isinstance(ratio, Ratio) and ratio.n == 1:
        return f"~{ratio.point:.2f}x (1 pair)"
    mark = "" if ratio.distinguishable else "~"
    return f"{mark}{ratio.point:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def apart(ratio: Interval, medians: float) -> str:
    """A sentence on why a ratio of pairs is not that of the two medians beside it; "" where they agree."""
    if ratio.low / NEAR <= medians <= ratio.high * NEAR:
        return ""
    return (
        f" The medians alone would say {max(medians, 1 / medians):.2f}x: the factor is the median over pairs of requests that ran next "
        "to each other."
    )


def bounds(ratio: EnergyRatio | None) -> str:
    """`2.9x [2.7, 3.1]` by the error of the method."""
    if ratio is None:
        return UNKNOWN
    interval = f"[{ratio.low:.2f}, {ratio.high:.2f}]"
    return f"{ratio.point:.2f}x {interval}" if ratio.distinguishable else f"not distinguishable {interval}"


def give_or_take(value_j: float | None, error_j: float | None) -> str:
    """`58.30 ± 0.06 J`: the error with one digit that counts, the value with as many behind the point."""
    if value_j is None or not error_j:
        return energy(value_j)
    factor, unit = (1e3, "mJ") if abs(value_j) < 0.9995 else (1.0, "J")
    digits = min(3, max(0, -math.floor(math.log10(error_j * factor))))
    return f"{value_j * factor:.{digits}f}{NBSP}±{NBSP}{error_j * factor:.{digits}f}{NBSP}{unit}"


def marked(text: str, doubtful: bool) -> str:
    """A star beside a number that something makes doubtful."""
    return f"{text}{NBSP}*" if doubtful else text


def power(value: float | None) -> str:
    return UNKNOWN if value is None else f"{_three(value)}{NBSP}W"


def celsius(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f}{NBSP}°C"


def duration(value: float) -> str:
    """Minutes, for what lasts some."""
    return f"{value / 60:.0f}{NBSP}min" if value >= 60 else f"{value:.0f}{NBSP}s"


def per_second(value: float | None) -> str:
    return UNKNOWN if value is None else f"{_three(value)}/s"


def covers(name: str) -> str:
    """What the watts of a source are of."""
    return COVERS.get(name, name)


def metric(name: str) -> str:
    return METRIC_NAMES.get(name, name)


def _three(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    digits = next((d for d, bound in ((2, 9.995), (1, 99.95)) if abs(value) < bound), 0)
    return f"{value:.{digits}f}"
