"""A GPU in software: the driver's and TensorRT's Python interfaces over host memory, executing graphs with ONNX Runtime.

    gpu = simulate(monkeypatch, "tensorrt", version="10.3.0")

Work is put on a stream and done only when somebody waits, so a buffer that is overwritten or read too early gives wrong numbers here too. An
"engine" is the lowered ONNX model with its weights inside. It says nothing about a real GPU: that is what `edgeprune selftest` is for.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

Work = Callable[[], None]


class _Status(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureInvalidated = 901


@dataclass
class SimulatedGpu:
    """What tests may set and look at. `break_node`: every engine built from now on doubles the output of the node of this name;
    `hide_cache_from`: it never sees the cache from this place on."""

    name: str = "Simulated Orin"
    major: int = 8
    minor: int = 7
    driver: int = 12060
    devices: int = 1
    status: _Status = _Status.cudaSuccess
    memory_bytes: int = 8 << 30
    break_node: str | None = None
    can_capture: bool = True
    hide_cache_from: int | None = None
    allocated: dict[int, Any] = field(default_factory=dict)
    queue: list[Work] = field(default_factory=list)
    capturing: list[Work] | None = None
    launches: int = 0
    runs: int = 0
    waits: int = 0
    networks: list[int] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    capabilities: list[int] = field(default_factory=list)

    def inside(self, pointer: int, size: int) -> int:
        """The pointer, if `size` bytes from it on lie in one allocation: a real device would not always notice."""
        held = any(base <= pointer and pointer + size <= base + len(block) for base, block in self.allocated.items())
        assert held, f"{size} bytes at {pointer:#x} are not allocated"
        return pointer

    def put(self, work: Work) -> None:
        (self.queue if self.capturing is None else self.capturing).append(work)

    def drain(self) -> None:
        while self.queue:
            self.queue.pop(0)()


def simulate(patch: pytest.MonkeyPatch, module: str = "tensorrt", version: str = "10.3.0") -> SimulatedGpu:
    """Put a simulated device and TensorRT in place of what is installed, for one test."""
    gpu = SimulatedGpu()
    patch.setitem(sys.modules, "cuda.bindings.runtime", _driver(gpu))
    patch.setitem(sys.modules, module, _tensorrt(gpu, module, version))
    return gpu


def _driver(gpu: SimulatedGpu) -> ModuleType:
    module = ModuleType("cuda.bindings.runtime")
    ok = _Status.cudaSuccess

    def malloc(size: int, *_: int) -> tuple[Any, int]:
        assert gpu.capturing is None, "no memory is to be had while a stream is captured"
        if sum(len(block) for block in gpu.allocated.values()) + size > gpu.memory_bytes:
            return _Status.cudaErrorMemoryAllocation, 0
        block = (ctypes.c_byte * size)()
        ctypes.memset(block, 0x7F, size)  # new memory is not zero
        gpu.allocated[ctypes.addressof(block)] = block
        return ok, ctypes.addressof(block)

    def free(pointer: int) -> tuple[Any]:
        gpu.put(lambda: gpu.allocated.pop(pointer, None) and None)
        return (ok,)

    def queued(function: Callable[..., object]) -> Callable[..., tuple[Any]]:
        def call(*arguments: Any) -> tuple[Any]:
            gpu.put(lambda: function(*arguments) and None)
            return (ok,)

        return call

    def copy(to: int, source: int, size: int, *_: Any) -> None:
        ctypes.memmove(gpu.inside(to, size), gpu.inside(source, size), size)

    def copy_2d(to: int, to_pitch: int, source: int, pitch: int, width: int, height: int, *_: Any) -> None:
        for row in range(height):
            copy(to + row * to_pitch, source + row * pitch, width)

    def wait(*_: Any) -> tuple[Any]:
        assert gpu.capturing is None, "nobody waits while a stream is captured"
        gpu.waits += 1
        gpu.drain()
        return (ok,)

    def begin(*_: Any) -> tuple[Any]:
        gpu.capturing = []
        return (ok,)

    def end(*_: Any) -> tuple[Any, list[Work]]:
        graph, gpu.capturing = gpu.capturing or [], None
        return (ok, graph) if gpu.can_capture else (_Status.cudaErrorStreamCaptureInvalidated, None)

    def launch(graph: list[Work], _: int) -> tuple[Any]:
        gpu.launches += 1
        gpu.queue.extend(graph)
        return (ok,)

    properties = lambda _: (  # noqa: E731
        ok,
        SimpleNamespace(
            name=gpu.name.encode(), major=gpu.major, minor=gpu.minor, totalGlobalMem=gpu.memory_bytes, integrated=1
        ),
    )
    members: dict[str, Any] = {
        "cudaGetDeviceCount": lambda: (gpu.status, gpu.devices),
        "cudaGetDeviceProperties": properties,
        "cudaDriverGetVersion": lambda: (ok, gpu.driver),
        "cudaMemGetInfo": lambda: (ok, gpu.memory_bytes // 2, gpu.memory_bytes),
        "cudaStreamCreateWithFlags": lambda flags: (ok, 7),
        "cudaStreamDefault": 0,
        "cudaStreamNonBlocking": 1,
        "cudaMalloc": malloc,
        "cudaHostAlloc": malloc,
        "cudaFree": free,
        "cudaFreeHost": free,
        "cudaMemsetAsync": queued(
            lambda pointer, value, size, stream: ctypes.memset(gpu.inside(pointer, size), value, size)
        ),
        "cudaMemcpyAsync": queued(copy),
        "cudaMemcpy2DAsync": queued(copy_2d),
        "cudaEventCreate": lambda: (ok, 1),
        "cudaEventRecord": lambda event, stream: (ok,),
        "cudaEventSynchronize": wait,
        "cudaStreamSynchronize": wait,
        "cudaStreamBeginCapture": begin,
        "cudaStreamEndCapture": end,
        "cudaGraphInstantiate": lambda graph, flags: (ok, graph),
        "cudaGraphLaunch": launch,
        "cudaMemcpyKind": SimpleNamespace(
            cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
        ),
        "cudaStreamCaptureMode": SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
    }
    module.__dict__.update(members)
    return module


class _DataType(Enum):
    FLOAT = TensorProto.FLOAT
    HALF = TensorProto.FLOAT16
    BF16 = TensorProto.BFLOAT16
    INT64 = TensorProto.INT64
    INT32 = TensorProto.INT32
    BOOL = TensorProto.BOOL


class _Mode(Enum):
    INPUT = 1
    OUTPUT = 2


def _tensorrt(gpu: SimulatedGpu, name: str, version: str) -> ModuleType:
    module = ModuleType(name)

    class Logger:
        Severity = Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

        def log(self, severity: Any, message: str) -> None: ...

    class Monitor:
        pass

    class Network:
        model: onnx.ModelProto | None = None

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, list[int]] = {}

        def set_shape(self, name: str, low: list[int], best: list[int], high: list[int]) -> None:
            assert low == best == high, "edgeprune has fixed shapes only"
            self.shapes[name] = list(best)

    class Cache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> bytes:
            return self.content

        def combine(self, other: Cache, ignore: bool) -> bool:
            known = set(filter(None, self.content.split(b"\n"))) | set(filter(None, other.content.split(b"\n")))
            self.content = b"\n".join(sorted(known))
            return True

    class Config:
        def __init__(self) -> None:
            self.builder_optimization_level = 3
            self.progress_monitor: Any = None
            self.num_compute_capabilities = 0
            self.profiles: list[Profile] = []
            self._cache: Cache | None = None

        def add_optimization_profile(self, profile: Profile) -> int:
            self.profiles.append(profile)
            return len(self.profiles) - 1

        def set_memory_pool_limit(self, pool: Any, size: int) -> None: ...

        def set_flag(self, flag: int) -> None:
            gpu.flags.append(flag)

        def set_compute_capability(self, capability: Any, number: int) -> None:
            gpu.capabilities.append(capability)

        def create_timing_cache(self, content: bytes) -> Cache:
            return Cache(content)

        def set_timing_cache(self, cache: Cache, ignore: bool) -> None:
            self._cache = cache

        def get_timing_cache(self) -> Cache | None:
            return self._cache

    class Builder:
        def __init__(self, logger: Logger) -> None:
            assert gpu.devices or name == "tensorrt_rtx", "made before the device was asked for"

        def create_network(self, flags: int) -> Network:
            gpu.networks.append(flags)
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            assert network.model is not None
            gpu.levels.append(config.builder_optimization_level)
            if config.progress_monitor is not None:
                config.progress_monitor.phase_start("Building", None, 2)
                if not all(config.progress_monitor.step_complete("Building", step) for step in range(2)):
                    return None
                config.progress_monitor.phase_finish("Building")
            if config._cache is not None:
                config._cache.combine(Cache(network.model.graph.name.encode()), True)
            model = _hiding(_broken(network.model, gpu.break_node), gpu.hide_cache_from)
            entry = model.metadata_props.add()
            entry.key, entry.value = "profiles", json.dumps([profile.shapes for profile in config.profiles])
            content: bytes = model.SerializeToString()
            return content

    class Parser:
        def __init__(self, network: Network, logger: Logger) -> None:
            self._network = network
            self.num_errors = 0

        def parse_from_file(self, path: str) -> bool:
            self._network.model = onnx.load(path)
            return True

    class Context:
        def __init__(self, engine: Engine) -> None:
            self._engine = engine
            self._addresses: dict[str, int] = {}
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._profile = 0

        def set_optimization_profile_async(self, number: int, stream: int) -> bool:
            self._profile = number
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            assert list(shape) == self._engine.profiles[self._profile][name], "outside the profile"
            self._shapes[name] = tuple(shape)
            return True

        def set_tensor_address(self, name: str, pointer: int) -> bool:
            assert name in self._engine.specs
            self._addresses[name] = pointer
            return True

        def execute_async_v3(self, stream: int) -> bool:
            assert set(self._addresses) == set(self._engine.specs), "unbound tensors"
            addresses = dict(self._addresses)
            for present in (name for name in addresses if re.fullmatch(r"present_(key|value)_\d+", name)):
                past = present.replace("present_", "past_")
                assert addresses[present] == addresses[past], "a cache that is updated in place has one address"
            gpu.put(lambda: self._engine.execute(addresses, self._shapes))
            return True

    class Engine:
        def __init__(self, model: onnx.ModelProto) -> None:
            self.model = model
            self.profiles = json.loads(next(p.value for p in model.metadata_props if p.key == "profiles"))
            self.specs = {v.name: v for v in (*model.graph.input, *model.graph.output)}
            self._inputs = {v.name for v in model.graph.input}
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )

        num_io_tensors = property(lambda self: len(self.specs))

        def get_tensor_name(self, number: int) -> str:
            return list(self.specs)[number]

        def get_tensor_mode(self, name: str) -> _Mode:
            return _Mode.INPUT if name in self._inputs else _Mode.OUTPUT

        def get_tensor_dtype(self, name: str) -> _DataType:
            return _DataType(self.specs[name].type.tensor_type.elem_type)

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            dims = self.specs[name].type.tensor_type.shape.dim
            return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)

        def create_runtime_config(self) -> Any:
            return SimpleNamespace(set_execution_context_allocation_strategy=lambda strategy: None)

        def create_execution_context(self, how: Any) -> Context:
            return Context(self)

        def execute(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> None:
            gpu.runs += 1
            fed = {n: self._at(n, addresses[n], shapes.get(n, self.get_tensor_shape(n))).copy() for n in self._inputs}
            names = [name for name in self.specs if name not in self._inputs]
            for name, value in zip(names, self._session.run(names, fed), strict=True):
                self._at(name, addresses[name], value.shape)[...] = value

        def _at(self, name: str, pointer: int, shape: tuple[int, ...]) -> np.ndarray:
            kind = onnx.helper.tensor_dtype_to_np_dtype(self.specs[name].type.tensor_type.elem_type)
            size = int(np.prod(shape)) * kind.itemsize
            return np.frombuffer((ctypes.c_byte * size).from_address(gpu.inside(pointer, size)), kind).reshape(shape)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            assert gpu.devices, "some versions crash here without a device"
            self._logger = logger

        def deserialize_cuda_engine(self, content: Any) -> Engine | None:
            try:
                return Engine(onnx.load_from_string(bytes(content)))
            except Exception as error:
                self._logger.log(Logger.Severity.ERROR, f"cannot deserialize: {str(error)[:40]}")
                return None

    members = {
        "__version__": version,
        "ILogger": Logger,
        "IProgressMonitor": Monitor,
        "Builder": Builder,
        "OnnxParser": Parser,
        "Runtime": Runtime,
        "DataType": _DataType,
        "TensorIOMode": _Mode,
        "MemoryPoolType": SimpleNamespace(WORKSPACE=0),
        "ExecutionContextAllocationStrategy": SimpleNamespace(ON_PROFILE_CHANGE=1),
        "DynamicShapesKernelSpecializationStrategy": SimpleNamespace(EAGER=1),
        "BuilderFlag": SimpleNamespace(REQUIRE_USER_ALLOCATION=1),
        "NetworkDefinitionCreationFlag": SimpleNamespace(STRONGLY_TYPED=1),
        "ComputeCapability": SimpleNamespace(**{f"SM{n}": n for n in (75, 80, 86, 89, 120, 121)}),
    }
    module.__dict__.update(members)
    return module


def _broken(model: onnx.ModelProto, node: str | None) -> onnx.ModelProto:
    """The model with twice the first output of the node of this name."""
    if node is None or not any(one.name == node for one in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = list(copy.graph.node)
    place = next(i for i, one in enumerate(nodes) if one.name == node)
    output = nodes[place].output[0]
    nodes[place].output[0] = f"{output}.unbroken"
    nodes.insert(place + 1, onnx.helper.make_node("Add", [f"{output}.unbroken"] * 2, [output], name=f"{node}.broken"))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _hiding(model: onnx.ModelProto, start: int | None) -> onnx.ModelProto:
    """The model with an attention that never sees the cache from `start` on."""
    if start is None:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name == "cache_index":
            index = onnx.numpy_helper.to_array(tensor).copy()
            index[start:] = 1 << 40
            tensor.CopyFrom(onnx.numpy_helper.from_array(index, tensor.name))
    return copy


def engines_of(root: Path) -> Iterator[Path]:
    """Folders of engines inside a bundle."""
    return (root / "engines").iterdir() if (root / "engines").exists() else iter(())
