"""(module, plan) -> a really smaller module: rows and columns of linear layers are cut out, blocks leave their list."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from edgeprune.structure.plan import ModelPart, StructurePlan, check_plan, renumbered
from edgeprune.structure.sites import PruningSite, Specs, block_lists, linears, sites

#: What attention layers of transformers call the width of all their heads together.
_INNER_WIDTHS = ("embed_dim", "dim")
#: What transformers calls a list of block numbers.
BLOCK_NUMBERS = ("fullatt_block_indexes", "deepstack_visual_indexes")


def shrink(module: nn.Module, specs: Specs, plan: StructurePlan) -> nn.Module:
    """A smaller copy of `module`; the original is not touched. Raises PlanError for a plan of another model.

    specs  what `module` is: per part, its description and how many of its blocks may be pruned
    """
    check_plan(plan, specs)
    smaller = copy.deepcopy(module)
    for site in sites(smaller, specs):
        kept = next((b.units(site.kind) for b in plan.of(site.part) or () if b.block == site.block), None)
        if kept is not None:
            cut_site(site, kept)
    count_heads(smaller)
    for part, blocks in plan.blocks.items():
        spec, prunable = specs[part]
        after = range(prunable, spec.layers)
        keep_blocks(smaller, part, [*(block.block for block in blocks), *after])
    return smaller


def count_heads(module: nn.Module) -> None:
    """Where attention layers of a tower say how many heads they have, what they say follows their projections, in place: some reshape by
    it, and not by the width of a head as all others do."""
    for (part, _, role), (name, layer) in linears(module).items():
        owner: Any = module.get_submodule(name.rpartition(".")[0])
        if (part, role) == ("tower", "o") and hasattr(owner, "num_heads") and hasattr(owner, "head_dim"):
            owner.num_heads = layer.in_features // owner.head_dim
            for width in _INNER_WIDTHS:
                if hasattr(owner, width):
                    setattr(owner, width, layer.in_features)


def cut_site(site: PruningSite, kept: Sequence[int]) -> None:
    """Keep these units of a site, in place."""
    for layer in site.inner:
        _keep_rows(layer, site.rows(layer, kept))
    columns = _spread(kept, site.width)
    site.out.weight = _parameter(site.out.weight[:, columns])
    site.out.in_features = len(columns)


def keep_blocks(module: nn.Module, part: ModelPart, kept: Sequence[int]) -> None:
    """Keep these blocks of a part, in place; what transformers knows about their number follows."""
    path, blocks = block_lists(module)[part]
    if len(kept) == len(blocks):
        return
    owner = module.get_submodule(path.rpartition(".")[0])
    setattr(owner, path.rpartition(".")[2], nn.ModuleList(blocks[i] for i in kept))
    configs: dict[int, Any] = {id(m.config): m.config for m in owner.modules() if hasattr(m, "config")}
    for config in configs.values():
        if hasattr(config, "num_hidden_layers"):
            config.num_hidden_layers = len(kept)
        if getattr(config, "layer_types", None):
            config.layer_types = [config.layer_types[i] for i in kept]
    numbers = {name: list(renumbered(getattr(owner, name), kept)) for name in BLOCK_NUMBERS if hasattr(owner, name)}
    for holder in (owner, *configs.values()):
        for name, value in numbers.items():
            if hasattr(holder, name):
                setattr(holder, name, value)
    whole: Any = getattr(module, "config", None)
    if part == "tower" and getattr(whole, "vision_feature_layer", -1) >= 0:  # counted from the front
        whole.vision_feature_layer -= len(blocks) - len(kept)
    for number, block in enumerate(module.get_submodule(path).children()):
        for inner in block.modules():
            if hasattr(inner, "layer_idx"):
                setattr(inner, "layer_idx", number)  # noqa: B010  the layer's place in the KV cache


#: Role of a layer of transformers -> a tensor of ours with its rows: so many of the layer's are so many of the tensor's.
_OTHERWISE = {"fc_gate": ("fc_in", 1, 2), "fc_up": ("fc_in", 1, 2), "qkv": ("q", 3, 1)}


def resize(module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give the linear layers of all blocks the shapes of a pruned checkpoint, in place, before its weights are loaded.

    shapes  [out, in] by canonical name, as `Weights.shapes` has them
    """
    for (part, block, role), (_, layer) in linears(module).items():
        prefix = f"{'tower' if part == 'tower' else 'layers'}.{block}"
        stored, there, here = _OTHERWISE.get(role, (role, 1, 1))
        if f"{prefix}.{stored}.weight" not in shapes:
            continue
        rows, inputs = shapes[f"{prefix}.{stored}.weight"]
        outputs = rows * there // here
        if (outputs, inputs) != tuple(layer.weight.shape):
            layer.out_features, layer.in_features = outputs, inputs
            layer.weight = nn.Parameter(layer.weight.new_empty(outputs, inputs))
            if layer.bias is not None:
                layer.bias = nn.Parameter(layer.bias.new_empty(outputs))
    count_heads(module)


def _keep_rows(layer: nn.Linear, rows: Sequence[int]) -> None:
    layer.weight = _parameter(layer.weight[rows])
    if layer.bias is not None:
        layer.bias = _parameter(layer.bias[rows])
    layer.out_features = len(rows)


def _parameter(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)


def _spread(units: Iterable[int], width: int) -> list[int]:
    return [unit * width + i for unit in units for i in range(width)]
