"""What a user is told about methods by which tokens leave inside the model."""

from __future__ import annotations

from typing import Any

from edgeprune.tokens.inside.method import InsideMethod

WHERE = {
    "tower": "between blocks of the vision tower",
    "language": "before layers of the language model",
}


def inside_facts(method: InsideMethod) -> dict[str, Any]:
    """Everything that is known about a method, as plain data."""
    return {
        "name": method.name,
        "summary": method.summary,
        "source": method.source,
        "evidence": method.evidence,
        "differs": method.differs,
        "acts": WHERE[method.part],
        "settings": {one.name: {"default": one.default, "help": one.help} for one in method.settings},
    }
