"""Sizes of tensors by the names of their element types."""

from __future__ import annotations

import math
from collections.abc import Sequence

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int8": 1, "bool": 1}


def bytes_of(shape: Sequence[int], dtype: str) -> int:
    """Bytes of a dense tensor."""
    return math.prod(shape) * ITEM_BYTES[dtype]
