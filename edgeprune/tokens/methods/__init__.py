"""Named token-reduction methods: each a composition of score, weigh, select, greedy and combine.

Adding one is a file with its `Method` and one line here, or an entry point in the group `edgeprune.methods`.
"""

from __future__ import annotations

from edgeprune.tokens.methods.attention import DAMRO, FASTERVLM, VTC_CLS
from edgeprune.tokens.methods.cdpruner import CDPRUNER
from edgeprune.tokens.methods.controls import DOWNSAMPLE, FULL, RANDOM, UNIFORM
from edgeprune.tokens.methods.dart import DART
from edgeprune.tokens.methods.diverse import DIVPRUNE, TODRE, TODRE_KCENTER
from edgeprune.tokens.methods.flowcut import FLOWCUT
from edgeprune.tokens.methods.hired import HIRED
from edgeprune.tokens.methods.mmtok import MMTOK
from edgeprune.tokens.methods.prumerge import PRUMERGE, PRUMERGE_PLUS
from edgeprune.tokens.methods.received import FOPRU, FOPRU_ROW, HIPRUNE, RECEIVED
from edgeprune.tokens.methods.recoverable import RECOVERABLE
from edgeprune.tokens.methods.vflowopt import VFLOWOPT
from edgeprune.tokens.methods.visionzip import VISIONZIP
from edgeprune.tokens.methods.vispruner import VISPRUNER
from edgeprune.tokens.registry.method import Calibration, Method, Setting
from edgeprune_runtime.registry import Registry

__all__ = ["CONTROLS", "METHODS", "Calibration", "Method", "Setting"]

METHODS: Registry[Method] = Registry("method", group="edgeprune.methods", kind=Method)
_BUILT_IN = (
    HIRED,
    FASTERVLM,
    VTC_CLS,
    DAMRO,
    RECEIVED,
    FOPRU,
    FOPRU_ROW,
    HIPRUNE,
    VFLOWOPT,
    FLOWCUT,
    DIVPRUNE,
    TODRE,
    TODRE_KCENTER,
    MMTOK,
    DART,
    CDPRUNER,
    VISPRUNER,
    VISIONZIP,
    PRUMERGE,
    PRUMERGE_PLUS,
    RECOVERABLE,
    RANDOM,
    UNIFORM,
    DOWNSAMPLE,
    FULL,
)
for _method in sorted(_BUILT_IN, key=lambda method: method.name):
    METHODS.add(_method.name, _method)

CONTROLS = ("random", "uniform", "downsample")
