"""What is projected: a bundle, or a model that is not exported yet. Whatever asks how long it takes asks this value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeprune_profiles.boards.device import Device
from edgeprune_profiles.boards.memory_fit import MemoryFit, memory_at_least, memory_fit
from edgeprune_profiles.measure.work import RequestShape, request_shape
from edgeprune_runtime import budgets
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.spec import GraphWork

#: Tokens of the question and the chat template that the prompt of a model without a bundle is taken to have beside the picture.
TEXT_TOKENS = 64


@dataclass(frozen=True)
class ProjectedRequest:
    """One question about one picture of `size` = (height, width), None: one that fills the largest tile grid."""

    question: str
    answer: int
    size: tuple[int, int] | None

    def shape(self, bundle: Bundle, budget: str) -> RequestShape:
        return request_shape(bundle, budget, self.question, self.answer, self.size)


@dataclass(frozen=True)
class ProjectedModel:
    """A model under one kind of request.

    name     under which samples know it
    stored   precision of its weights: fp32 or int8
    chunk    positions per run of the prefill graph
    shape    budget -> the request under it
    work     request -> counts of its graphs, by the names that the request gives them
    memory   (request, board, what floats are computed in) -> bytes by part
    """

    name: str
    stored: str
    chunk: int
    shape: Callable[[str], RequestShape]
    work: Callable[[RequestShape], Mapping[str, GraphWork]]
    memory: Callable[[RequestShape, Device, str | None], MemoryFit]


def model_of_bundle(bundle: Bundle, request: ProjectedRequest) -> ProjectedModel:
    """As the runtime would run it: with the bundle's own counts, tokenizer, template and tiles."""
    manifest = bundle.manifest
    return ProjectedModel(
        name=manifest.name,
        stored=manifest.precision,
        chunk=manifest.language.chunk,
        shape=lambda budget: request.shape(bundle, budget),
        work=lambda shape: manifest.work,
        memory=lambda shape, device, precision: memory_fit(manifest, manifest.work, shape, device, precision),
    )


def planned_model(
    name: str,
    picture: PictureSpec,
    stored: str,
    chunk: int,
    work: Callable[[int], Mapping[str, GraphWork]],
    request: ProjectedRequest,
) -> ProjectedModel:
    """A model that is not exported yet, by the counts of `work`: K -> graphs tower, select, prefill, decode and head.

    Its memory is the least that it can be: activations are not counted. Of the question only TEXT_TOKENS are.
    """
    plan = planned_request(picture, request.size)

    def shape(budget: str) -> RequestShape:
        keep = kept(budget, plan.candidates)
        asked = float(budget)
        ratio = asked if asked <= 1 else keep / plan.candidates
        return plan.shape(keep, request.answer, budgets.label_of(budget), ratio)

    return ProjectedModel(
        name=name,
        stored=stored,
        chunk=chunk,
        shape=shape,
        work=lambda shape: work(shape.visual),
        memory=lambda shape, device, precision: memory_at_least(
            work(shape.visual), shape.positions + shape.answer, device, precision
        ),
    )


@dataclass(frozen=True)
class PlannedRequest:
    """A prompt as far as a picture decides it: `candidates` visual tokens on `tiles`, and so many positions `beside` those that stay."""

    candidates: int
    tiles: int
    beside: int

    def shape(self, keep: int, answer: int, budget: str, keep_ratio: float) -> RequestShape:
        positions = keep + self.beside
        return RequestShape(budget, "", "select", "tower", keep_ratio, self.tiles, keep, positions, answer)


def planned_request(picture: PictureSpec, size: tuple[int, int] | None) -> PlannedRequest:
    """For a picture of `size` = (height, width), None: one that fills the largest tile grid."""
    packed = pack_picture(picture.place(*(size or picture.largest)), picture)
    beside = packed.length - packed.candidates + picture.sequence.text_tokens + TEXT_TOKENS
    return PlannedRequest(packed.candidates, packed.tiles, beside)


def kept(budget: str, candidates: int) -> int:
    """K of a budget that is a keep ratio or a count, for a picture of so many visual tokens. Raises MeasurementError."""
    try:
        value = float(budget)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or (value > 1 and not value.is_integer()):
        raise MeasurementError(f"budget {budget!r} is neither a keep ratio in (0, 1] nor a token count; try 0.2 or 576")
    return min(candidates, max(1, round(value * candidates))) if value <= 1 else min(candidates, int(value))
