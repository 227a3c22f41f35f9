"""Methods by which tokens leave inside the model: between blocks of the tower, or before layers of the language model.

Adding one is a file in `tower` or `language` and one line here, or an entry point in the group `edgeprune.inside`.
"""

from __future__ import annotations

from edgeprune.tokens.inside.method import InsideMethod
from edgeprune_runtime.registry import Registry

__all__ = ["INSIDE", "InsideMethod"]

INSIDE: Registry[InsideMethod] = Registry("inside method", group="edgeprune.inside", kind=InsideMethod)
_LANGUAGE = {
    "feather": "feather:FEATHER",
    "flowcut": "flowcut:FLOWCUT_ROWS",
    "gsearch": "schedules:GSEARCH",
    "mustdrop": "mustdrop:MUSTDROP",
    "psigmoid": "schedules:PSIGMOID",
    "sparsevlm": "sparsevlm:SPARSEVLM",
    "todre": "known:TODRE_ROWS",
    "vflowopt": "known:VFLOWOPT_ROWS",
    "yopo": "known:YOPO_ROWS",
    "fastv": "fastv:FASTV",
    "pdrop": "pdrop:PDROP",
    "drop-all": "controls:DROP_ALL",
    "encoder": "controls:ENCODER_ORDER",
    "random-rows": "controls:RANDOM_ROWS",
    "uniform-rows": "controls:UNIFORM_ROWS",
}
for _name, _target in _LANGUAGE.items():
    INSIDE.add_lazy(_name, f"edgeprune.tokens.inside.language.{_target}")
