"""An engine dialect of your own: opset 23, for builders that have its norms and rotary positions but no fused attention.

    from edgeprune_export.engines.rules.dialect import DIALECTS
    DIALECTS.add(STANDARD_23.name, STANDARD_23)

A dialect is an opset and a rule for each operator of a bundle's graphs that must not stay as it is; rules are functions that append nodes
(edgeprune_export/engines/rules). An operator that is neither part of the opset nor has a rule fails the lowering, by name.
"""

from edgeprune_export.engines.lower import Dialect
from edgeprune_export.engines.rules.dialect import PORTABLE

STAY = {("", "Gelu"), ("", "RMSNormalization"), ("", "RotaryEmbedding")}
RULES = {operator: rule for operator, rule in PORTABLE.rules.items() if operator not in STAY}

STANDARD_23 = Dialect("standard-23", opset=23, ir_version=11, rules=RULES)
