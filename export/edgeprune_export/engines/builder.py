"""One ONNX file to one TensorRT engine, with progress, a shared timing cache, and Ctrl-C that takes effect."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from edgeprune.errors import ExportError
from edgeprune_export.engines.choices import BuildFlags
from edgeprune_export.engines.dynamic_rows import ROWS, symbolic_inputs
from edgeprune_export.engines.timing_cache import TimingCache
from edgeprune_runtime.backends.tensorrt_api import TensorRt
from edgeprune_runtime.engines.spec import EngineKey

#: Steps that the progress of one engine is told in.
STEPS = 100


_WORKSPACE_BYTES = 256 << 20
_LOW_LEVEL = 1  # builder_optimization_level: 0 is the fastest build, 3 the default


@dataclass(frozen=True)
class Job:
    """One engine to be built from one graph. `rows`: positions of each optimization profile; capabilities () for the device at hand."""

    source: Path
    engine: Path
    capabilities: tuple[str, ...]
    rows: tuple[int, ...] = ()
    flags: BuildFlags = field(default_factory=BuildFlags)
    cache: TimingCache | None = None


def build_engine(trt: TensorRt, job: Job, advance: Callable[[], None]) -> float:
    """Write the engine of a job; returns seconds.

    Raises ExportError with the parser's or builder's own words, and KeyboardInterrupt soon after Ctrl-C, with nothing written.
    """
    start = time.perf_counter()
    try:
        plan = _plan(trt, job, advance)
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # they hold the builder, whose threads must not outlive Python
        raise
    with job.engine.open("wb") as file:
        file.write(memoryview(plan))
    return time.perf_counter() - start


def _plan(trt: TensorRt, job: Job, advance: Callable[[], None]) -> Any:
    """What is written: TensorRT's serialized engine."""
    module, logger = trt.module, trt.logger()
    builder = module.Builder(logger)
    strong = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if trt.api.strongly_typed else 0
    network = builder.create_network(strong)
    parser = module.OnnxParser(network, logger)
    if not parser.parse_from_file(str(job.source)):
        said = [parser.get_error(i) for i in range(parser.num_errors)]
        words = "; ".join(f"node {error.node_name()!r}: {error.desc()}" for error in said) or "no reason given"
        raise ExportError(f"{trt.api.module} {trt.version} cannot read {job.source.name}: {words}")
    config = builder.create_builder_config()
    for number, capability in enumerate(job.capabilities):
        config.num_compute_capabilities = len(job.capabilities)
        config.set_compute_capability(getattr(module.ComputeCapability, capability.upper()), number)
    for count in job.rows:
        profile = builder.create_optimization_profile()
        for name, dims in symbolic_inputs(onnx.load(job.source, load_external_data=False)).items():
            shape = [count if dim == ROWS else dim for dim in dims]
            profile.set_shape(name, shape, shape, shape)
        config.add_optimization_profile(profile)
    if trt.api.compiles_on_device:
        config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if job.flags.low_memory:
        config.builder_optimization_level = _LOW_LEVEL
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    monitor = _monitor(module, advance)
    config.progress_monitor = monitor
    cache = job.cache if trt.api.timing_cache else None
    if cache is not None:
        cache.open(config)
    plan = _interruptible(lambda: builder.build_serialized_network(network, config), monitor)
    if plan is None:
        words = "; ".join(logger.errors[-3:]) or "no reason given"
        raise ExportError(
            f"{trt.api.module} {trt.version} cannot build {job.source.name}: {words}; --dialect portable may be built"
        )
    if cache is not None:
        cache.merge(config)
    monitor.finish()
    return plan


def capabilities_for(trt: TensorRt, key: EngineKey) -> tuple[str, ...]:
    """What the builder is told: also on a device, because TensorRT for RTX otherwise leaves out older ones (Turing)."""
    return key.capabilities if trt.api.ahead_of_time else ()


def _monitor(module: Any, advance: Callable[[], None]) -> Any:
    """TensorRT's tree of phases as STEPS calls of `advance`; `stop` ends the build at its next step."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stop = threading.Event()
            self._told = 0
            self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> (parent, steps, done)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = parent_phase, max(1, num_steps), 0

        def step_complete(self, phase_name: str, step: int) -> bool:
            parent, steps, _ = self._phases.get(phase_name, (None, 1, 0))
            self._phases[phase_name] = parent, steps, step + 1
            self._tell(self._share(phase_name))
            return not self.stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def finish(self) -> None:
            self._tell(1.0)

        def _share(self, name: str) -> float:
            """How much of the whole is done when this phase is where it is: its own share inside its parent's current step."""
            parent, steps, done = self._phases[name]
            own = done / steps
            while parent in self._phases:
                parent, steps, done = self._phases[parent]
                own = min(1.0, (done + own) / steps)
            return own

        def _tell(self, share: float) -> None:
            while self._told < min(STEPS, int(share * STEPS)):
                self._told += 1
                advance()

    return Monitor()


def _interruptible(build: Callable[[], Any], monitor: Any) -> Any:
    """Run the build in a thread, so that Ctrl-C reaches Python while TensorRT works; the monitor then ends the build."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(build())
        except BaseException as error:  # handed to the caller's thread
            failed.append(error)

    thread = threading.Thread(target=work, name="edgeprune-build")
    with _interrupts(monitor.stop.set):
        thread.start()
        thread.join()
    if monitor.stop.is_set():
        raise KeyboardInterrupt
    if failed:
        raise failed[0]
    return found[0]


@contextmanager
def _interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C call `stop` instead of raising wherever Python is at that moment: the thread has to end before Python may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
