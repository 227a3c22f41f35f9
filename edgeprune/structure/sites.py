"""Where units lie in a torch module: the linear layers of every block, found by their canonical names.

Works on transformers' modules of all supported families. Their attention layers reshape by the width of a head or by a number of heads
that they keep, so that layers of other widths need no other forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.models.spec import DecoderSpec, TowerSpec
from edgeprune.models.weights.names import canonical_name
from edgeprune.structure.plan import ModelPart, SiteKind, widths

if TYPE_CHECKING:
    from torch import Tensor, nn

_LINEAR = re.compile(r"^(tower|layers)\.(\d+)\.(q|k|v|qkv|o|fc1|fc2|fc_gate|fc_up|fc_out|gate|up|down)\.weight$")
_INNER = ("gate", "up", "fc_gate", "fc_up", "fc1")  # what goes through the activation comes first
_OUTER = ("down", "fc_out", "fc2")


@dataclass(frozen=True)
class PruningSite:
    """The units of one kind in one block: `inner` layers make their values (q, k, v; gate and up; or fc1; what goes through
    the activation comes first), `out` reads them.

    Unit u has rows u * n/units ... of an inner matrix of n rows, and columns u * width ... of `out`. An inner layer holds `stacked` such
    matrices of equal height, one below the other: three where queries, keys and values are one layer.
    """

    part: ModelPart
    block: int
    kind: SiteKind
    units: int
    inner: tuple[nn.Linear, ...]
    out: nn.Linear
    stacked: int = 1

    @property
    def matrices(self) -> tuple[tuple[Tensor, Tensor | None], ...]:
        """Weight [n, D] and bias [n] of every inner matrix."""
        return tuple(
            pair
            for layer in self.inner
            for pair in zip(
                layer.weight.chunk(self.stacked),
                (None,) * self.stacked if layer.bias is None else layer.bias.chunk(self.stacked),
                strict=True,
            )
        )

    def rows(self, layer: nn.Linear, kept: Sequence[int]) -> list[int]:
        """Rows of an inner layer that belong to these units."""
        height = layer.out_features // self.stacked
        each = height // self.units
        return [start * height + unit * each + i for start in range(self.stacked) for unit in kept for i in range(each)]

    @property
    def width(self) -> int:
        """Columns of `out` per unit: r d for a head group, 1 for a channel."""
        return self.out.in_features // self.units

    @property
    def name(self) -> str:
        return f"{self.part} block {self.block}, {self.kind}"


Specs = Mapping[ModelPart, tuple[TowerSpec | DecoderSpec, int]]
"""Per part: its description, and how many of its blocks may be pruned (the tower up to the feature layer)."""


def linears(module: nn.Module) -> dict[tuple[ModelPart, int, str], tuple[str, nn.Linear]]:
    """(part, block, role) -> (name in the module, layer) of every linear layer inside a block."""
    found: dict[tuple[ModelPart, int, str], tuple[str, nn.Linear]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Linear) and (place := _LINEAR.match(canonical_of(f"{name}.weight"))):
            part: ModelPart = "tower" if place[1] == "tower" else "language"
            found[part, int(place[2]), place[3]] = (name, layer)
    return found


def sites(module: nn.Module, specs: Specs) -> tuple[PruningSite, ...]:
    """Every site of the blocks that may be pruned, in the order of a forward pass."""
    roles = {place: layer for place, (_, layer) in linears(module).items()}
    found = []
    for part, (spec, blocks) in specs.items():
        for i, width in enumerate(widths(spec, blocks)):
            here = {role: layer for (p, block, role), layer in roles.items() if (p, block) == (part, i)}
            inner = tuple(here[role] for role in _INNER if role in here)
            (outer,) = (here[role] for role in _OUTER if role in here)
            joint = "qkv" in here
            attention = (here["qkv"],) if joint else tuple(here[role] for role in "qkv")
            found.append(PruningSite(part, i, "heads", width.groups, attention, here["o"], 3 if joint else 1))
            found.append(PruningSite(part, i, "mlp", width.mlp, inner, outer))
    return tuple(found)


def canonical_of(name: str) -> str:
    """canonical_name for parameters of whole models and of classifiers, whose tower is called vit, deit or dinov2; "" if unknown."""
    return canonical_name(re.sub(r"^(?:vit|deit|dinov2)\.", "vision_tower.", name)) or ""


def block_lists(module: nn.Module) -> dict[ModelPart, tuple[str, nn.ModuleList]]:
    """Per part: the module list of its blocks and its name."""
    found: dict[ModelPart, tuple[str, nn.ModuleList]] = {}
    for (part, _, _), (name, _) in linears(module).items():
        path = re.sub(r"\.\d+\..*$", "", name)
        blocks = module.get_submodule(path)
        assert isinstance(blocks, torch.nn.ModuleList)
        found[part] = (path, blocks)
    return found
