"""The base of all data that crosses a file: immutable, equal by value, unknown fields refused (msgspec)."""

from __future__ import annotations

from typing import Annotated

import msgspec

#: Numbers of a file that is read: bounds far above anything real, below which no sum or product of ours overflows.
Extent = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all manifest data."""
