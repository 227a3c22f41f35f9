"""A reading of your own, and a method that looks at it: how long the key of each token is in the feature layer.

edgeprune export MODEL --budget 0.2 --method docs/examples/reading.py:LONG_KEYS

A reading that a block makes has three parts of one name: what it is, its nodes in the tower's graph, and the same of transformers' own
modules, which the parity gate holds the nodes against. `q` and `k` are the block's projections [R, heads * d], the class token's row first.
"""

from edgeprune.tokens import combine, select
from edgeprune.tokens.methods import Method
from edgeprune.tokens.readings import READINGS, Reading, reads
from edgeprune_export.gate.eager_tower import EAGER_READINGS
from edgeprune_export.graphs.readings import GRAPH_READINGS, Branch, without_class
from edgeprune_export.graphs.units import pooled


def nodes(g, at):
    length = g.node("ReduceL2", [without_class(g, at.spec, at.k, 0), g.integers(1)], keepdims=0)  # [patches]
    row = g.node("Unsqueeze", [length, g.integers(0)])
    return Branch(pooled(g, row, (1,), at.spec.patches, at.merge), (1, at.units))


READINGS.add("key_length", Reading("key_length", "key length", "block", "[T, N]"))
GRAPH_READINGS.add("key_length", nodes)
EAGER_READINGS.add("key_length", lambda block: block.per_token(block.k.norm(dim=1)))


def reduce(outputs, keep, plan):
    return combine.drop(select.by_score(outputs["key_length", plan.feature_layer], outputs.slot, keep))


def looks_at(plan):
    return reads(key_length=(plan.feature_layer,))


LONG_KEYS = Method("long-keys", "tokens with the longest keys", "docs/examples/reading.py", reduce, looks_at)
