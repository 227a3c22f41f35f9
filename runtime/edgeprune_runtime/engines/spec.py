"""What is written about the engines of a bundle: an addition to it for one target, with a manifest of its own."""

from __future__ import annotations

from typing import Literal

from edgeprune_runtime.frozen import Spec
from edgeprune_runtime.spec import FileSpec, ParityCheck

ENGINE_SCHEMA = 1
ENGINES = "engines"  # folder inside a bundle; one folder per target in it
ENGINE_MANIFEST = "engines.json"
ENGINE_DIGEST = "engines.sha256"

EnginePrecision = Literal["fp16", "bf16", "fp32"]  # what products are computed in, best first


class EngineKey(Spec, frozen=True):
    """What engines are bound to, besides the bundle's graphs.

    capabilities   compute capabilities, such as "sm87"
    gpu, driver    of the device they were built on; None: built ahead of time, for every device of those capabilities
    power_mode     nvpmodel's name; None: unknown, or the device has none
    flags          choices of the builder that change an engine
    """

    runtime: Literal["tensorrt", "tensorrt_rtx", "onnxruntime"]
    version: str
    dialect: str
    precision: EnginePrecision
    capabilities: tuple[str, ...]
    gpu: str | None = None
    driver: str | None = None
    power_mode: str | None = None
    flags: tuple[str, ...] = ()


#: Of graphs for ONNX Runtime on a GPU, which are no engines and bound to nothing.
LOWERED_KEY = EngineKey("onnxruntime", "opset 20", "contributed", "fp16", ("any",))


class EngineSpec(Spec, frozen=True):
    """One file. `graphs`: those of the bundle that it stands for; with several, each is an optimization profile, in this order."""

    name: str
    file: str
    graphs: tuple[str, ...]
    rows: tuple[int, ...] = ()  # positions per run of each profile; () where there is one fixed shape
    build_s: float = 0.0


class GateReport(Spec, frozen=True):
    """Engines on the device against the bundle's float32 graphs; `skipped` says why it did not run."""

    skipped: str | None
    checks: tuple[ParityCheck, ...] = ()


class EngineSet(Spec, frozen=True):
    """engines.json: sealed like a bundle's manifest."""

    schema: int
    graphs: dict[str, str]  # SHA-256 of every graph file of the bundle that engines were made from, and of its weights
    key: EngineKey
    engines: tuple[EngineSpec, ...]
    files: dict[str, FileSpec]
    gate: GateReport
    created: str
    command: str
