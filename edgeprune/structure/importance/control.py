"""The control: nothing is known."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.structure.importance.base import Importance
from edgeprune.structure.sites import PruningSite
from edgeprune.structure.statistics import SiteStatistics

if TYPE_CHECKING:
    from torch import Tensor


def random(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """Drawn uniformly, its own stream per site: [units]."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {site.name}".encode()))
    return torch.rand(site.units, generator=generator, dtype=torch.float64)


ALL = (Importance("random", "seeded draw", "control", "control", random),)
