"""Name every node that a target cannot take before any build starts, with the cure.

    for finding in lint(model, LintTarget("rtx", (1, 7, 1), (86, 89))):
        echo(finding)

The rules are data (`lint_rules`). Whatever can be known from the graph alone is said at once, for all nodes and all devices of the target; a
builder stops at the first, in its own words. Passing is no promise: compilers refuse combinations too, and only the build knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import onnx
from onnx import inliner

from edgeprune_export.engines.lint.facts import NodeFacts, Scope, bodies, scope_of
from edgeprune_export.engines.lint.rules import RTX_SMS, RULES, TABLES, LintRule


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
    whole = inliner.inline_local_functions(model) if model.functions else model
    rules = [rule for rule in RULES if any(r.covers(target.name, target.version, target.sms) for r in rule.reaches)]
    scope = scope_of(whole.graph, Scope(), whole.opset_import)
    return (
        *_of_devices(whole, target),
        *_of_opset(whole, target),
        *_of_inputs(whole, free),
        *_of_nodes(whole.graph, scope, rules, whole.opset_import, whole.graph.name),
    )


def _of_devices(model: onnx.ModelProto, target: LintTarget) -> Iterator[Finding]:
    if target.name != "rtx":
        return
    taken = ", ".join(f"sm{sm}" for sm in RTX_SMS)
    for sm in target.sms:
        if sm not in RTX_SMS:
            what = f"sm{sm} is no target of TensorRT for RTX, which builds for {taken}"
            yield Finding(
                model.graph.name, "", "", what, "on that device, run `edgeprune build BUNDLE --target tensorrt`"
            )


def _of_opset(model: onnx.ModelProto, target: LintTarget) -> Iterator[Finding]:
    used = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    for reach, newest in TABLES:
        if used > newest and reach.covers(target.name, target.version, target.sms):
            version = ".".join(str(part) for part in target.version)
            what = f"opset {used} is newer than {newest}, the newest that TensorRT {version} is documented for"
            yield Finding(
                model.graph.name, "", "", what, f"export for opset {newest} or lower (the portable dialect has 20)"
            )


def _of_inputs(model: onnx.ModelProto, free: Collection[str]) -> Iterator[Finding]:
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if value.name not in constants and not dim.HasField("dim_value") and dim.dim_param not in free:
                what = f"input {value.name} has no fixed size along axis {axis}"
                yield Finding(model.graph.name, "", "", what, "export it with fixed shapes")


def _of_nodes(
    graph: onnx.GraphProto,
    scope: Scope,
    rules: Sequence[LintRule],
    opsets: Sequence[onnx.OperatorSetIdProto],
    where: str,
) -> Iterator[Finding]:
    for node in graph.node:
        seen = NodeFacts(node, scope)
        label = node.name or next(iter(seen.results), "")
        for rule in rules:
            if rule.check(seen):
                yield Finding(where, label, seen.operator, rule.what, rule.cure)
        for body in bodies(node):
            inside = scope_of(body, scope, opsets)
            yield from _of_nodes(body, inside, rules, opsets, f"{where} > {label}")
