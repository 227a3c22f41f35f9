"""Ask the transformers worker; it is started only when samples are still missing, for its model takes gigabytes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.bench.process import python
from tools.bench.rounds import Sample
from tools.bench.settings import ROOT, say


class EagerProcess:
    """A context that holds the worker; `sample` answers one request in it."""

    def __init__(self, checkpoint: Path, picture: Path, prompt: str, threads: int) -> None:
        arguments = [str(checkpoint), str(picture), prompt, str(threads)]
        self._command = python("-m", "tools.bench.eager_worker", *arguments)
        self._child: subprocess.Popen[str] | None = None
        self.peak_bytes: int | None = None

    def __enter__(self) -> EagerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.communicate()

    def sample(self) -> Sample:
        if self._child is None:
            say("starting transformers")
            self._child = subprocess.Popen(
                self._command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self._line(self._child)
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        found = self._line(self._child)
        self.peak_bytes = found["peak"]
        spans: Sample = found["spans"]
        return spans

    @staticmethod
    def _line(child: subprocess.Popen[str]) -> dict[str, Any]:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"the transformers worker ended with code {child.wait()}; its message is above")
        found: dict[str, Any] = json.loads(line)
        return found
