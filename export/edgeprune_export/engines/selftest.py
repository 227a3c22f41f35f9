"""Does a backend really work on this device: build, gate, same answers, CUDA graphs, times and energy, in a minute.

The bundle that comes along has random weights and the shapes of a real LLaVA-NeXT, so numbers of speed say little about a real one; whether the
path works does not depend on that. Any other bundle can be given instead.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edgeprune.errors import EdgepruneError, EngineError, ParityError
from edgeprune_export.bundle.progress import Track
from edgeprune_export.engines.build import build
from edgeprune_export.engines.choices import BuildOptions
from edgeprune_export.engines.gate import check_engines
from edgeprune_export.engines.target import EngineTarget
from edgeprune_export.gate.pictures import fixed_pictures
from edgeprune_runtime.backends import Backend, backend, choose, created
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.backends.tensorrt import TensorRtBackend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.engines.spec import EngineSet
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.model import Model

BUNDLE = Path(__file__).parent / "selftest_bundle"
REFERENCE = "onnxruntime"
_QUESTION = "What is in the picture?"
_TOKENS = 12
_TIMED = 30
Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class SelftestStep:
    """One thing that was tried. `numbers` are what `--json` keeps of it, with units in their names."""

    name: str
    outcome: Outcome
    detail: str
    numbers: dict[str, Any]


def selftest(bundle: Path | None, name: str, work: Path, track: Track) -> Iterator[SelftestStep]:
    """Try everything with one backend, a step at a time; ends after a step that nothing can follow.

    work: an empty folder, for a copy of the bundle that comes along, so that nothing installed is written to.
    """
    root = work / "bundle"
    if bundle is None:
        shutil.copytree(BUNDLE, root)
    else:
        root = bundle
    if name == "auto":
        chosen = choose("auto")
        engine = chosen.backend
        why = f"; not taken: {chosen.why}" if chosen.why else ""
        yield SelftestStep(
            "backend", "passed", f"{engine.name} is the first that works here{why}", {"backend": engine.name}
        )
    else:
        engine = created(name)
    reason = engine.why_unavailable()
    if reason is not None:
        yield SelftestStep("backend", "failed", reason, {"backend": engine.name})
        return
    Bundle.open(root)  # a folder that is no bundle ends here, before anything is tried on it
    yield _device(engine)
    if isinstance(engine, DeviceBackend):
        built = yield from _built(root, engine, track)
        if not built:
            return
    yield _attempt("answers", lambda: _answers(root, engine.name))
    yield _attempt("second question", lambda: _second_question(root, engine))
    if isinstance(engine, TensorRtBackend):
        yield _attempt("CUDA graphs", lambda: _graphs(root, name))
    yield _attempt("times", lambda: _times(root, engine))
    yield _attempt("energy", lambda: _energy(root, engine))


def _attempt(name: str, step: Callable[[], SelftestStep]) -> SelftestStep:
    try:
        return step()
    except EdgepruneError as error:
        return SelftestStep(name, "failed", str(error), {})


def _device(engine: Backend) -> SelftestStep:
    if not isinstance(engine, DeviceBackend):
        from edgeprune_runtime.meters.environment import environment

        facts = environment()
        return SelftestStep(
            "device", "passed", f"{facts.cpu_model}, {facts.cores_usable} cores", {"cpu": facts.cpu_model}
        )
    key, device = engine.here(), engine.device
    detail = f"{device.name} ({device.capability}), {device.memory_bytes / 2**30:.1f} GiB, driver {device.driver}, {key.runtime} {key.version}"
    mode = {} if key.power_mode is None else {"power_mode": key.power_mode}
    return SelftestStep(
        "device",
        "passed",
        detail,
        {"gpu": device.name, "capability": device.capability, "driver": device.driver} | mode,
    )


def _built(root: Path, engine: DeviceBackend, track: Track) -> Generator[SelftestStep, None, bool]:
    """Engines for this device, gated: those that the bundle has, or new ones."""
    runtime = engine.here().runtime
    try:
        folder, found = engine.engine_set(root)
        yield SelftestStep("engines", "passed", f"{folder.name} fits this device", {})
        if found.gate.skipped is not None:  # built ahead of time: this is the first device that can tell
            gate = check_engines(Bundle.open(root, verify=False), engine, found, track)
            found = msgspec.structs.replace(found, gate=gate)
    except ParityError as error:
        yield SelftestStep("gate", "failed", str(error), {})
        return False
    except EngineError:
        try:
            start = time.perf_counter()
            folder, found = build(
                root, EngineTarget(runtime), BuildOptions(force=True, command="edgeprune selftest"), track=track
            )
        except EdgepruneError as error:
            yield SelftestStep("engines", "failed", str(error), {})
            return False
        seconds = time.perf_counter() - start
        yield SelftestStep(
            "engines", "passed", f"{len(found.engines)} built in {seconds:.0f} s", {"build_s": round(seconds, 1)}
        )
    yield _gate(found)
    return True


def _gate(found: EngineSet) -> SelftestStep:
    if found.gate.skipped is not None:
        return SelftestStep("gate", "skipped", found.gate.skipped, {})
    worst = {check.name: check.value for check in found.gate.checks if check.rule == "at most"}
    name = max(worst, key=lambda one: worst[one])
    detail = f"{len(found.gate.checks)} checks passed; the largest difference is {worst[name]:.2g} ({name})"
    return SelftestStep("gate", "passed", detail, {"checks": len(found.gate.checks), "largest_difference": worst[name]})


def _answers(root: Path, name: str) -> SelftestStep:
    """Kept tokens and greedy token ids of every budget and picture, beside those of ONNX Runtime on the CPU."""
    bundle, same, total = Bundle.open(root, verify=False), 0, 0
    shared = []
    if name == REFERENCE:
        with Model(bundle, backend=name) as model:
            given = [
                model.ask(_QUESTION, image=one, max_tokens=_TOKENS, stop=False).token_ids for one in fixed_pictures()
            ]
        detail = f"{len(given)} questions answered; {name} is what every other backend is held against"
        return SelftestStep("answers", "passed", detail, {"answers": len(given)})
    with Model(bundle, backend=name) as ours, Model(bundle, backend=REFERENCE) as theirs:
        for picture in fixed_pictures():
            for budget in ours.budgets:
                mine, reference = (
                    model.ask(_QUESTION, image=picture, budget=budget, max_tokens=_TOKENS, stop=False)
                    for model in (ours, theirs)
                )
                total += 1
                same += mine.token_ids == reference.token_ids
                shared.append(len(set(mine.kept) & set(reference.kept)) / max(1, len(reference.kept)))
    detail = f"{same} of {total} greedy answers of {_TOKENS} tokens are the CPU's; {100 * min(shared):.1f} % or more of the kept tokens too"
    numbers = {"answers_same": same, "answers": total, "kept_least_share": round(min(shared), 4)}
    # Half precision may turn a near tie; the gate is what judges. Most answers in common are expected all the same.
    return SelftestStep("answers", "passed" if 2 * same > total else "failed", detail, numbers)


def _second_question(root: Path, engine: Backend) -> SelftestStep:
    """The same logits behind what two prompts begin with as from the first row on, bit for bit."""
    bundle = Bundle.open(root, verify=False)
    language, spec = LanguageModel(bundle, engine, reuse=True), bundle.manifest.language
    rows = min(3 * spec.chunk, spec.capacity)
    embeds = np.random.default_rng(0).standard_normal((rows, spec.row_width), np.float32) * 0.1
    positions = np.broadcast_to(np.arange(rows), (spec.axes, rows))
    language.prefill(np.concatenate([embeds[: rows - 1], -embeds[rows - 1 :]]), positions)
    logits = language.prefill(embeds, positions).copy()
    reused = language.reused
    language.forget()
    same = np.array_equal(logits, language.prefill(embeds, positions))
    detail = f"{reused} of {rows} rows were in the cache; {'the same logits' if same else 'logits differ'} as from the first row on"
    return SelftestStep("second question", "passed" if same else "failed", detail, {"cached": reused, "rows": rows})


def _graphs(root: Path, name: str) -> SelftestStep:
    """The same logits with and without CUDA graphs, bit for bit, and what a captured step saves."""
    bundle = Bundle.open(root, verify=False)
    found, seconds = [], []
    for graphs in (False, True):
        language = LanguageModel(bundle, TensorRtBackend(name, graphs=graphs))
        times, logits = _steps(language, bundle)
        found.append(logits)
        seconds.append(statistics.median(times))
    same = np.array_equal(found[0], found[1])
    said = "the same logits" if same else "logits differ"
    detail = f"{said}; a step takes {1e3 * seconds[1]:.2f} ms captured, {1e3 * seconds[0]:.2f} ms queued"
    return SelftestStep(
        "CUDA graphs", "passed" if same else "failed", detail, {"captured_s": seconds[1], "queued_s": seconds[0]}
    )


def _times(root: Path, engine: Backend) -> SelftestStep:
    """Median wall seconds of a prompt and of a step, beside the CPU's: in turns, so that a busy moment hits both."""
    bundle = Bundle.open(root, verify=False)
    languages = [LanguageModel(bundle, one) for one in (engine, backend())]
    prompts: list[list[float]] = [[], []]
    steps: list[list[float]] = [[], []]
    for _ in range(3):
        for number, language in enumerate(languages):
            start = time.perf_counter()
            _prompt(language, bundle)
            prompts[number].append(time.perf_counter() - start)
            steps[number] += _steps(language, bundle)[0]
    (prompt, prompt_cpu), (step, step_cpu) = ([statistics.median(one) for one in pair] for pair in (prompts, steps))
    said = f"prompt {1e3 * prompt:.2f} ms (CPU {1e3 * prompt_cpu:.2f}), next token {1e3 * step:.2f} ms (CPU {1e3 * step_cpu:.2f})"
    detail = f"{said}; wall time, medians"
    return SelftestStep(
        "times",
        "passed",
        detail,
        {"prompt_s": prompt, "step_s": step, "prompt_cpu_s": prompt_cpu, "step_cpu_s": step_cpu},
    )


