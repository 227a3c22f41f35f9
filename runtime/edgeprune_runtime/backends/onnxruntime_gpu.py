"""ONNX Runtime on an NVIDIA GPU, through its CUDA or its TensorRT provider: lowered half-precision graphs of a bundle.

Memory and stream are those of `cuda.py`, handed to ONNX Runtime by address: nothing is copied between runs, order follows from the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_runtime.backends.cuda import CudaDevice, DeviceBuffer, why_no_device
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.engines.sets import engine_of
from edgeprune_runtime.engines.spec import LOWERED_KEY, EngineKey
from edgeprune_runtime.errors import BackendUnavailable, EngineError
from edgeprune_runtime.installed import how_to_install
from edgeprune_runtime.spec import GraphSpec

_PROVIDERS = {"onnxruntime_cuda": "CUDAExecutionProvider", "onnxruntime_tensorrt": "TensorrtExecutionProvider"}
_ON_HOST = {"total"}  # GroupQueryAttention reads it on the CPU
_PLACE = "cuda"  # where ONNX Runtime is told that addresses point to
_KINDS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(int32)": "int32"}


class OnnxRuntimeGpuSession:
    """One graph of the bundle over a lowered file; the language model's file is shared by prefill and decode."""

    def __init__(self, device: CudaDevice, session: Any, graph: GraphSpec) -> None:
        self._device, self._session, self._binding = device, session, session.io_binding()
        self._inputs = {value.name: _kind(value) for value in session.get_inputs()}
        self._outputs = {value.name: _kind(value) for value in session.get_outputs()}
        self._named = {spec.name: spec for spec in (*graph.inputs, *graph.outputs)}
        self._bound: dict[str, DeviceBuffer] = {}  # keeps the memory that the binding points to

    def dtype(self, name: str) -> str:
        return self._inputs.get(name) or self._outputs.get(name) or self._named[name].dtype

    def bind(self, buffers: Mapping[str, DeviceBuffer]) -> None:
        for name, buffer in buffers.items():
            if tuple(buffer.shape) != self._named[name].shape or buffer.dtype != self.dtype(name):
                raise EngineError(
                    f"{name}: got {buffer.dtype}{tuple(buffer.shape)}, the graph wants {self.dtype(name)}{self._named[name].shape}; "
                    "build the engines again"
                )
            self._bound[name] = buffer
            attach = self._binding.bind_input if name in self._inputs else self._binding.bind_output
            if name in self._inputs or name in self._outputs:
                attach(name, _PLACE, 0, np.dtype(buffer.dtype), buffer.shape, buffer.pointer)

    def run(self) -> None:
        for name in (
            _ON_HOST & self._bound.keys() & self._inputs.keys()
        ):  # ONNX Runtime copies such an input when it is bound
            self._binding.bind_cpu_input(name, self._device.written(self._bound[name]))
        self._session.run_with_iobinding(self._binding)


def _kind(value: Any) -> str:
    if value.type not in _KINDS:
        raise EngineError(f"{value.name} is a {value.type}, expected {', '.join(_KINDS)}; build the engines again")
    return _KINDS[value.type]


class OnnxRuntimeGpu(DeviceBackend):
    """One provider; what it cannot take goes to the CUDA provider, and to the CPU in the end."""

    _waiting = True  # ONNX Runtime copies on the default stream when it binds

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._sessions: dict[Path, Any] = {}

    def here(self) -> EngineKey:
        return LOWERED_KEY

    def why_unavailable(self) -> str | None:
        try:
            import onnxruntime
        except ImportError as error:
            return (
                f"the package onnxruntime cannot be imported ({error}); install it with {how_to_install('onnxruntime')}"
            )
        provider = _PROVIDERS[self.name]
        if provider not in onnxruntime.get_available_providers():
            way = f"`pip uninstall onnxruntime onnxruntime-gpu`, then {how_to_install('onnxruntime-gpu')}"
            return f"this build of onnxruntime has no {provider}; {way}"
        return why_no_device()

    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> OnnxRuntimeGpuSession:
        folder, found = self.engine_set(root)
        spec, _ = engine_of(found, graph.name)
        return OnnxRuntimeGpuSession(self.device, self._session(folder / spec.file), graph)

    def _session(self, path: Path) -> Any:
        if path not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            settings = {"device_id": "0", "user_compute_stream": str(self.device.stream)}
            wanted = dict.fromkeys((_PROVIDERS[self.name], _PROVIDERS["onnxruntime_cuda"]))
            try:
                session = onnxruntime.InferenceSession(
                    str(path), options, providers=[*((name, settings) for name in wanted), "CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime raises many unrelated types
                raise EngineError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path.name}: {error}") from error
            if session.get_providers()[0] != _PROVIDERS[self.name]:
                raise BackendUnavailable(
                    f"ONNX Runtime fell back to {session.get_providers()[0]}; check that its CUDA and cuDNN libraries are installed"
                )
            self._sessions[path] = session
        return self._sessions[path]


def create(name: str, threads: int) -> OnnxRuntimeGpu:
    """threads: of no use to a GPU."""
    return OnnxRuntimeGpu(name)
