"""TensorRT (Jetson, servers) and TensorRT for RTX: engines of a bundle, run without torch.

Buffers are bound once and the KV cache is written in place: by the engine itself (modern dialect), or by one strided copy per layer after it
(portable dialect, whose engines give the new rows). Prefill and decode are two optimization profiles of one engine, so weights are held once. A
session whose bindings stand still is captured as a CUDA graph.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeprune_runtime.backends import tensorrt_api
from edgeprune_runtime.backends.cuda import CudaDevice, DeviceBuffer, why_no_device
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.engines.sets import engine_of
from edgeprune_runtime.engines.spec import EngineKey
from edgeprune_runtime.errors import BackendUnavailable, EngineError
from edgeprune_runtime.meters.boards.jetson import power_mode, run_nvpmodel
from edgeprune_runtime.spec import GraphSpec

_SETTLED = 2  # runs with the same bindings before a session is captured: the first ones may still allocate


class TensorRtSession:
    """One graph of the bundle, in one optimization profile of an engine."""

    def __init__(
        self,
        device: CudaDevice,
        engine: Any,
        profile: int,
        graph: GraphSpec,
        trt: tensorrt_api.TensorRt,
        *,
        graphs: bool,
    ) -> None:
        api = trt.module
        self._device, self._graph, self._capture = device, graph, graphs
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._dtypes = {name: _dtype_name(api, engine.get_tensor_dtype(name)) for name in names}
        self._context = _context(engine, trt)
        if self._context is None:
            raise BackendUnavailable(
                f"no memory for the activations of {graph.name}; close other programs on the device"
            )
        self._must(self._context.set_optimization_profile_async(profile, device.stream), f"profile {profile}")
        self._shapes = {spec.name: spec.shape for spec in (*graph.inputs, *graph.outputs)}
        inputs = [name for name in names if engine.get_tensor_mode(name) == api.TensorIOMode.INPUT]
        if unknown := sorted(set(inputs) - self._shapes.keys()):
            raise EngineError(
                f"the engine of {graph.name} reads {unknown[0]}, which the bundle does not give; build the engines again"
            )
        for name in inputs:
            if any(size < 0 for size in tuple(engine.get_tensor_shape(name))):
                self._must(self._context.set_input_shape(name, self._shapes[name]), f"shape of {name}")
        self._bound: dict[str, DeviceBuffer] = {}  # keeps the memory that the context points to
        self._appended: dict[str, tuple[DeviceBuffer, DeviceBuffer]] = {}
        self._runs = 0
        self._launch: Callable[[], object] | None = None

    def dtype(self, name: str) -> str:
        named = {spec.name: spec.dtype for spec in (*self._graph.inputs, *self._graph.outputs)}
        return self._dtypes.get(name) or self._dtypes.get(_new(name)) or named[name]

    def bind(self, buffers: Mapping[str, DeviceBuffer]) -> None:
        for name, buffer in buffers.items():
            if tuple(buffer.shape) != self._shapes[name] or buffer.dtype != self.dtype(name):
                raise EngineError(
                    f"{name} of {self._graph.name}: got {buffer.dtype}{tuple(buffer.shape)}, the engine wants "
                    f"{self.dtype(name)}{self._shapes[name]}; build the engines again"
                )
            self._bound[name] = buffer
            if name in self._dtypes:
                self._must(self._context.set_tensor_address(name, buffer.pointer), f"address of {name}")
            elif _new(name) in self._dtypes:
                _, groups, _, width = buffer.shape
                rows = self._device.zeros((1, groups, self._shapes["position_ids"][1], width), buffer.dtype)
                self._must(self._context.set_tensor_address(_new(name), rows.pointer), f"address of {_new(name)}")
                self._appended[name] = buffer, rows
        self._runs, self._launch = 0, None

    def run(self) -> None:
        if self._launch is not None:
            self._launch()
        elif not (self._capture and self._runs >= _SETTLED and self._captured()):
            self._enqueue()
        self._runs += 1
        if self._appended:
            end = int(self._device.written(self._bound["total"])[0])
            for cache, rows in self._appended.values():
                self._device.append(cache, rows, end - rows.shape[2])

    def _captured(self) -> bool:
        """Capture and launch; False where this session cannot be captured, which is not tried again."""
        self._launch = self._device.captured(self._enqueue)
        if self._launch is None:
            self._capture = False
            return False
        self._launch()
        return True

    def _enqueue(self) -> None:
        self._must(self._context.execute_async_v3(self._device.stream), "run")

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise BackendUnavailable(f"TensorRT refused the {what} of {self._graph.name}; build the engines again")


class TensorRtBackend(DeviceBackend):
    """One of the two TensorRT modules. `graphs` captures CUDA graphs."""

    def __init__(self, name: str, *, graphs: bool = True) -> None:
        super().__init__(name)
        self._graphs = graphs
        self._runtime: Any = None
        self._engines: dict[Path, Any] = {}

    def why_unavailable(self) -> str | None:
        try:
            tensorrt_api.load(self.name)
        except BackendUnavailable as error:
            return str(error)
        return why_no_device()

    def here(self) -> EngineKey:
        device, api = self.device, tensorrt_api.load(self.name)
        mode = power_mode(run_nvpmodel() or "")
        return EngineKey(
            runtime=self.name,  # type: ignore[arg-type]
            version=api.version,
            dialect=api.api.dialect,
            precision="fp16",
            capabilities=(device.capability,),
            gpu=device.name,
            driver=device.driver,
            power_mode=None if mode is None else mode.name,
        )

    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> TensorRtSession:
        folder, found = self.engine_set(root)
        spec, profile = engine_of(found, graph.name)
        return self.session(folder / spec.file, graph, profile)

    def session(self, engine: Path, graph: GraphSpec, profile: int = 0) -> TensorRtSession:
        """A session over an engine file."""
        trt = tensorrt_api.load(self.name)
        return TensorRtSession(self.device, self._engine(engine), profile, graph, trt, graphs=self._graphs)

    def _engine(self, path: Path) -> Any:
        if path not in self._engines:
            api, _ = tensorrt_api.load(self.name), self.device  # the device first: some versions crash without one
            if self._runtime is None:
                self._logger = api.logger()
                self._runtime = api.module.Runtime(self._logger)
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                engine = self._runtime.deserialize_cuda_engine(content)
            if engine is None:
                said = "; ".join(self._logger.errors[-2:]) or "it gave no reason"
                raise EngineError(f"{self.name} {api.version} cannot load {path.name}: {said}; build the engines again")
            self._engines[path] = engine
        return self._engines[path]


def _context(engine: Any, trt: tensorrt_api.TensorRt) -> Any:
    """A context whose activations are as large as its own profile asks for.

    TensorRT for RTX compiles kernels for the shapes here and not in the background, so that what is captured is final.
    """
    module = trt.module
    strategy = module.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
    if not trt.api.compiles_on_device:
        return engine.create_execution_context(strategy)
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    config.dynamic_shapes_kernel_specialization_strategy = module.DynamicShapesKernelSpecializationStrategy.EAGER
    return engine.create_execution_context(config)


def _new(name: str) -> str:
    """The engine's output of new rows that stands for a written cache."""
    return name.replace("present_", "new_", 1)


def _dtype_name(api: Any, dtype: Any) -> str:
    kinds = api.DataType
    names = {
        kinds.FLOAT: "float32",
        kinds.HALF: "float16",
        kinds.INT64: "int64",
        kinds.INT32: "int32",
        kinds.BOOL: "bool",
    }
    names[kinds.BF16] = "bfloat16"
    return names[dtype]


def create(name: str, threads: int) -> TensorRtBackend:
    """threads: of no use to a GPU."""
    return TensorRtBackend(name)
