"""The gate of every export: graphs, run as the runtime runs them, against the eager reference on fixed pictures.

Per picture and budget: kept indices (identical on the same features), projected tokens, logits of the first token, and a greedy continuation in
which the reference must agree with every choice. Graphs are opened one group after the other, so that a large model is never held
twice. A check that fails names the graph, which is where to look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgeprune.errors import ParityError
from edgeprune.models.checkpoint import Checkpoint
from edgeprune.plan import TokenPlan
from edgeprune.tokens import combine
from edgeprune.tokens.methods import CONTROLS, METHODS
from edgeprune.tokens.seen import seen_from, union
from edgeprune_export.eager import EagerReference
from edgeprune_export.pictures import fixed_pictures
from edgeprune_runtime.anyres import tiles_from_image
from edgeprune_runtime.backends import Backend, Session, backend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.layout import Layout, layout_from_size
from edgeprune_runtime.prompt import Packed, Prompter, pack
from edgeprune_runtime.spec import GraphSpec, ParityCheck, ParityReport, SelectionSpec
from edgeprune_runtime.vision import TOWER, Selected, Vision

_PROMPT = "What is in the picture?"
_NEW_TOKENS = 8


def _largest(difference: np.ndarray) -> float:
    return float(np.abs(difference).max())


def _typical(difference: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))


@dataclass(frozen=True)
class Limits:
    """Differences allowed, as shares of the reference's own root mean square; `norm` says how a difference is summed up."""

    pixels: float
    attention: float
    features: float
    kept: float
    visual: float
    logits: float
    greedy: float
    norm: Callable[[np.ndarray], float] = _largest


# fp32 sums in another order, so the largest difference counts. int8 changes every number, and single ones by much: its limits are on
# the typical difference and only catch what is broken; its quality is for `edgeprune eval`.
_LIMITS = {
    "fp32": Limits(pixels=1e-5, attention=1e-3, features=1e-3, kept=0.99, visual=1e-3, logits=5e-3, greedy=5e-3),
    "int8": Limits(
        pixels=1e-5, attention=0.7, features=0.5, kept=0.5, visual=0.5, logits=0.7, greedy=3.0, norm=_typical
    ),
}


# Share of tokens on which graph and eager must agree from the same features, for methods whose near ties rounding decides.
_NEAR_TIES = 0.8


@dataclass(frozen=True)
class _Case:
    """One picture under one budget, after the vision graphs ran."""

    selection: SelectionSpec
    layout: Layout
    selected: Selected
    eager: np.ndarray  # [k, D] projected by the reference
    inputs: dict[str, torch.Tensor]


def check_parity(bundle: Bundle, checkpoint: Checkpoint, plan: TokenPlan, advance: Callable[[], None]) -> ParityReport:
    """Run the gate; raises ParityError with the first failing graph named. `advance` is called once per case and stage."""
    limits = _LIMITS[bundle.manifest.precision]
    reads = union(METHODS[s.method].reads(plan) for s in bundle.manifest.selections if s.tower == TOWER)
    reference = EagerReference(checkpoint, reads)
    checks: list[ParityCheck] = []
    cases: list[_Case] = []
    pictures = fixed_pictures()
    engine = _Mapped(backend())
    vision, prompter = Vision(bundle, engine), Prompter(bundle)
    ids = prompter.ids(_PROMPT, images=1)
    table = bundle.tensor(bundle.manifest.language.embedding)
    vision.ask(np.asarray(table[prompter.content_ids(_PROMPT)], np.float32))
    for picture in pictures:
        cases += _vision_cases(bundle, vision, reference, picture, prompter, plan, limits, checks, advance)
    del vision
    language = LanguageModel(bundle, engine)
    for case in cases:
        _language_case(bundle, language, reference, case, ids, limits, checks)
        advance()
    name = f"transformers {_version('transformers')}, torch {_version('torch')}, float32"
    return ParityReport(None, name, len(pictures), tuple(checks))


