"""What a plan will come to, before anything runs: sizes, MACs, cache and predicted seconds of every part, now and pruned.

Widths are spread evenly over layers here; what is really removed where follows from calibration, within the same target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeprune.errors import PlanError
from edgeprune.later import torch
from edgeprune.models.checkpoint import Checkpoint
from edgeprune.models.classifiers.open import Classifier
from edgeprune.models.spec import DecoderSpec, TowerSpec, Width
from edgeprune.structure.allocate import SiteCandidate
from edgeprune.structure.cost import Price, macs_of_cut_classifier, macs_of_cut_tower
from edgeprune.structure.plan import ModelPart, widths
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.steps import alignment, removal_order
from edgeprune.structure.targets import Measure
from edgeprune.tokens.inside.language_fit import require_language_fit
from edgeprune.tokens.inside.plan import planned_inside
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.plan.harm import warnings
from edgeprune.tokens.inside.tower.plan.of_model import cuts_of_plan, require_cuts
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.registry.fit import method_plan
from edgeprune_export.bundle.options import ExportOptions, capacity, packed_max, selections, settled
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.commands.export_classifier import cuts_of_classifier
from edgeprune_export.commands.predict_stages import counts_of_stages
from edgeprune_export.pruning.choose import steps_to, wanted_of
from edgeprune_export.pruning.open import TEXT, TOKENS, terms_of, terms_of_classifier
from edgeprune_export.pruning.prices.terms import PricedRequest, Terms, price_of
from edgeprune_export.pruning.specs import specs_of
from edgeprune_runtime.spec import InsideSpec, SelectionSpec, WeightPrecision

_COUNTED: tuple[Measure, ...] = ("params", "macs", "memory")
Pair = tuple[float, float]
"""(now, planned)"""


@dataclass(frozen=True)
class Forecast:
    """One part under one budget. The tower is counted over all tiles of the largest grid; `seconds` is None where nothing was timed.

    A classifier has no budget: `budget` and `keep` are None, and it sees one picture of one size.

    rows  of a tower whose tokens leave between blocks: (that attend, that the MLP sees) by block of the whole tower; `macs` counts them,
          without what the cuts compute themselves; `seconds` does not
    visual  rows of the picture by layer, of a language model that rows leave inside; `macs` and `cache_bytes` count them, `seconds` does not
    """

    part: ModelPart
    budget: str | None
    keep: int | None
    positions: int
    params: Pair
    macs: Pair
    weight_bytes: Pair
    cache_bytes: Pair
    seconds: Pair | None
    rows: tuple[tuple[int, int], ...] = ()
    visual: tuple[int, ...] = ()


def forecast_of_checkpoint(
    checkpoint: Checkpoint,
    options: ExportOptions,
    requests: Mapping[ModelPart, StructureRequest],
    *,
    timed: bool,
    track: Track,
    tell: Callable[[str], None] = lambda sentence: None,
) -> list[Forecast]:
    """One entry per budget and part. Raises PlanError for a target that cannot be reached, and for a method that does not fit.

    tell  is given sentences about what was chosen where nobody said, and about what the plan is known to harm
    """
    model = checkpoint.spec
    options = settled(options, checkpoint, tell)
    chosen = selections(options, model.picture)
    room = capacity(options, chosen, model)
    whole, cuts, most = (
        terms_of(checkpoint, options.precision),
        cuts_of_plan(options.plan.inside, model),
        model.picture.candidates_max,
    )
    require_language_fit(options.plan, model, chosen, options.pictures)
    plan = method_plan(options.plan, model)
    require_cuts(chosen, plan, options.plan.inside, model, METHODS)
    for sentence in warnings(options.plan.inside, [METHODS[name] for name in options.methods], plan):
        tell(sentence)
    found = []
    for part, (spec, blocks) in specs_of(model).items():
        full = widths(spec, blocks)
        tower_seconds = None
        if timed and isinstance(spec, TowerSpec):  # the same under every budget
            tower_seconds = price_of("latency", spec, whole, track)
        planned = spread(part, spec, full, requests[part], whole, track) if part in requests else dict(enumerate(full))
        for budget, keep in _keeps(chosen).items():
            request = PricedRequest(packed_max(model.picture, keep) + TEXT, TOKENS, options.chunk, room)
            terms, times = replace(whole, request=request), model.picture.tiles_max if part == "tower" else 1
            seconds = tower_seconds
            if timed and seconds is None:
                seconds = price_of("latency", spec, terms, track)
            counted = _counted(spec, terms, full, planned, times)
            timed_pair = None if seconds is None else _pair(seconds, full, planned, times)
            one = Forecast(part, budget, keep, request.positions, *counted, timed_pair)
            if part == "language" and planned_inside(options.plan, "language"):
                left, fixed = tuple(planned.values()), request.positions - keep
                visual, macs, cache = counts_of_stages(model, options, chosen, room, left, fixed, keep)
                one = replace(one, visual=visual, macs=(one.macs[0], macs), cache_bytes=(one.cache_bytes[0], cache))
            found.append(
                one
                if cuts is None or part != "tower" or keep == most
                else _cut(one, cuts, model.vision, blocks, planned, times)
            )
    return found


def forecast_of_classifier(
    classifier: Classifier,
    precision: WeightPrecision,
    requests: Mapping[ModelPart, StructureRequest],
    inside: Sequence[InsideSpec] = (),
    *,
    timed: bool,
    track: Track,
) -> list[Forecast]:
    """One entry. Raises PlanError for a target that cannot be reached, or of a part that a classifier has not."""
    if "language" in requests:
        raise PlanError("the model has no language; it has tower: leave [structure.language] out")
    spec, terms = classifier.spec.vision, terms_of_classifier(classifier, precision)
    full = widths(spec, spec.layers)
    asked = requests.get("tower")
    planned = dict(enumerate(full)) if asked is None else spread("tower", spec, full, asked, terms, track)
    seconds = _pair(price_of("latency", spec, terms, track), full, planned) if timed else None
    one = Forecast("tower", None, None, spec.positions, *_counted(spec, terms, full, planned, 1), seconds)
    left = replace(spec, layers=len(planned), widths=tuple(planned.values()))  # cuts count the blocks that stay
    cuts = cuts_of_classifier(inside, replace(classifier.spec, vision=left))
    if cuts is None:
        return [one]
    rows = tuple(cuts.rows(i) for i in range(left.layers))
    macs = macs_of_cut_classifier(left, classifier.spec.classes, rows)
    return [replace(one, macs=(one.macs[0], macs), rows=rows[:-1])]


def _cut(
    one: Forecast, cuts: TowerCuts, spec: TowerSpec, blocks: int, planned: Mapping[int, Width], times: int
) -> Forecast:
    """With the MACs of a tower whose tokens leave between blocks."""
    rows = tuple(cuts.rows(i) for i in range(blocks))
    left = replace(spec, widths=tuple(planned.values()))
    macs = times * macs_of_cut_tower(left, [rows[i] for i in planned])
    return replace(one, macs=(one.macs[0], macs), rows=rows)


def _counted(
    spec: TowerSpec | DecoderSpec, terms: Terms, full: tuple[Width, ...], planned: Mapping[int, Width], times: int
) -> tuple[Pair, Pair, Pair, Pair]:
    """Parameters, MACs, bytes of weights and of the cache."""
    params, macs, memory = (price_of(name, spec, terms, silent) for name in _COUNTED)
    bare = price_of("memory", spec, replace(terms, request=replace(terms.request, capacity=0)), silent)
    weights = _pair(bare, full, planned)
    cache = _less(_pair(memory, full, planned), weights)
    return _pair(params, full, planned), _pair(macs, full, planned, times), weights, cache


def spread(
    part: ModelPart,
    spec: TowerSpec | DecoderSpec,
    full: tuple[Width, ...],
    request: StructureRequest,
    terms: Terms,
    track: Track,
) -> dict[int, Width]:
    """Widths of the blocks that stay, by number, when every layer gives the same share; the last `blocks` of those that may leave do."""
    free = [block for block in range(len(full)) if block not in spec.must_stay]
    if request.blocks > len(free) or request.blocks == len(full):
        most = min(len(free), len(full) - 1)
        raise PlanError(
            f"{request.blocks} of {len(full)} blocks of the {part} cannot leave; give a number from 0 to {most}"
        )
    gone = set(free[len(free) - request.blocks :])
    stay = [block for block in range(len(full)) if block not in gone]
    price = price_of(request.target.measure, spec, terms, track)
    share = spec.heads // spec.kv_heads if isinstance(spec, DecoderSpec) else 1
    candidates = []
    for i in stay:
        group, channel = price.at(i, stay)
        for kind, units, saving, lanes in (
            ("heads", full[i].groups, group, share * spec.head_dim),
            ("mlp", full[i].mlp, channel, 1),
        ):
            zeros = torch.zeros(units, dtype=torch.float64)
            steps = removal_order(part, i, kind, zeros, alignment(kind, request.align, lanes))  # type: ignore[arg-type]
            candidates.append(SiteCandidate(steps, zeros, saving, None, zeros))
    even = replace(request, allocation="uniform")
    now = price.of([full[i] for i in stay], stay)
    taken = steps_to(part, even, candidates, now, wanted_of(request.target, price.of(full)), price.of(full))
    less = [candidate.removal.counts[steps] for candidate, steps in zip(candidates, taken, strict=True)]
    pairs = zip(stay, less[::2], less[1::2], strict=True)
    return {i: Width(full[i].groups - groups, full[i].mlp - channels) for i, groups, channels in pairs}


def _keeps(chosen: Sequence[SelectionSpec]) -> dict[str, int]:
    """The largest K of every budget, in the order of the budgets."""
    found: dict[str, int] = {}
    for selection in chosen:
        found[selection.budget] = max(selection.keep, found.get(selection.budget, 0))
    return found


def _pair(price: Price, full: tuple[Width, ...], planned: Mapping[int, Width], times: int = 1) -> Pair:
    return times * price.of(full), times * price.of(tuple(planned.values()), tuple(planned))


def _less(one: Pair, other: Pair) -> Pair:
    return one[0] - other[0], one[1] - other[1]
