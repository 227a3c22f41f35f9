"""ONNX Runtime on the CPU.

By default weights stay mapped from the bundle's one weights file: sessions share them, they cost page cache instead of private
memory, and a session opens in milliseconds. A `resident` session lets ONNX Runtime repack its weights: int8 products need that to
be fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune_runtime.backends.host import HostMemory
from edgeprune_runtime.errors import BackendUnavailable, BundleError
from edgeprune_runtime.installed import how_to_install
from edgeprune_runtime.spec import GraphSpec

if TYPE_CHECKING:
    from onnxruntime import SessionOptions


class OnnxRuntimeSession:
    """One graph with its buffers bound through IO binding."""

    def __init__(self, path: Path, graph: GraphSpec, options: SessionOptions) -> None:
        import onnxruntime as ort

        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many unrelated types for a graph it cannot load
            raise BundleError(f"ONNX Runtime {ort.__version__} cannot load graph {graph.name}: {error}") from error
        self._name = graph.name
        self._binding = self._session.io_binding()
        self._inputs = {spec.name: spec for spec in graph.inputs}
        self._outputs = {spec.name: spec for spec in graph.outputs}
        self._alive: dict[str, object] = {}

    def dtype(self, name: str) -> str:
        return (self._inputs.get(name) or self._outputs[name]).dtype

    def bind(self, buffers: Mapping[str, np.ndarray]) -> None:
        """Bind host arrays by name; they must match the graph exactly and stay unmoved while bound."""
        import onnxruntime as ort

        for name, array in buffers.items():
            spec = self._inputs.get(name) or self._outputs[name]
            if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype) or not array.flags.c_contiguous:
                raise ValueError(
                    f"{name}: got {array.dtype}{array.shape}, the graph wants contiguous {spec.dtype}{spec.shape}"
                )
            value = ort.OrtValue.ortvalue_from_numpy(array)  # shares the array's memory on the CPU
            if name in self._inputs:
                self._binding.bind_ortvalue_input(name, value)
            else:
                self._binding.bind_ortvalue_output(name, value)
            self._alive[name] = (array, value)

    def run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime raises many unrelated types for a node it cannot compute
            raise BundleError(
                f"ONNX Runtime failed in graph {self._name} ({error}); free memory if it says that it had too little, else export the "
                "bundle again"
            ) from error


class OnnxRuntimeCpu(HostMemory):
    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def why_unavailable(self) -> str | None:
        try:
            import onnxruntime
        except ImportError as error:
            return (
                f"the package onnxruntime cannot be imported ({error}); install it with {how_to_install('onnxruntime')}"
            )
        if "CPUExecutionProvider" not in onnxruntime.get_available_providers():
            return "this build of onnxruntime has no CPU provider; install the standard package"
        return None

    def require(self, root: Path, *, verify: bool) -> None:
        """A bundle's own graphs are all that is needed."""

    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> OnnxRuntimeSession:
        reason = self.why_unavailable()
        if reason is not None:
            raise BackendUnavailable(reason)
        return OnnxRuntimeSession(root / graph.file, graph, self.options(resident=resident))

    def options(self, *, resident: bool) -> SessionOptions:
        """How every session of this backend is opened."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # waiting threads would burn the power budget
        if not resident:
            options.add_session_config_entry("session.disable_prepacking", "1")
        return options


def create(name: str, threads: int) -> OnnxRuntimeCpu:
    return OnnxRuntimeCpu(threads)
