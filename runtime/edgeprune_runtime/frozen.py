"""The base of all data that crosses a file: immutable, equal by value, unknown fields refused (msgspec)."""

from __future__ import annotations

import msgspec


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all manifest data."""
