"""Compensation, block after block: what stays learns, by least squares, to give what was there before.

Hidden states of all samples are carried from block to block, through the unpruned model and through the pruned one, so every block runs a
few times and never the whole model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.structure.compensate import Moments, refit
from edgeprune.structure.plan import PARTS, Part, StructurePlan
from edgeprune.structure.sites import Site, block_lists, sites
from edgeprune_export.options import Track
from edgeprune_export.pruning.subject import Batch, Subject, batches


class _Stop(Exception):
    """Ends a forward pass after the last block that is wanted."""


@dataclass
class _Calls:
    """Per batch: the hidden state that entered block 0, and the other arguments of every block."""

    hidden: list[Tensor]
    rest: list[list[tuple[tuple[Any, ...], dict[str, Any]]]]


@torch.no_grad()
def compensate(subject: Subject, smaller: nn.Module, smaller_specs: Any, plan: StructurePlan, track: Track) -> None:
    """Refit the out layers of `smaller`, in place. Parts in the order of a forward pass."""
    for part in (part for part in PARTS if part in plan.blocks):
        kept = plan.blocks[part]
        whole, cut = (_calls(subject, module, part) for module in (subject.module, smaller))
        before = {(s.block, s.kind): s for s in sites(subject.module, subject.specs) if s.part == part}
        after = {(s.block, s.kind): s for s in sites(smaller, smaller_specs) if s.part == part}
        blocks, fewer = (block_lists(module)[part][1] for module in (subject.module, smaller))
        place = {block.block: number for number, block in enumerate(kept)}
        with track(f"compensating the {part}", subject.specs[part][1]) as advance:
            for i in range(subject.specs[part][1]):
                rest = [calls[i] for calls in whole.rest]
                if i in place:
                    pair = [(before[i, kind], after[place[i], kind]) for kind in ("heads", "mlp")]
                    _refit_block(blocks[i], fewer[place[i]], pair, whole.hidden, cut.hidden, rest)
                    cut.hidden = _through(fewer[place[i]], cut.hidden, rest)
                whole.hidden = _through(blocks[i], whole.hidden, rest)
                advance()


def _refit_block(
    block: nn.Module,
    fewer: nn.Module,
    pairs: Sequence[tuple[Site, Site]],
    whole: Sequence[Tensor],
    cut: Sequence[Tensor],
    rest: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
) -> None:
    for site, small in pairs:
        moments = Moments.empty(small.out.in_features, small.out.out_features)
        for hidden, pruned, arguments in zip(whole, cut, rest, strict=True):
            given = _heard(block, site.out, hidden, arguments) @ site.out.weight.T
            moments.add(_heard(fewer, small.out, pruned, arguments), given)
        small.out.weight.data, bias = refit(small.out.weight, small.out.bias, moments)
        if bias is not None:
            small.out.bias.data = bias


def _heard(block: nn.Module, layer: nn.Linear, hidden: Tensor, arguments: tuple[Any, Any]) -> Tensor:
    """What `layer` reads when the block runs: [tokens, in]."""
    found: list[Tensor] = []

    def listen(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0].reshape(-1, inputs[0].shape[-1]))
        raise _Stop

    hook = layer.register_forward_pre_hook(listen)
    try:
        block(hidden, *arguments[0], **arguments[1])
    except _Stop:
        pass
    finally:
        hook.remove()
    return found[0]


def _through(block: nn.Module, hidden: Sequence[Tensor], rest: Sequence[tuple[Any, Any]]) -> list[Tensor]:
    outs = [block(state, *args, **kwargs) for state, (args, kwargs) in zip(hidden, rest, strict=True)]
    return [out[0] if isinstance(out, tuple) else out for out in outs]


def _calls(subject: Subject, module: nn.Module, part: Part) -> _Calls:
    """Run every batch up to the last block of a part and note how its blocks are called."""
    _, blocks = block_lists(module)[part]
    found = _Calls([], [])
    for batch in batches(subject):
        found.rest.append([])
        hooks = [block.register_forward_pre_hook(_noting(found), with_kwargs=True) for block in blocks]
        try:
            _run(subject, module, batch)
        finally:
            for hook in hooks:
                hook.remove()
    return found


def _noting(found: _Calls) -> Any:
    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        if not found.rest[-1]:
            found.hidden.append(args[0] if args else kwargs["hidden_states"])
        found.rest[-1].append((args[1:], rest))

    return note


def _run(subject: Subject, module: nn.Module, batch: Batch) -> None:
    subject.logits(module, batch)