class _Mapped:
    """A backend whose sessions keep their weights mapped: repacking them is for speed, changes no result, and costs the gate memory."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.name = inner.name

    def why_unavailable(self) -> str | None:
        return self._inner.why_unavailable()

    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> Session:
        return self._inner.open(root, graph, resident=False)


def cases(bundle_selections: Sequence[SelectionSpec]) -> int:
    """Steps that `check_parity` will advance."""
    own = {s.budget for s in bundle_selections}
    return 2 * len(fixed_pictures()) * len(own)


def _vision_cases(
    bundle: Bundle,
    vision: Vision,
    reference: EagerReference,
    picture: Image.Image,
    prompter: Prompter,
    plan: TokenPlan,
    limits: Limits,
    checks: list[ParityCheck],
    advance: Callable[[], None],
) -> Iterable[_Case]:
    manifest = bundle.manifest
    layout = layout_from_size(picture.height, picture.width, manifest.preprocess)
    tiles = tiles_from_image(picture, manifest.preprocess)
    inputs = reference.inputs(picture, prompter.rendered(_PROMPT, images=1))
    theirs = np.asarray(inputs["pixel_values"]).reshape(-1, *tiles.shape[1:])[: len(tiles)]
    _at_most(checks, "preprocessing: pixels", "", float(np.abs(tiles - theirs).max()), limits.pixels)
    gated = [
        s
        for s in manifest.selections
        if s.tiles in (None, layout.tiles) and (s.method not in CONTROLS or s.method == plan.method)
    ]
    towers = {TOWER: 0, **{s.tower: s.keep for s in gated}}
    vision.encode(tiles, layout, towers)
    eager_seen = {}
    for name, keep in towers.items():
        cuts = next((METHODS[s.method].cuts for s in gated if s.tower == name), None)
        left = (
            None
            if cuts is None
            else cuts(plan, keep, manifest.preprocess.tiles_max, manifest.preprocess.tokens_per_tile)
        )
        host = {key: torch.from_numpy(buffer) for key, buffer in vision.seen(name).items()}
        eager_seen[name] = reference.seen(torch.from_numpy(tiles), layout, host, left)
        for spec in bundle.graph(name).outputs:
            ours, theirs = vision.seen(name)[spec.name][: len(tiles)], eager_seen[name][spec.name][: len(tiles)].numpy()
            limit = limits.features if spec.name in ("features", "class_feature", "projected") else limits.attention
            _at_most(checks, f"{name}: {spec.name}", "", _relative(ours, theirs, limits.norm), limit)
    found = []
    for selection in gated:
        selected = vision.select(selection)
        method = METHODS[selection.method]
        by_eager = eager_seen[selection.tower]
        by_graph = {key: torch.from_numpy(buffer) for key, buffer in vision.seen(selection.tower).items()}
        by_graph |= {key: by_eager[key] for key in ("slot", "region", "mosaic")}
        names = ("features", *method.reads(plan).names, "slot", "region", "mosaic")
        expected = method.reduce(seen_from({name: by_graph[name] for name in names}), selection.keep, plan)
        eager = seen_from({name: by_eager[name] for name in names})
        steady = method.steady
        same = _share(expected.index.numpy(), selected.kept)
        at, own = selection.budget, 1.0 if steady == 1 else _NEAR_TIES
        _at_least(checks, f"{selection.graph}: indices equal the method's", at, same, own)
        shared = _share(method.reduce(eager, selection.keep, plan).index.numpy(), selected.kept)
        wanted = min(limits.kept, steady)
        _at_least(checks, f"{selection.graph}: indices of the eager tower kept", at, shared, wanted)
        rows = reference.project(combine.apply(eager, expected))
        visual = _in_order(rows, expected.index.numpy(), selected)
        norm = (
            limits.norm if steady == 1 else _typical
        )  # one member that joined another merge changes a row, not the picture
        limit = limits.visual if steady == 1 else max(limits.visual, 1 - _NEAR_TIES)
        difference = _relative(selected.visual, visual, norm)
        _at_most(checks, f"{selection.graph}: projected tokens", at, difference, limit)
        if selection.method in (plan.method, "full"):
            found.append(_Case(selection, layout, selected, visual, inputs))
            advance()
    return found


def _share(expected: np.ndarray, kept: np.ndarray) -> float:
    """Share of the expected indices (-1: none) that were kept."""
    wanted = expected[expected >= 0]
    return float(np.intersect1d(wanted, kept).size / max(1, len(wanted), len(kept)))


def _in_order(rows: np.ndarray, index: np.ndarray, selected: Selected) -> np.ndarray:
    """The reference's rows in the graph's order; the graph's own where the reference kept another token."""
    found: np.ndarray = selected.visual.copy()
    of_index = {int(token): row for row, token in enumerate(index) if token >= 0}
    for place, token in enumerate(selected.kept.tolist()):
        if token in of_index:
            found[place] = rows[of_index[token]]
    return found


