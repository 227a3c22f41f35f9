"""Numbers of the language model and of the choices that a manifest offers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgeprune_runtime.budgets import label_of
from edgeprune_runtime.spec import ITEM_BYTES, LanguageSpec, Manifest, StageSpec, TensorRef, bytes_of

MOST_LAYERS = 4096
MOST_POSITIONS = 1 << 24


def language_faults(spec: LanguageSpec, weights: int) -> Iterator[str]:
    """weights: bytes of the file that tensors of the host lie in."""
    if spec.layers > MOST_LAYERS or len(spec.kv_heads) != spec.layers:
        yield f"{spec.layers} layers and {len(spec.kv_heads)} numbers of key/value heads, expected one each, for at most {MOST_LAYERS}"
    edges = [stage.first for stage in spec.stages] + [spec.layers]
    if not spec.stages or edges[0] != 0 or [stage.behind for stage in spec.stages] != edges[1:]:
        yield f"stages that are not the layers 0 to {spec.layers - 1} one after the other"
    if any(stage.first >= stage.behind for stage in spec.stages):
        yield "a stage without a layer"
    for stage in spec.stages:
        chunk = spec.chunk_of(stage)
        if stage.capacity % chunk or stage.capacity > MOST_POSITIONS:
            yield f"a cache of {stage.capacity} positions for chunks of {chunk}, expected a multiple, at most {MOST_POSITIONS}"
    for number, stage in enumerate(spec.stages):
        yield from _cut_faults(spec, spec.stages[number - 1] if number else None, stage)
    if len(set(spec.graphs)) != len(spec.graphs):
        yield "one graph for several parts of the language model"
    yield from _tensor_faults("embedding table", spec.embedding, (spec.vocab, spec.hidden), weights)
    if spec.learned is not None:
        yield from _tensor_faults("learned row", spec.learned, (spec.hidden,), weights)


def _cut_faults(spec: LanguageSpec, before: StageSpec | None, stage: StageSpec) -> Iterator[str]:
    """Between two stages; before: None for the first."""
    where = f"layer {stage.first} of the language model"
    if stage.returns and (stage.rank is not None or before is None or spec.deepstack):
        yield f"rows that come back before {where}, and a ranking there, no stage before it, or rows that enter behind layers"
    if stage.recycles and stage.rank is None:
        yield f"rows that stand for others before {where}, and no ranking that makes them"
    if stage.rank is None and not stage.returns:
        if before is not None and spec.chunk_of(stage) != spec.chunk_of(before):
            yield f"another chunk from {where} on, where no row leaves"
    elif stage.rank is not None and before is None:
        yield "a ranking before the language model's first layer"
    if not 0 <= stage.keep < math.inf or (stage.keep > 1 and stage.keep % 1):
        yield f"{stage.keep} visual rows that stay before {where}, expected a share or a whole number"


def _tensor_faults(what: str, ref: TensorRef, shape: tuple[int, ...], weights: int) -> Iterator[str]:
    if ref.shape != shape:
        yield f"the {what} has shape {list(ref.shape)}, expected {list(shape)}"
    if ref.offset % ITEM_BYTES[ref.dtype]:
        yield f"the {what} begins at byte {ref.offset}, inside a number"
    if ref.offset + bytes_of(ref.shape, ref.dtype) > weights:
        yield f"the {what} reaches beyond its weights file of {weights} bytes"


def choice_faults(manifest: Manifest) -> Iterator[str]:
    """Selections: every budget has one of the bundle's own for every number of visual tokens that a picture can have."""
    picture, language = manifest.picture, manifest.language
    counts = set(picture.token_counts)
    if language.axes != picture.sequence.axes:
        yield f"positions of {language.axes} axes for pictures whose rows have {picture.sequence.axes}"
    if language.deepstack > language.layers:
        yield f"rows that enter behind {language.deepstack} layers of {language.layers}"
    if not language.capacity <= language.positions <= MOST_POSITIONS:
        yield f"angles of {language.positions} positions for a cache of {language.capacity}"
    if not any(s.own for s in manifest.selections):
        yield "no budget of its own"
    covered: dict[tuple[str, str, bool], set[int | None]] = {}
    for s in manifest.selections:
        covered.setdefault((s.budget, s.method, s.own), set()).add(s.tokens)
        if s.keep > picture.candidates_max or not 0 < s.keep_ratio <= 1:
            yield f"a selection of {s.keep} visual tokens (share {s.keep_ratio}); a picture has at most {picture.candidates_max}"
        if label_of(s.budget) != s.budget:
            yield f"the budget {s.budget!r}, which nobody can ask for; expected {label_of(s.budget)!r}"
    for (budget, method, _), tokens in covered.items():
        if None not in tokens and not counts <= tokens:
            missing = min(counts - {count for count in tokens if count is not None})
            yield f"budget {budget} of {method} has no selection for pictures of {missing} visual tokens"
    if picture.sequence.row_end and manifest.language.learned is None:
        yield "rows that end in a learned row, and no learned row"
