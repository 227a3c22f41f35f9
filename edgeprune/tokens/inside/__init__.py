"""Methods by which tokens leave inside the model: between blocks of the tower, or before layers of the language model.

Adding one is a file in `tower` or `language` and one line here, or an entry point in the group `edgeprune.inside`.
"""

from __future__ import annotations

from edgeprune.tokens.inside.method import InsideMethod
from edgeprune_runtime.registry import Registry

__all__ = ["INSIDE", "InsideMethod"]

INSIDE: Registry[InsideMethod] = Registry("inside method", group="edgeprune.inside", kind=InsideMethod)
