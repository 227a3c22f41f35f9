"""Run sealed bundles: answers about pictures from static-shape graphs, without torch.

>>> from edgeprune_runtime import Model
>>> with Model.open("bundle") as model:                      # doctest: +SKIP
...     print(model.ask("What is this?", image="photo.jpg", budget=0.2).text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune_runtime.bundle import Bundle
    from edgeprune_runtime.errors import EdgepruneError, RequestError
    from edgeprune_runtime.model import Model
    from edgeprune_runtime.prompting.sampling import Sampling
    from edgeprune_runtime.prompting.turns import Turn
    from edgeprune_runtime.results import Answer, Piece, ShownPicture, View
    from edgeprune_runtime.timing import Span

# Names load on first use, so that a tool that needs one instrument does not pay for the whole runtime.
_HOME = {
    "Answer": "results",
    "Bundle": "bundle",
    "EdgepruneError": "errors",
    "Model": "model",
    "Piece": "results",
    "RequestError": "errors",
    "Sampling": "prompting.sampling",
    "ShownPicture": "results",
    "Span": "timing",
    "Turn": "prompting.turns",
    "View": "results",
}
__all__ = [
    "Answer",
    "Bundle",
    "EdgepruneError",
    "Model",
    "Piece",
    "RequestError",
    "Sampling",
    "ShownPicture",
    "Span",
    "Turn",
    "View",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgeprune_runtime' has no attribute {name!r}")
    return getattr(import_module(f"edgeprune_runtime.{_HOME[name]}"), name)
