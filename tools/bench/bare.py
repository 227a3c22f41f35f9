"""The floor that the runtime is held against: the same graphs driven by onnxruntime and a few lines, without edgeprune.

Session options are those of the product's CPU backend, so that only the driving differs. This file imports nothing of edgeprune.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


class BareGraph:
    """A session with every input and output bound once; `arrays` holds the buffers by input and output name.

    Present and past of a cache are one array. `shared` arrays are used where their names fit, so that graphs can pass data on.
    """

    def __init__(
        self, folder: Path, graph: Mapping[str, Any], shared: Mapping[str, np.ndarray], *, threads: int, resident: bool
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not resident:
            options.add_session_config_entry("session.disable_prepacking", "1")
        self._session = ort.InferenceSession(str(folder / graph["file"]), options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        self.arrays: dict[str, np.ndarray] = {}
        self._values = []
        for kind in ("inputs", "outputs"):
            for tensor in graph[kind]:
                name = tensor["name"].replace("present_", "past_")
                if name not in self.arrays:
                    self.arrays[name] = shared.get(name, np.zeros(tensor["shape"], tensor["dtype"]))
                value = ort.OrtValue.ortvalue_from_numpy(self.arrays[name])
                bind = self._binding.bind_ortvalue_input if kind == "inputs" else self._binding.bind_ortvalue_output
                bind(tensor["name"], value)
                self._values.append(value)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def block(self, start: int, used: int | None = None) -> None:
        """Run a language-model block whose first row is at cache position `start`."""
        rows = len(self.arrays["embeds"])
        self.arrays["position_ids"][0] = np.arange(start, start + rows)
        self.arrays["row"][0] = (used or rows) - 1
        self.arrays["last_index"][0] = start + rows - 1
        self.arrays["total"][0] = start + rows
        self.run()


def prefill_noise(block: BareGraph, length: int) -> None:
    """Run a prompt of `length` rows of noise through a block, as many rows at a time as it has."""
    rows, width = block.arrays["embeds"].shape
    noise = np.random.default_rng(0).standard_normal((rows, width), dtype=np.float32)
    for start in range(0, length, rows):
        block.arrays["embeds"][:] = noise
        block.block(start, min(rows, length - start))


class BareBundle:
    """The graphs of a bundle, by name, opened on first use; language-model graphs share cache and hidden state."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        self.folder, self._threads = folder, threads
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self._specs = {graph["name"]: graph for graph in self.manifest["graphs"]}
        self._open: dict[str, BareGraph] = {}
        self._shared: dict[str, np.ndarray] = {}
        language = self.manifest["language"]
        stored = language["embedding"]
        self._table = np.memmap(
            folder / self.manifest["weights_file"],
            dtype=stored["dtype"],
            mode="r",
            offset=stored["offset"],
            shape=tuple(stored["shape"]),
        )

    def graph(self, name: str) -> BareGraph:
        if name not in self._open:
            resident = self.manifest["precision"] == "int8"
            opened = BareGraph(self.folder, self._specs[name], self._shared, threads=self._threads, resident=resident)
            passed_on = {k: a for k, a in opened.arrays.items() if k == "hidden" or k.startswith("past_")}
            self._shared |= passed_on
            self._open[name] = opened
        return self._open[name]

    def prefill(self, length: int) -> int:
        """Fill the cache with `length` rows of noise; returns the first token."""
        prefill_noise(self.graph("prefill"), length)
        return self._choose()

    def step(self, token: int, position: int) -> int:
        """One greedy decode step; returns the next token."""
        block = self.graph("decode")
        block.arrays["embeds"][0] = self._table[token]
        block.block(position)
        return self._choose()

    def _choose(self) -> int:
        head = self.graph("head")
        head.run()
        return int(np.argmax(head.arrays["logits"][0]))
