"""Name every node that a target cannot take before any build starts, with the cure.

    for finding in lint(model, LintTarget("rtx", (1, 7, 1), (86, 89))):
        echo(finding)

The rules are data (`rules.py`). Whatever can be known from the graph alone is said at once, for all nodes and all devices of the target; a
builder stops at the first, in its own words. Passing is no promise: compilers refuse combinations too, and only the build knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence, Set
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from edgeprune_export.engines.lint.facts import NodeFacts, fixed_values
from edgeprune_export.engines.lint.rules import RTX_SMS, RULES, TABLES, LintRule
from edgeprune_export.onnx.shapes import dims, inferred, inlined, inner_graphs


@dataclass(frozen=True)
class LintTarget:
    """Whom the graph is for. version: of the library; sms: compute capabilities without the dot, () for a device that is not known."""

    name: str
    version: tuple[int, ...]
    sms: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that the target cannot take; node and op are empty where it is the graph as a whole."""

    graph: str
    node: str
    op: str
    what: str
    cure: str

    def __str__(self) -> str:
        subject = f"{self.node} ({self.op}) " if self.op else ""
        return f"{self.graph}: {subject}{self.what}; {self.cure}"


def lint(model: onnx.ModelProto, target: LintTarget, *, free: Collection[str] = ()) -> tuple[Finding, ...]:
    """All findings: of the graph as a whole, then node by node in graph order, each followed by what is inside it.

    model: valid ONNX; its external data need not be there.
    free: names of symbolic dimensions that optimization profiles will fix.
    """
    whole = inferred(inlined(model))
    rules = [rule for rule in RULES if any(r.covers(target.name, target.version, target.sms) for r in rule.reaches)]
    name = str(whole.graph.name)
    return (
        *_of_devices(name, target),
        *_of_opset(whole, target),
        *_of_inputs(whole.graph, free),
        *_of_nodes(whole.graph, frozenset(), rules, name),
    )


def _of_devices(graph: str, target: LintTarget) -> Iterator[Finding]:
    if target.name != "rtx":
        return
    taken = ", ".join(f"sm{sm}" for sm in RTX_SMS)
    for sm in target.sms:
        if sm not in RTX_SMS:
            what = f"sm{sm} is no target of TensorRT for RTX, which builds for {taken}"
            yield Finding(graph, "", "", what, "on that device, run `edgeprune build BUNDLE --target tensorrt`")


def _of_opset(model: ir.Model, target: LintTarget) -> Iterator[Finding]:
    used = max(model.opset_imports.get(domain, 0) for domain in ("", "ai.onnx"))
    for reach, newest in TABLES:
        if used > newest and reach.covers(target.name, target.version, target.sms):
            version = ".".join(str(part) for part in target.version)
            what = f"opset {used} is newer than {newest}, the newest that TensorRT {version} is documented for"
            yield Finding(
                str(model.graph.name), "", "", what, f"export for opset {newest} or lower (the portable dialect has 20)"
            )


def _of_inputs(graph: ir.Graph, free: Collection[str]) -> Iterator[Finding]:
    for value in graph.inputs:
        for axis, dim in enumerate(dims(value) or ()):
            if isinstance(dim, str) and dim not in free and not value.is_initializer():
                what = f"input {value.name} has no fixed size along axis {axis}"
                yield Finding(str(graph.name), "", "", what, "export it with fixed shapes")


def _of_nodes(graph: ir.Graph, outer: Set[ir.Value], rules: Sequence[LintRule], where: str) -> Iterator[Finding]:
    """`outer`: values of the graphs around that are the same in every run."""
    fixed = fixed_values(graph, outer)
    for node in graph:
        facts = NodeFacts(node, fixed)
        for rule in rules:
            if rule.check(facts):
                yield Finding(where, facts.label, facts.operator, rule.what, rule.cure)
        for body in inner_graphs(node):
            yield from _of_nodes(body, fixed, rules, f"{where} > {facts.label}")
