"""The gate of engines: on the device, against the bundle's own graphs on ONNX Runtime, on fixed pictures, at least one for each grid.

Per picture and budget: every output of the tower, the kept indices from the same readings (identical for methods without near ties) and from
the engine's own, projected tokens, and from the same prompt the logits of every token of a greedy text in which the reference must agree with
every choice. On a failure the first tensor that goes astray is looked for (`bisect.py`), and the engines are not sealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edgeprune.errors import ParityError
from edgeprune_export.bundle.progress import Track
from edgeprune_export.engines.bisect import first_astray
from edgeprune_export.engines.prepare import LANGUAGE, sources
from edgeprune_export.gate.checks import relative, typical
from edgeprune_export.gate.pictures import pictures_for
from edgeprune_export.gate.reference_run import Mapped, greedy
from edgeprune_runtime.backends import Backend, backend
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.backends.tensorrt import TensorRtBackend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.engines.spec import EngineSet, GateReport
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.prompting.pack import KeptPicture, pack
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.spec import Manifest, ParityCheck, SelectionSpec, tower_of
from edgeprune_runtime.stages.lists import RowsPlan
from edgeprune_runtime.stages.plan import plan_of
from edgeprune_runtime.stages.rows import prompt_rows
from edgeprune_runtime.vision import Vision

_PROMPT = "What is in the picture?"
_TOKENS = 8
_ALIVE = "alive"  # of a tower that is cut: which tokens it still has
Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class EngineLimits:
    """Differences allowed, root mean square over root mean square; `kept`: least share of tokens in common; `gap`: of greedy logits."""

    tower: float
    kept: float
    visual: float
    logits: float
    gap: float


#: float16 has 11 bits, bfloat16 8; a product's error grows with depth. Limits catch what is broken; quality is for `edgeprune eval`.
LIMITS = {
    "fp32": EngineLimits(tower=2e-3, kept=0.98, visual=2e-3, logits=5e-3, gap=0.01),
    "fp16": EngineLimits(tower=0.01, kept=0.9, visual=0.01, logits=0.015, gap=0.05),
    "bf16": EngineLimits(tower=0.06, kept=0.75, visual=0.06, logits=0.06, gap=0.2),
}


@dataclass
class _Checks:
    """What was compared. `failed` is the first check that did not pass: (engine, the inputs that show it)."""

    made: list[ParityCheck] = field(default_factory=list)
    failed: tuple[ParityCheck, str, Inputs] | None = None

    def add(
        self, engine: str, what: str, budget: str, value: float, limit: float, inputs: Inputs, *, least: bool = False
    ) -> None:
        passed = value >= limit if least else value <= limit
        check = ParityCheck(f"{engine}: {what}", budget, value, limit, "at least" if least else "at most", passed)
        self.made.append(check)
        if not passed and self.failed is None:
            self.failed = check, engine, inputs


def check_engines(bundle: Bundle, device: DeviceBackend, found: EngineSet, track: Track) -> GateReport:
    """Run the gate over the engines that `device` has for the bundle. Raises ParityError with the first tensor that goes astray."""
    host, limits, checks = Mapped(backend()), LIMITS[found.key.precision], _Checks()
    with track("engine gate", len(pictures_for(bundle.manifest.picture))) as advance:
        for _ in compare(bundle, host, device, limits, checks):
            advance()
    if checks.failed is not None:
        check, engine, inputs = checks.failed
        where = _where(bundle, device, found, engine, inputs, limits.logits)
        raise ParityError(
            f"the engine differs from the bundle's graph in {check.name}"
            f"{f' at budget {check.budget}' if check.budget else ''}: {check.value:.3g}, allowed {check.rule} {check.limit:g}. {where}. "
            "Nothing was sealed. Try --compute bf16 or --dialect portable, and report it with this sentence"
        )
    return GateReport(None, tuple(checks.made))


def _where(bundle: Bundle, device: DeviceBackend, found: EngineSet, engine: str, inputs: Inputs, limit: float) -> str:
    """Which tensor is at fault, in a sentence. Logits come from several engines: the head takes any row, a first stage those of a prompt."""
    if not isinstance(device, TensorRtBackend):
        return "Build for TensorRT to have the tensor at fault named"
    if not inputs:
        return "It follows from differences of the tower within its limit; no single tensor is at fault"
    row = np.random.default_rng(0).standard_normal((1, bundle.manifest.language.hidden), np.float32)
    begins = next(name for name in sources(bundle) if name.startswith(LANGUAGE))
    of_language = ((begins, inputs), ("head", {"hidden": row}))
    for name, given in of_language if engine == LANGUAGE else ((engine, inputs),):
        said = first_astray(bundle, device, found, name, given, limit)
        if said is not None:
            return said
    if engine == LANGUAGE and begins != LANGUAGE:
        return f"{begins} and head agree by themselves, so a later stage of the language model is at fault"
    return "With the same inputs alone the engine agrees, so what an earlier run left may be at fault"


def compare(bundle: Bundle, host: Backend, device: Backend, limits: EngineLimits, checks: _Checks) -> Iterator[None]:
    """All checks, one step per picture."""
    manifest, prompter = bundle.manifest, Prompter.of(bundle)
    ours, theirs = (Vision(bundle, one) for one in (device, host))
    languages = LanguageModel(bundle, device), LanguageModel(bundle, host)
    words = languages[1].embed(prompter.content_ids(_PROMPT))
    asked = prompter.render(_PROMPT, images=1)
    for image in pictures_for(manifest.picture):
        picture = pack_picture(manifest.picture.place(image.height, image.width), manifest.picture)
        tiles = tiles_from_image(image, manifest.picture, picture.place)
        tokens = prompter.tokens(asked, (picture,))
        gated = [s for s in manifest.selections if s.tokens in (None, manifest.picture.tokens_of(picture.place))]
        for vision in (ours, theirs):
            vision.encode(tiles, picture, [s.tower for s in gated])
            vision.ask(words)
        _towers(ours, theirs, gated, picture, tiles, checks, limits)
        for selection in gated:
            visual, kept = _selection(bundle, ours, theirs, selection, checks, limits)
            if not selection.own:
                continue  # the language model does not know who chose
            separators = manifest.plan.separators_for(selection)
            packed = pack(
                tokens,
                (KeptPicture(picture, kept, separators),),
                manifest.plan.positions_for(selection),
                manifest.picture.sequence,
            )
            embeds = languages[1].compose(packed.ids, visual)
            prompt = embeds, packed.positions, packed.next_position
            plan = _plan(manifest, packed.ids, picture.places.reshape(-1, 2)[kept], theirs.select(selection).salience)
            _language(bundle, languages, prompt, plan, selection.budget, checks, limits)
        yield
    room = min(stage.capacity for stage in manifest.language.stages) - _TOKENS
    full = np.resize(
        embeds, (room, embeds.shape[1])
    )  # every place of the cache is read, of the shortest where stages have their own
    prompt = full, np.broadcast_to(np.arange(room), (manifest.language.axes, room)), room
    _language(bundle, languages, prompt, None, "a full cache", checks, limits)


def _plan(manifest: Manifest, ids: np.ndarray, places: np.ndarray, salience: np.ndarray | None) -> RowsPlan:
    return plan_of(manifest.language, prompt_rows(ids, salience, places), None, manifest.plan.positions)


def _towers(
    ours: Vision,
    theirs: Vision,
    gated: list[SelectionSpec],
    picture: PackedPicture,
    tiles: np.ndarray,
    checks: _Checks,
    limits: EngineLimits,
) -> None:
    for tower in dict.fromkeys(s.tower for s in gated):
        mine, reference = ours.outputs(tower), theirs.outputs(tower)
        graph, given = tower_of(tower, picture.place.view), {"pixels": tiles[:1]}
        both = None
        if _ALIVE in mine:  # another rounding may let another token leave: what both have is compared
            given["valid"] = (picture.slot[:1] >= 0).astype(np.float32)
            alive = [(values[_ALIVE][: len(tiles)] > 0) for values in (mine, reference)]
            both = alive[0] & alive[1]
            share = float(both.sum() / max(1, alive[1].sum()))
            checks.add(graph, _ALIVE, "", share, limits.kept, given, least=True)
        for name in mine:
            if mine[name].dtype == np.float32 and name in ours.tower_outputs(tower) and name != _ALIVE:
                found, wanted = (_there(values[name][: len(tiles)], both) for values in (mine, reference))
                checks.add(graph, name, "", relative(found, wanted, typical), limits.tower, given)


def _there(values: np.ndarray, both: np.ndarray | None) -> np.ndarray:
    """Values of all tokens [t, N, ...], zero where not both have one; others as they are."""
    if both is None or values.shape[:2] != both.shape:
        return values
    found: np.ndarray = values * both.reshape(*both.shape, *[1] * (values.ndim - 2))
    return found


def _selection(
    bundle: Bundle, ours: Vision, theirs: Vision, selection: SelectionSpec, checks: _Checks, limits: EngineLimits
) -> tuple[np.ndarray, np.ndarray]:
    """Compare what is kept; returns the reference's own choice, for both language models to go on with."""
    at, graph = selection.budget, selection.graph
    reference = theirs.select(selection)
    own = ours.select(selection)
    readings, mine = theirs.encoded(selection), ours.encoded(selection)
    ours.restore(selection, readings)
    same = ours.select(selection)
    ours.restore(selection, mine)
    asked = {
        name: value.copy() for name, value in theirs.outputs(selection.tower).items() if name.startswith("question")
    }
    inputs = {**readings.readings, **asked}
    checks.add(graph, "kept indices", at, _share(reference.kept, same.kept), 0.999, inputs, least=True)
    checks.add(graph, "kept indices, own tower", at, _share(reference.kept, own.kept), limits.kept, {}, least=True)
    shared = reference.kept == same.kept if reference.kept.shape == same.kept.shape else np.zeros(0, bool)
    rows = relative(same.visual[shared], reference.visual[shared], typical) if shared.any() else 1.0
    checks.add(graph, "projected tokens", at, rows, limits.visual, inputs)
    return reference.visual, reference.kept


