"""What calibration hears of a module while it runs: sums over tokens at the out layer of every site, and at every block.

Hooks collect; the forward pass is the library's own. Only what some importance needs is gathered: gradients and second moments cost most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgeprune.later import torch, without_gradients
from edgeprune.structure.plan import ModelPart
from edgeprune.structure.sites import PruningSite, block_lists

if TYPE_CHECKING:
    from torch import Tensor, nn

StatisticNeed = Literal["inputs", "moments", "gradients", "core", "similarity", "visual"]
StatisticKey = tuple[ModelPart, int, str]
CORE_SHARE = 0.2  # CoreMatching's rho


@dataclass
class SiteStatistics:
    """Sums over `tokens` tokens at one site; X [tokens, in] is what the out layer reads. Fields are empty unless asked for."""

    tokens: int = 0
    square: Tensor = field(default_factory=lambda: torch.zeros(()))  # [in] sum of X^2
    magnitude: Tensor = field(default_factory=lambda: torch.zeros(()))  # [in] sum of |X|
    passed: Tensor = field(default_factory=lambda: torch.zeros(()))  # [query heads] sum of ||X_h W_h^T||_1
    moment: Tensor = field(default_factory=lambda: torch.zeros(()))  # [in, in] sum of X^T X, float64
    core: Tensor = field(default_factory=lambda: torch.zeros(()))  # [channels] tokens that have it in their core set
    taylor: list[Tensor] = field(
        default_factory=list
    )  # per sample [units]: sum of X dL/dX over tokens and the unit's columns
    visual: list[Tensor] = field(
        default_factory=list
    )  # per sample [query heads]: attention on visual tokens / on the others


@dataclass
class BlockStatistics:
    """Sums at one block."""

    tokens: int = 0
    cosine: float = 0.0  # sum of cos(input, output)
    visual: list[float] = field(default_factory=list)  # per sample: attention mass on visual tokens, mean over heads


@dataclass
class Statistics:
    """Everything collected so far."""

    samples: int = 0
    at: dict[StatisticKey, SiteStatistics] = field(default_factory=dict)
    blocks: dict[tuple[ModelPart, int], BlockStatistics] = field(default_factory=dict)

    def of(self, site: PruningSite) -> SiteStatistics:
        return self.at.setdefault((site.part, site.block, site.kind), SiteStatistics())

    def block(self, part: ModelPart, block: int) -> BlockStatistics:
        return self.blocks.setdefault((part, block), BlockStatistics())


class StatisticsCollector:
    """Gathers what `needs` names while the module runs inside `collecting`; `after_backward` closes a batch with gradients."""

    def __init__(
        self,
        sites: Sequence[PruningSite],
        head_dims: Mapping[ModelPart, int],
        needs: Iterable[StatisticNeed],
        activations: Mapping[ModelPart, Any],
    ) -> None:
        self.statistics = Statistics()
        self._sites, self._head_dims, self._activations = sites, head_dims, activations
        self._needs = frozenset(needs)
        self._samples = 1
        self._open: list[tuple[PruningSite, Tensor]] = []

    @contextmanager
    def collecting(self, module: nn.Module, samples: int) -> Iterator[None]:
        """Hooks are there inside only; the batch holds `samples` samples, side by side along the first axis."""
        self._samples = samples
        hooks = [site.out.register_forward_pre_hook(self._at(site)) for site in self._sites]
        if "core" in self._needs:
            hooks += [s.inner[0].register_forward_hook(self._core(s)) for s in self._sites if s.kind == "mlp"]
        if "similarity" in self._needs:
            limits = {site.part: site.block for site in self._sites}
            for part, (_, blocks) in block_lists(module).items():
                for i, block in enumerate(blocks):
                    if i <= limits.get(part, -1):
                        hooks.append(block.register_forward_hook(self._block(part, i), with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self.statistics.samples += samples

    @without_gradients
    def after_backward(self) -> None:
        """Taylor terms of the batch, from the gradients that backward left."""
        for site, x in self._open:
            assert x.grad is not None
            product = (x * x.grad).reshape(self._samples, -1, site.units, site.width)
            self.statistics.of(site).taylor += list(product.sum(dim=(1, 3)).double())
        self._open.clear()

    def _at(self, site: PruningSite) -> Any:
        def hook(module: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            if "gradients" in self._needs and x.requires_grad:
                x.retain_grad()
                self._open.append((site, x))
            with torch.no_grad():
                self._gather(site, x.detach().reshape(-1, x.shape[-1]))

        return hook

    def _gather(self, site: PruningSite, x: Tensor) -> None:
        stats = self.statistics.of(site)
        stats.tokens += len(x)
        if "inputs" in self._needs:
            stats.square = stats.square + x.double().square().sum(dim=0)
            stats.magnitude = stats.magnitude + x.abs().double().sum(dim=0)
            if site.kind == "heads":
                stats.passed = stats.passed + passed_on(x, site.out.weight, self._head_dims[site.part])
        if "moments" in self._needs:
            stats.moment = stats.moment + (x.T @ x).double()

    def _core(self, site: PruningSite) -> Any:
        def hook(module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            with torch.no_grad():
                z = self._activations[site.part](output.detach()).reshape(-1, output.shape[-1])
                stats = self.statistics.of(site)
                stats.core = stats.core + core_sets(z).sum(dim=0, dtype=torch.float64)

        return hook

    def _block(self, part: ModelPart, number: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = inputs[0] if inputs else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            with torch.no_grad():
                cosine = torch.nn.functional.cosine_similarity(before.detach(), after.detach(), dim=-1)
                stats = self.statistics.block(part, number)
                stats.tokens += cosine.numel()
                stats.cosine += float(cosine.double().sum())

        return hook


def passed_on(x: Tensor, weight: Tensor, head_dim: int) -> Tensor:
    """Sum over tokens of the L1 norm of what each query head adds to the residual stream. x [n, H d], weight [D, H d] -> [H]."""
    heads = range(x.shape[1] // head_dim)
    parts = [slice(h * head_dim, (h + 1) * head_dim) for h in heads]
    return torch.stack([(x[:, part] @ weight[:, part].T).abs().sum(dtype=torch.float64) for part in parts])


def core_sets(z: Tensor) -> Tensor:
    """Which channels are among the ceil(0.2 p) largest of a token's p positive values. z [n, I] -> bool [n, I]."""
    order = torch.sort(z, dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(z.shape[1]).expand_as(order))
    positive = (z > 0).sum(dim=1, keepdim=True)
    return (rank < torch.ceil(CORE_SHARE * positive)) & (z > 0)
