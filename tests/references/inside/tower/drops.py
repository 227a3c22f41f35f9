"""Plain drops: the patches with the highest attention stay, the others leave. Controls and the baseline of a VLM tower.

Kept in arriving order. Nothing is merged and no sizes are made; sizes that arrive are carried with their rows.
No paper: these are the selectors of EViT (class attention) and of towers without a class token (attention received)
without anything else. The site is open (both need the map of the block they stand in); `between` as in EViT.
"""

from __future__ import annotations

from .rows import Rows, Step, attention_received, class_attention, dropped, highest, padding_first


def _class_attention(rows: Rows, count: int) -> Step:
    return dropped(rows, sorted(highest(rows.patches, class_attention(rows))[:count]))


def _received(rows: Rows, count: int) -> Step:
    """Asked by the patches only, also in a tower with a class token (open: MCTF, for one, lets it ask)."""
    return dropped(rows, sorted(highest(rows.patches, attention_received(rows))[:count]))


by_class_attention = padding_first(_class_attention)
by_attention_received = padding_first(_received)
