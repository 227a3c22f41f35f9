"""Options with a fixed set of values, shared by commands. The meaning of each is in `edgeprune.plan.TokenPlan`."""

from __future__ import annotations

from enum import Enum


class Precision(str, Enum):
    fp32 = "fp32"
    int8 = "int8"


class Positions(str, Enum):
    keep = "keep"
    renumber = "renumber"


class Newlines(str, Enum):
    all = "all"
    rows = "rows"
    none = "none"


class BudgetOf(str, Enum):
    largest = "largest"
    picture = "picture"
