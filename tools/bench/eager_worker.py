"""transformers on the same weights, in a process of its own: one request per line on stdin, one JSON answer per line on stdout.

A request is answered as a user would with transformers: open the picture, processor, one forward pass with a cache, a few decode
steps. Time inside the vision tower and the projector is taken by hooks on these modules.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from edgeprune.models.families import FAMILIES
from tools.bench.process import memory_of

STEPS = 4


class Eager:
    """The model in float32 with PyTorch's scaled-dot-product attention."""

    def __init__(self, checkpoint: Path, picture: Path, prompt: str) -> None:
        self._picture, self._prompt = picture, prompt
        self._processor: Any = AutoProcessor.from_pretrained(checkpoint)
        load: Any = AutoModelForImageTextToText.from_pretrained
        self._model = load(checkpoint, dtype=torch.float32, attn_implementation="sdpa").eval()
        self._spans: dict[str, list[float]] = {}
        paths = FAMILIES.get(self._model.config.model_type).modules
        for stage, path in (("tower", paths.tower), ("select", paths.connector)):
            self._watch(stage, self._model.get_submodule(path))

    @torch.inference_mode()
    def answer(self) -> dict[str, list[float]]:
        """Stages of one request; `select` is the projector alone, `prefill` everything else up to the first token."""
        self._spans = {}
        inputs = self._timed("preprocess", self._inputs)
        output = self._timed("forward", lambda: self._model(**inputs, use_cache=True, logits_to_keep=1))
        forward = self._spans.pop("forward")
        self._spans["prefill"] = [
            all_ - tower - projector
            for all_, tower, projector in zip(forward, self._spans["tower"], self._spans["select"], strict=True)
        ]
        self._timed("steps", lambda: self._steps(output))
        self._spans["decode"] = [value / STEPS for value in self._spans.pop("steps")]
        return self._spans

    def _inputs(self) -> Any:
        with Image.open(self._picture) as file:
            picture = file.convert("RGB")
        return self._processor(images=picture, text=self._prompt, return_tensors="pt", add_special_tokens=False)

    def _steps(self, output: Any) -> None:
        for _ in range(STEPS):
            token = output.logits[:, -1:].argmax(-1)
            output = self._model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)

    def _timed(self, stage: str, action: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = action()
        self._spans[stage] = [time.perf_counter() - wall, time.process_time() - cpu]
        return result

    def _watch(self, stage: str, module: Any) -> None:
        began: list[float] = []

        def before(*_: Any) -> None:
            began[:] = [time.perf_counter(), time.process_time()]

        def after(*_: Any) -> None:
            ended = [time.perf_counter(), time.process_time()]
            self._spans[stage] = [end - start for start, end in zip(began, ended, strict=True)]

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)


def main(checkpoint: str, picture: str, prompt: str, threads: int) -> None:
    """Say that the model is ready, then answer until stdin ends."""
    if threads:
        torch.set_num_threads(threads)
    eager = Eager(Path(checkpoint), Path(picture), prompt)
    print(json.dumps({"threads": torch.get_num_threads()}), flush=True)
    for _ in sys.stdin:
        spans = eager.answer()
        print(json.dumps({"spans": spans, "peak": memory_of().get("peak")}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