def _language_case(
    bundle: Bundle,
    language: LanguageModel,
    reference: EagerReference,
    case: _Case,
    ids: list[int],
    limits: Limits,
    checks: list[ParityCheck],
) -> None:
    manifest = bundle.manifest
    newline = manifest.language.newline
    full = case.selection.method == "full"
    policy = "all" if full else manifest.plan.newline
    packed = pack(
        ids, manifest.language.image_token_id, case.layout, case.selected.kept, policy, manifest.plan.position_ids
    )
    between = None if newline is None else np.asarray(bundle.tensor(newline), np.float32)
    embeds = language.compose(packed.ids, case.selected.visual, between)
    chosen, first = _greedy(language, embeds, packed, manifest.language.image_token_id)
    if full:
        eager = reference.full_logits(case.inputs, chosen)
    else:
        embeds[packed.ids == -1] = case.eager
        whole = np.concatenate([embeds, language.embed(chosen[:-1])])
        positions = np.concatenate([packed.positions, packed.next_position + np.arange(len(chosen) - 1)])
        eager = reference.logits(whole, positions, len(chosen))
    budget, scale = case.selection.budget, _typical(eager[0]) or 1.0
    difference = _relative(first, eager[0], limits.norm)
    _at_most(checks, "prefill and head: logits", budget, difference, limits.logits)
    # 0 when the reference would choose the same token at every step; otherwise how far it prefers another.
    gap = max(float(row.max() - row[token]) for row, token in zip(eager, chosen, strict=True)) / scale
    _at_most(checks, f"decode: greedy text of {len(chosen)} tokens", budget, gap, limits.greedy)


def _greedy(language: LanguageModel, embeds: np.ndarray, packed: Packed, image_id: int) -> tuple[list[int], np.ndarray]:
    """Chosen tokens and the first logits; ends after an image placeholder, which the reference would take for a picture."""
    logits = language.prefill(embeds, packed.positions)
    first = logits.copy()
    chosen = [int(np.argmax(logits))]
    while len(chosen) < _NEW_TOKENS and chosen[-1] != image_id:
        logits = language.step(chosen[-1], packed.next_position + len(chosen) - 1)
        chosen.append(int(np.argmax(logits)))
    return chosen, first


def _relative(ours: np.ndarray, eager: np.ndarray, norm: Callable[[np.ndarray], float]) -> float:
    """The difference, summed up by `norm`, as a share of the reference's root mean square."""
    return norm(ours - eager) / (_typical(eager) or 1.0) if eager.size else 0.0


def _at_most(checks: list[ParityCheck], name: str, budget: str, value: float, limit: float) -> None:
    _record(checks, ParityCheck(name, budget, value, limit, "at most", value <= limit))


def _at_least(checks: list[ParityCheck], name: str, budget: str, value: float, limit: float) -> None:
    _record(checks, ParityCheck(name, budget, value, limit, "at least", value >= limit))


def _record(checks: list[ParityCheck], check: ParityCheck) -> None:
    checks.append(check)
    if not check.passed:
        at = f" at budget {check.budget}" if check.budget else ""
        raise ParityError(
            f"graph and eager reference differ in {check.name}{at}: {check.value:.3g}, allowed {check.rule} {check.limit:g}; nothing was "
            "sealed. Report this with the checkpoint's config.json, or export with --no-parity at your own risk"
        )


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
