"""What differs between TensorRT's Python interfaces, as data: 10.3 (JetPack 6), 10.15 and later, 11, and TensorRT for RTX.

A row holds from its version on, until the next row of the same module. Everything else that edgeprune calls is alike in all of them; which
attributes these are is listed in USED, so that a test can hold the list against a module that is really installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from edgeprune_runtime.errors import BackendUnavailable
from edgeprune_runtime.installed import how_to_install

TensorrtVersion = tuple[int, ...]


@dataclass(frozen=True)
class Api:
    """One row.

    module           import name
    since            first version
    dialect          which form of graphs it takes best
    strongly_typed   networks need the flag STRONGLY_TYPED (always on, and sometimes gone, later)
    timing_cache     builder configurations have one
    ahead_of_time    builds for listed compute capabilities, without a GPU
    compiles_on_device  kernels are compiled when an engine is opened: contexts take an IRuntimeConfig, and only engines built with
                     REQUIRE_USER_ALLOCATION can be captured as CUDA graphs for sure
    """

    module: str
    since: TensorrtVersion
    dialect: Literal["portable", "modern"]
    strongly_typed: bool
    timing_cache: bool
    ahead_of_time: bool
    compiles_on_device: bool = False


APIS = (
    Api("tensorrt", (10, 3), "portable", strongly_typed=True, timing_cache=True, ahead_of_time=False),
    Api("tensorrt", (10, 15), "modern", strongly_typed=True, timing_cache=True, ahead_of_time=False),
    Api("tensorrt", (11, 0), "modern", strongly_typed=False, timing_cache=True, ahead_of_time=False),
    Api(
        "tensorrt_rtx",
        (1, 4),
        "modern",
        strongly_typed=False,
        timing_cache=False,
        ahead_of_time=True,
        compiles_on_device=True,
    ),
)
#: Attributes that edgeprune calls, by class; those of a row's features are under the feature's name.
USED: dict[str, tuple[str, ...]] = {
    "ILogger": ("log", "Severity"),
    "Builder": ("create_network", "create_builder_config", "create_optimization_profile", "build_serialized_network"),
    "OnnxParser": ("parse_from_file", "num_errors", "get_error"),
    "IBuilderConfig": (
        "add_optimization_profile",
        "set_memory_pool_limit",
        "builder_optimization_level",
        "progress_monitor",
    ),
    "IOptimizationProfile": ("set_shape",),
    "IProgressMonitor": ("phase_start", "step_complete", "phase_finish"),
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (
        "num_io_tensors",
        "get_tensor_name",
        "get_tensor_mode",
        "get_tensor_dtype",
        "get_tensor_shape",
        "create_execution_context",
    ),
    "IExecutionContext": (
        "set_optimization_profile_async",
        "set_input_shape",
        "set_tensor_address",
        "execute_async_v3",
    ),
    "timing_cache": ("create_timing_cache", "set_timing_cache", "get_timing_cache"),
    "ahead_of_time": ("num_compute_capabilities", "set_compute_capability"),
    "compiles_on_device": ("set_flag",),
}


@dataclass(frozen=True)
class TensorRt:
    """An imported module with its row."""

    module: Any
    api: Api
    version: str

    def logger(self) -> Any:
        """A logger that keeps errors and warnings instead of printing them; `.errors` are its messages so far."""
        severities = self.module.ILogger.Severity
        loud = {severities.ERROR, severities.INTERNAL_ERROR}

        class Kept(self.module.ILogger):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in loud:
                    self.errors.append(" ".join(message.split()))

        return Kept()


def _way_to(module: str) -> str:
    if module == "tensorrt_rtx":
        return f"install it with {how_to_install('tensorrt-rtx', 'cuda-bindings')}"
    return (
        "on Jetson it comes with JetPack (make the virtual environment with --system-site-packages); "
        f"elsewhere {how_to_install('tensorrt', 'cuda-bindings')}"
    )


def row_for(module: str, version: str) -> Api:
    """The row of a version. Raises BackendUnavailable for one that is older than all rows."""
    numbers = numbers_of(version)
    rows = [row for row in APIS if row.module == module]
    fitting = [row for row in rows if row.since <= numbers]
    if not fitting:
        oldest = ".".join(map(str, rows[0].since))
        raise BackendUnavailable(f"{module} {version} is too old; edgeprune needs {oldest} or later: {_way_to(module)}")
    return fitting[-1]


def load(module: str) -> TensorRt:
    """Import TensorRT under its name, `tensorrt` or `tensorrt_rtx`. Makes no object of it, so no GPU is needed."""
    try:
        found = import_module(module)
    except ImportError as error:
        raise BackendUnavailable(f"{module} cannot be imported ({error}); {_way_to(module)}") from error
    version = str(found.__version__)
    return TensorRt(found, row_for(module, version), version)


def numbers_of(version: str) -> TensorrtVersion:
    """(10, 3, 0) of "10.3.0.30+jetson"."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
