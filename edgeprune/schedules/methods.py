"""Which methods a search is given, and at which blocks and layers it may use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeprune.errors import PlanError
from edgeprune.tokens.inside import INSIDE, InsideMethod
from edgeprune.tokens.inside.method import InsidePart
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune_runtime.spec import InsideSpec

_HOW = "a search finds how many stay: write pdrop, or pdrop@8,16 for these layers only"
#: Where rows may leave the language model when nobody says: early, and at each further quarter.
_LANGUAGE_DEPTHS = (1 / 12, 1 / 4, 1 / 2, 3 / 4)
_TOWER_FROM, _TOWER_MOST = 1 / 4, 8  # share of the blocks that are left alone, and most places
_TRIED = 0.9  # share by which a place is tried for whether it can be cut at


@dataclass(frozen=True)
class SearchedMethod:
    """layers: where it may act; None: wherever it makes sense."""

    method: InsideMethod
    layers: tuple[int, ...] | None = None


def searched_methods(texts: Sequence[str], defaults: Sequence[str]) -> dict[InsidePart, SearchedMethod]:
    """By part, what `--inside` names; `defaults` where it is not given, nothing for "none". Raises PlanError."""
    found: dict[InsidePart, SearchedMethod] = {}
    names = list(texts) or list(defaults)
    if "none" in names:
        if len(names) > 1:
            raise PlanError("none and another --inside exclude each other; leave one of them out")
        return {}
    for text in names:
        one = _from_text(text)
        part = one.method.part
        if part in found:
            both = f"{found[part].method.name} and {one.method.name}"
            raise PlanError(f"{both} would both work inside the {part}; give one method for each part")
        if isinstance(one.method, LanguageCut) and one.method.nobody:
            raise PlanError(
                f"{one.method.name} lets all visual rows leave, so there is no count to search; choose pdrop"
            )
        if isinstance(one.method, LanguageCut) and (one.method.returns or one.method.recycles({})):
            raise PlanError(
                f"with {one.method.name} rows come back or means of them stay, which a search does not judge; choose a ranking such as pdrop"
            )
        found[part] = one
    return found


def _from_text(text: str) -> SearchedMethod:
    name, at, rest = text.rpartition("@")
    if not at:
        return SearchedMethod(INSIDE.choose(text))
    try:
        layers = tuple(int(one) for one in rest.split(","))
    except ValueError as error:
        raise PlanError(f"--inside {text!r} is not understood; {_HOW}") from error
    if list(layers) != sorted(set(layers)) or layers[0] < 0:
        raise PlanError(f"layers {list(layers)} of --inside {text} are not ascending numbers from 0; {_HOW}")
    return SearchedMethod(INSIDE.choose(name), layers)


def tower_blocks_of(found: SearchedMethod, blocks: int, fits: Callable[[InsideSpec], None]) -> tuple[int, ...]:
    """Blocks of the tower at which it may cut. fits: raises PlanError for a cut that cannot be."""
    method = found.method
    assert isinstance(method, TowerMethod)

    def tried(block: int) -> InsideSpec:
        return InsideSpec(method.name, (block,), (_TRIED,))

    if found.layers is not None:
        if method.once and len(found.layers) > 1:
            raise PlanError(f"{method.name} needs the grid of all patches, which is gone after a cut; give one block")
        for block in found.layers:
            fits(tried(block))
        return found.layers
    possible = [block for block in range(round(blocks * _TOWER_FROM), blocks) if _is_fit(tried(block), fits)]
    if not possible:
        fits(tried(max(1, blocks // 2)))
        raise PlanError(f"{method.name} can cut at no block of a tower of {blocks} blocks; choose another method")
    if method.once:
        return (possible[0],)
    return tuple(sorted({possible[round(i * (len(possible) - 1) / (_TOWER_MOST - 1))] for i in range(_TOWER_MOST)}))


def language_layers_of(found: SearchedMethod, layers: int) -> tuple[int, ...]:
    """Layers of the language model before which rows may leave."""
    chosen = found.layers
    if chosen is None:
        chosen = tuple(sorted({min(max(1, round(layers * depth)), layers - 1) for depth in _LANGUAGE_DEPTHS}))
    for layer in chosen:
        if not 1 <= layer < layers:
            raise PlanError(
                f"{found.method.name} would let rows leave before layer {layer} of the language model, which has layers 0 to {layers - 1}; "
                f"give layers from 1 to {layers - 1}"
            )
    return chosen


def _is_fit(spec: InsideSpec, fits: Callable[[InsideSpec], None]) -> bool:
    try:
        fits(spec)
    except PlanError:
        return False
    return True
