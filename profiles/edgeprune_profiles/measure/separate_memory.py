"""Peak memory of one budget in a process that does nothing else: `python -m edgeprune_profiles.measure.separate_memory`.

The child imports everything first, so that the baseline is the interpreter with its libraries; then it opens the bundle
and answers one request. What the request adds to the baseline is weights, cache and activations.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from edgeprune_runtime.budgets import asked_for
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.memory import MemoryMeter, MemoryReading
from edgeprune_runtime.model import Model
from edgeprune_runtime.stages.counts import choice_from_text


class MemoryRequest(msgspec.Struct, frozen=True):
    """What the child is told, as JSON in its one argument."""

    bundle: str
    budget: str
    image: str
    question: str
    max_tokens: int
    threads: int
    backend: str


def measure_here(request: MemoryRequest) -> MemoryReading:
    """Open, answer once, and read the memory of this process."""
    import onnxruntime  # noqa: F401  part of the baseline

    asked = asked_for(request.budget)
    with MemoryMeter().window() as window:
        options = {"backend": request.backend, "threads": request.threads}
        with Model.open(request.bundle, verify=False, **options) as model:  # type: ignore[arg-type]
            model.ask(
                request.question,
                image=Path(request.image),
                **asked.of_picture,
                inside=choice_from_text(asked.inside),
                max_tokens=request.max_tokens,
                stop=False,
            )
    return window.reading()


def measure_apart(request: MemoryRequest) -> MemoryReading:
    """The same in a child process. Raises MeasurementError when the child fails, which on a small board means memory."""
    command = [
        sys.executable,
        "-m",
        "edgeprune_profiles.measure.separate_memory",
        msgspec.json.encode(request).decode(),
    ]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        raise MeasurementError(
            f"the process that measures the memory of budget {request.budget} ended with {how} ({last}); "
            "if it was killed, the machine has too little memory for this bundle"
        )
    return msgspec.json.decode(child.stdout, type=MemoryReading)


def main() -> None:
    request = msgspec.json.decode(sys.argv[1], type=MemoryRequest)
    sys.stdout.write(msgspec.json.encode(measure_here(request)).decode())


if __name__ == "__main__":
    main()
