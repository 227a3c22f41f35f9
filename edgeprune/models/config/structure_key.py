"""What a pruned checkpoint says about its blocks: the key "edgeprune" of its config.json.

A pruned model keeps the configuration of its source, which has no place for blocks of different widths. The widths stand beside it:

    "edgeprune": {"structure": {"tower": [[heads, mlp], ...], "language": [[groups, mlp], ...]}}

with one pair per block that is left. A part that was not pruned has no entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.models.config.section import Section
from edgeprune.models.spec import Width

KEY = "edgeprune"


def widths_from_config(config: Section, part: str, layers: int, most: Width) -> tuple[Width, ...]:
    """Width of every block of a part ("tower", "language"); () where no block differs from `most`, the source's width.

    Raises CheckpointError for anything but one pair of positive integers per layer, none above the source's.
    """
    section = config
    for key in (KEY, "structure"):
        if not section.has(key):
            return ()
        section = section.section(key)
    if not section.has(part):
        return ()
    pairs = section.values[part]
    if not isinstance(pairs, list) or len(pairs) != layers:
        raise section.refuse(part, f"a list of {layers} pairs [head groups, inner channels], one for each layer")
    for pair in pairs:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not _within(pair[0], most.groups)
            or not _within(pair[1], most.mlp)
        ):
            raise section.refuse(
                part, f"pairs of integers from [1, 1] to [{most.groups}, {most.mlp}], the source's widths"
            )
    widths = tuple(Width(groups, mlp) for groups, mlp in pairs)
    return widths if any(width != most for width in widths) else ()


def structure_entry(parts: Mapping[str, Sequence[Width]]) -> dict[str, Any]:
    """What config.json gets for these parts: {} or one entry under "edgeprune"; parts without widths are left out."""
    structure = {part: [[width.groups, width.mlp] for width in widths] for part, widths in parts.items() if widths}
    return {KEY: {"structure": structure}} if structure else {}


def _within(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most
