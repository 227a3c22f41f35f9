"""What stays of a model's blocks, as data, in the numbering of the model it was made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgeprune.errors import PlanError
from edgeprune.models.spec import DecoderSpec, ModelSpec, TowerSpec, Width

ModelPart = Literal["tower", "language"]
SiteKind = Literal["heads", "mlp"]
PARTS: tuple[ModelPart, ...] = ("tower", "language")
KINDS: tuple[SiteKind, ...] = ("heads", "mlp")


@dataclass(frozen=True)
class BlockPlan:
    """One block that stays: its number, its head groups and MLP channels that stay, ascending."""

    block: int
    heads: tuple[int, ...]
    mlp: tuple[int, ...]

    def units(self, kind: SiteKind) -> tuple[int, ...]:
        return self.heads if kind == "heads" else self.mlp


@dataclass(frozen=True)
class StructurePlan:
    """Blocks that stay, per part, ascending; a part that is not named stays whole."""

    blocks: Mapping[ModelPart, tuple[BlockPlan, ...]]

    def of(self, part: ModelPart) -> tuple[BlockPlan, ...] | None:
        return self.blocks.get(part)


def widths(spec: TowerSpec | DecoderSpec, blocks: int) -> tuple[Width, ...]:
    """Head groups and channels of the first `blocks` blocks."""
    return tuple(Width(_groups(spec.at(i)), spec.at(i).mlp) for i in range(blocks))


def check_plan(plan: StructurePlan, specs: Mapping[ModelPart, tuple[TowerSpec | DecoderSpec, int]]) -> None:
    """`specs`: per part, its description and how many of its blocks may be pruned. Raises PlanError where the plan does not fit."""
    for part, kept in plan.blocks.items():
        if part not in specs:
            raise PlanError(f"the structure plan names the {part}, which this model does not have; make a plan for it")
        spec, blocks = specs[part]
        _ascending(f"{part}: blocks", [block.block for block in kept], blocks)
        for block in kept:
            at = spec.at(block.block)
            _ascending(f"{part} block {block.block}: head groups", block.heads, _groups(at))
            _ascending(f"{part} block {block.block}: MLP channels", block.mlp, at.mlp)
        gone = sorted(spec.must_stay.intersection(range(blocks)) - {block.block for block in kept})
        if gone:
            raise PlanError(
                f"{part}: the plan does not keep {in_words(gone)}, which the model needs; keep at least one head group and channel there"
            )


def pruned_tower(spec: TowerSpec, kept: Sequence[BlockPlan], blocks: int) -> TowerSpec:
    """The tower with `kept` of its first `blocks` blocks, and all later ones as they are."""
    later = tuple(Width(spec.at(i).heads, spec.at(i).mlp) for i in range(blocks, spec.layers))
    stay = [*(block.block for block in kept), *range(blocks, spec.layers)]
    return replace(
        spec,
        layers=len(stay),
        widths=_unlike(spec, (*_widths(kept), *later)),
        full=renumbered(spec.full, stay),
        tapped=renumbered(spec.tapped, stay),
    )


def renumbered(blocks: Sequence[int], stay: Sequence[int]) -> tuple[int, ...]:
    """Numbers of `blocks` once only the blocks `stay` are left; those that are not among them are left out."""
    return tuple(number for number, block in enumerate(stay) if block in blocks)


def pruned_language(spec: DecoderSpec, kept: Sequence[BlockPlan]) -> DecoderSpec:
    """The language model with `kept` of its layers."""
    return replace(spec, layers=len(kept), widths=_unlike(spec, _widths(kept)))


def pruned_model(spec: ModelSpec, plan: StructurePlan) -> ModelSpec:
    """The description of the model that the plan leaves."""
    tower, language = plan.of("tower"), plan.of("language")
    if tower is not None:
        vision = pruned_tower(spec.vision, tower, spec.feature_layer + 1)
        deepstack = tuple(replace(one, block=at) for one, at in zip(spec.deepstack, vision.tapped, strict=True))
        spec = replace(spec, vision=vision, feature_layer=len(tower) - 1, deepstack=deepstack)
    return spec if language is None else replace(spec, language=pruned_language(spec.language, language))


def in_words(blocks: Sequence[int]) -> str:
    """ "block 1", or "blocks 0, 2 and 4"."""
    *others, last = map(str, blocks)
    return f"blocks {', '.join(others)} and {last}" if others else f"block {last}"


def _unlike(spec: TowerSpec | DecoderSpec, found: tuple[Width, ...]) -> tuple[Width, ...]:
    """() where every block is as wide as the source's."""
    full = Width(_groups(spec), spec.mlp)
    return found if any(width != full for width in found) else ()


def _widths(kept: Sequence[BlockPlan]) -> tuple[Width, ...]:
    return tuple(Width(len(block.heads), len(block.mlp)) for block in kept)


def _groups(spec: TowerSpec | DecoderSpec) -> int:
    return spec.kv_heads if isinstance(spec, DecoderSpec) else spec.heads


def _ascending(what: str, numbers: Sequence[int], size: int) -> None:
    if not numbers:
        raise PlanError(f"{what}: none is kept; at least one has to stay")
    if list(numbers) != sorted(set(numbers)) or numbers[0] < 0 or numbers[-1] >= size:
        raise PlanError(
            f"{what}: {len(numbers)} kept between {min(numbers)} and {max(numbers)}; expected ascending numbers from 0 to {size - 1}; "
            "the plan was made for another model"
        )