def _energy(root: Path, engine: Backend) -> SelftestStep:
    """Joules per prompt by a power window over the device that works; unknown where nothing measures it."""
    from edgeprune_runtime.meters import joules, measure, pick, power_sources

    chosen = pick(power_sources(), "gpu" if isinstance(engine, DeviceBackend) else "cpu")
    if chosen.kind == "none":
        return SelftestStep("energy", "skipped", f"unknown: {chosen.why_not}", {})
    bundle = Bundle.open(root, verify=False)
    language = LanguageModel(bundle, engine)
    found = joules(measure(lambda: _prompt(language, bundle), chosen))
    if found.gross_j is None or not found.calls:
        return SelftestStep("energy", "skipped", f"unknown: {'; '.join(found.flags) or found.source}", {})
    each = found.gross_j / found.calls
    doubts = f"; {'; '.join(found.flags)}" if found.flags else ""
    detail = f"{each:.3g} J per prompt, idle included ({found.source}, {found.covers}){doubts}"
    return SelftestStep("energy", "passed", detail, {"prompt_j": each, "source": found.source, "flags": found.flags})


def _prompt(language: LanguageModel, bundle: Bundle) -> np.ndarray:
    spec = bundle.manifest.language
    rows = min(2 * spec.chunk, spec.capacity - _TIMED - 1)
    embeds = np.random.default_rng(0).standard_normal((rows, spec.row_width), np.float32) * 0.1
    return language.prefill(embeds, np.broadcast_to(np.arange(rows), (spec.axes, rows)))


def _steps(language: LanguageModel, bundle: Bundle) -> tuple[list[float], np.ndarray]:
    """Seconds of each of _TIMED greedy steps after a prompt, and the last logits."""
    logits = _prompt(language, bundle)
    times = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        logits = language.step(int(np.argmax(logits)), language.length)
        times.append(time.perf_counter() - start)
    return times, logits.copy()
