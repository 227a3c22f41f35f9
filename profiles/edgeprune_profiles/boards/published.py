"""Times that others published, as samples of efficiency: `published.toml`, each row with its source.

They are of other software (TensorRT Edge-LLM, MLC, llama.cpp, transformers) and of language models, so they say what boards do with
such work, not what edgeprune does. Where nothing was recorded on a board, they are what a projection rests on.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module, resources
from typing import Literal

import msgspec

from edgeprune_profiles.boards.device import DeviceData, PeakPrecision, Source
from edgeprune_profiles.boards.device_file import TOML, load_device
from edgeprune_profiles.boards.fit import EfficiencySample, sample
from edgeprune_profiles.boards.roofline import ideal
from edgeprune_profiles.measure.work import Load, Stage


class PublishedRow(DeviceData, frozen=True):
    """One published time; the fields are explained at the head of the file."""

    device: str
    model: str
    stage: Literal["prefill", "decode"]
    source: str
    seconds: float
    parameters: float
    weight_bytes: float
    precision: PeakPrecision
    tokens: int
    tower_macs: float = 0
    context: int = 0
    cache_bytes: int = 0
    how: str = ""
    learn: bool = True

    @property
    def work(self) -> Stage:
        macs = self.tokens * self.parameters + self.tower_macs
        moved = self.weight_bytes + self.context * self.cache_bytes
        return Stage(self.stage, ((1.0, Load({self.precision: macs}, moved, 0, moved)),))


class Published(DeviceData, frozen=True):
    sources: dict[str, Source]
    rows: tuple[PublishedRow, ...]


@cache
def published() -> Published:
    text = (resources.files("edgeprune_profiles.boards") / "published.toml").read_text(encoding="utf-8")
    return msgspec.convert(import_module(TOML).loads(text), Published)


@cache
def published_samples() -> tuple[EfficiencySample, ...]:
    return tuple(row_sample(row) for row in published().rows if row.learn)


def row_sample(row: PublishedRow) -> EfficiencySample:
    return sample(row.device, row.model, ideal(load_device(row.device), row.work), row.seconds, row.source)
