"""Compensation, block after block: what stays learns, by least squares, to give what was there before.

Hidden states of all samples are carried from block to block, through the unpruned model and through the pruned one, so every block runs a
few times and never the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.structure.compensate import Moments, refit
from edgeprune.structure.plan import KINDS, PARTS, ModelPart, SiteKind, StructurePlan
from edgeprune.structure.sites import PruningSite, Specs, block_lists, sites
from edgeprune_export.bundle.progress import Track
from edgeprune_export.pruning.prunable import PrunableModel, batches

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class _Stop(Exception):
    """Ends a block's forward pass once everything wanted was collected."""


@dataclass(frozen=True)
class _Block:
    """One block of one of the two models: what is collected inside it."""

    module: nn.Module
    sites: Mapping[SiteKind, PruningSite]


@dataclass
class _Stream:
    """Per batch: the hidden state that enters the next block, the other arguments of every block, and what the model itself adds
    to the hidden state behind a block: None where the next is given what the block put out."""

    hidden: list[Tensor] = field(default_factory=list)
    rest: list[list[Arguments]] = field(default_factory=list)
    added: list[list[Tensor | None]] = field(default_factory=list)

    def enter_next(self, block: int, after: Sequence[Tensor]) -> None:
        """Blocks up to this one were run and put out `after`."""
        more = [added[block] if block < len(added) else None for added in self.added]
        self.hidden = [state if new is None else state + new for state, new in zip(after, more, strict=True)]


@torch.no_grad()
def compensate(
    prunable: PrunableModel, smaller: nn.Module, smaller_specs: Specs, plan: StructurePlan, track: Track
) -> None:
    """Refit the out layers of `smaller`, in place. Parts in the order of a forward pass."""
    for part in (part for part in PARTS if part in plan.blocks):
        whole, cut = (_stream(prunable, module, part) for module in (prunable.module, smaller))
        blocks = _blocks(prunable.module, prunable.specs, part)
        fewer = _blocks(smaller, smaller_specs, part)
        place = {block.block: number for number, block in enumerate(plan.blocks[part])}
        with track(f"compensating the {part}", len(blocks)) as advance:
            for i, block in enumerate(blocks):
                rest = [calls[i] for calls in whole.rest]
                stats = [_run_block(block, state, call) for state, call in zip(whole.hidden, rest, strict=True)]
                if i in place:
                    _refit_block(block, fewer[place[i]], stats, cut.hidden, rest)
                    cut.enter_next(place[i], _through(fewer[place[i]].module, cut.hidden, rest))
                whole.enter_next(i, [one.after for one in stats])
                advance()


@dataclass(frozen=True)
class _BlockPass:
    """Of one batch: rows that the out layers read, by kind, and what leaves the block."""

    inputs: Mapping[SiteKind, Tensor]
    after: Tensor


def _refit_block(
    block: _Block, fewer: _Block, stats: Sequence[_BlockPass], cut: Sequence[Tensor], rest: Sequence[Arguments]
) -> None:
    for kind in KINDS:
        site, small = block.sites[kind], fewer.sites[kind]
        moments = Moments.empty(small.out.in_features, small.out.out_features)
        for one, state, call in zip(stats, cut, rest, strict=True):
            own = _run_block(fewer, state, call, until=kind)
            moments.add(own.inputs[kind], one.inputs[kind] @ site.out.weight.T)
        small.out.weight.data, bias = refit(small.out.weight, small.out.bias, moments)
        if bias is not None:
            small.out.bias.data = bias


def _run_block(block: _Block, hidden: Tensor, call: Arguments, until: SiteKind | None = None) -> _BlockPass:
    """Run one block on one batch and keep what its out layers read; with `until`, no further than the out layer of that kind."""
    inputs: dict[SiteKind, Tensor] = {}

    def at(kind: SiteKind) -> Any:
        def keep_input(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            inputs[kind] = given[0].reshape(-1, given[0].shape[-1])
            if kind == until:
                raise _Stop

        return keep_input

    hooks = [site.out.register_forward_pre_hook(at(kind)) for kind, site in block.sites.items()]
    after = hidden
    with _removed(hooks), suppress(_Stop):
        (after,) = _through(block.module, [hidden], [call])
    return _BlockPass(inputs, after)


def _through(block: nn.Module, hidden: Sequence[Tensor], rest: Sequence[Arguments]) -> list[Tensor]:
    outs = [block(state, *args, **kwargs) for state, (args, kwargs) in zip(hidden, rest, strict=True)]
    return [out[0] if isinstance(out, tuple) else out for out in outs]


def _blocks(module: nn.Module, specs: Specs, part: ModelPart) -> list[_Block]:
    """The blocks of a part that may be pruned, in order."""
    _, modules = block_lists(module)[part]
    found: dict[int, dict[SiteKind, PruningSite]] = {}
    for site in sites(module, specs):
        if site.part == part:
            found.setdefault(site.block, {})[site.kind] = site
    return [_Block(modules[i], found[i]) for i in sorted(found)]


def _stream(prunable: PrunableModel, module: nn.Module, part: ModelPart) -> _Stream:
    """Run every batch through a whole model and note how the blocks of a part are called."""
    _, blocks = block_lists(module)[part]
    found = _Stream()
    for batch in batches(prunable):
        found.rest.append([])
        found.added.append([])
        before, after = _noting(found)
        hooks = [block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks]
        with _removed([*hooks, *(block.register_forward_hook(after) for block in blocks)]):
            prunable.logits(module, batch)
    return found


def _noting(found: _Stream) -> tuple[Any, Any]:
    """What hooks before and behind every block note of one batch."""
    last: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        state = args[0] if args else kwargs["hidden_states"]
        if last:
            made = last.pop()
            found.added[-1].append(None if torch.equal(made, state) else state - made)
        else:
            found.hidden.append(state)
        found.rest[-1].append((args[1:], rest))

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        last[:] = [output[0] if isinstance(output, tuple) else output]

    return before, after


@contextmanager
def _removed(hooks: list[Any]) -> Any:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