def _language(
    bundle: Bundle,
    languages: tuple[LanguageModel, LanguageModel],
    prompt: tuple[np.ndarray, np.ndarray, int],
    plan: RowsPlan | None,
    at: str,
    checks: _Checks,
    limits: EngineLimits,
) -> None:
    """prompt: rows [S, D], positions [S], position of the first new token; plan: which rows leave inside, None: none.

    Lists of rows are compared by themselves; logits then behind the same ones.
    """
    ours, theirs = languages
    (embeds, positions, following), chunk = prompt, bundle.manifest.language.chunk
    reference = [theirs.prefill(embeds, positions, plan).copy()]
    if plan is not None and (expected := theirs.rows_behind_cuts()):
        ours.prefill(embeds, positions, plan)
        for number, other, mine in zip(bundle.manifest.language.cuts, expected, ours.rows_behind_cuts(), strict=True):
            name = bundle.manifest.language.stages[number].rank
            if name is None:  # all rows are back
                continue
            checks.add(name, "rows that go on", at, _share(other, mine), limits.kept, {}, least=True)
        if not any(
            stage.recycles for stage in bundle.manifest.language.stages
        ):  # a list does not say what means are made of
            plan = plan._replace(forced=expected)
    image_id = bundle.manifest.language.image_token_id
    chosen, rows = greedy(ours, embeds, positions, following, image_id, _TOKENS, plan)
    reference += [theirs.step(token, following + step).copy() for step, token in enumerate(chosen[:-1])]
    inputs = {"embeds": embeds[:chunk], "position_ids": positions[:, :chunk]}
    worst = max(relative(mine, other, typical) for mine, other in zip(rows, reference, strict=True))
    checks.add(LANGUAGE, f"logits of {len(chosen)} tokens", at, worst, limits.logits, inputs)
    gap = max((row.max() - row[token]) / (typical(row) or 1.0) for row, token in zip(reference, chosen, strict=True))
    checks.add(LANGUAGE, f"greedy text of {len(chosen)} tokens", at, float(gap), limits.gap, inputs)


def _share(expected: np.ndarray, kept: np.ndarray) -> float:
    return float(np.intersect1d(expected, kept).size / max(1, len(expected), len(kept)))
