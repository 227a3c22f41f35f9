"""Methods by which tokens leave inside the model: between blocks of the tower, or before layers of the language model.

Adding one is a file in `tower` or `language` and one line here, or an entry point in the group `edgeprune.inside`.
"""

from __future__ import annotations

from edgeprune.tokens.inside.method import InsideMethod
from edgeprune_runtime.registry import Registry

__all__ = ["INSIDE", "InsideMethod"]

INSIDE: Registry[InsideMethod] = Registry("inside method", group="edgeprune.inside", kind=InsideMethod)
_TOWER = "edgeprune.tokens.inside.tower"
for _name, _target in (
    ("topk", "drops:TOPK"),
    ("evit", "evit:EVIT"),
    ("absorb", "absorb:ABSORB"),
    ("tome", "tome:TOME"),
    ("mctf", "mctf:MCTF"),
    ("gtp", "gtp:GTP"),
    ("zero-tprune", "zero_tprune:ZERO_TPRUNE"),
    ("token-transforming", "token_transforming:TOKEN_TRANSFORMING"),
    ("expedit", "expedit:EXPEDIT"),
    ("hired-early", "hired_early:HIRED_EARLY"),
    ("received", "drops:RECEIVED"),
    ("pool", "pool:POOL"),
    ("tower-random", "drops:RANDOM"),
    ("tower-uniform", "drops:UNIFORM"),
):
    INSIDE.add_lazy(_name, f"{_TOWER}.{_target}")
_LANGUAGE = "edgeprune.tokens.inside.language"
for _name, _target in (
    ("fastv", "fastv:FASTV"),
    ("pdrop", "pdrop:PDROP"),
    ("feather", "feather:FEATHER"),
    ("sparsevlm", "sparsevlm:SPARSEVLM"),
    ("transprune", "transprune:TRANSPRUNE"),
    ("mustdrop", "mustdrop:MUSTDROP"),
    ("flowcut", "flowcut:FLOWCUT_ROWS"),
    ("vflowopt", "known:VFLOWOPT_ROWS"),
    ("todre", "known:TODRE_ROWS"),
    ("yopo", "known:YOPO_ROWS"),
    ("gsearch", "schedules:GSEARCH"),
    ("psigmoid", "schedules:PSIGMOID"),
    ("corematching", "corematching:COREMATCHING"),
    ("lvlm-csp", "lvlm_csp:LVLM_CSP"),
    ("encoder", "controls:ENCODER_ORDER"),
    ("random-rows", "controls:RANDOM_ROWS"),
    ("uniform-rows", "controls:UNIFORM_ROWS"),
    ("drop-all", "controls:DROP_ALL"),
):
    INSIDE.add_lazy(_name, f"{_LANGUAGE}.{_target}")
