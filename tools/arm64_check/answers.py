"""The questions, and answers of two machines held against each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.arm64_check.wheels import BASE

BUDGETS = ("0.2", "1.0")
PROMPTS = ("which word is in the picture?", "which number is in the picture?")
#: What has to be the same. Paths and times may differ.
SAME = ("prompt", "budget", "method", "token_ids", "text", "finish_reason", "visual_tokens", "prompt_tokens", "kept")
#: Emulated processors, by QEMU's name, and what they stand for.
CPUS = {
    "cortex-a57": "ARMv8.0, as in Jetson Nano and TX2: the least that aarch64 wheels may need",
    "cortex-a76": "ARMv8.2 with dot products and half precision: the nearest to Orin's Cortex-A78AE",
    "max": "everything QEMU has, scalable vectors too: the nearest to Thor's Neoverse V3AE",
}
Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One run: an environment of the emulated system, a processor, a budget."""

    environment: str
    cpu: str
    budget: str


#: The base install on every processor, and each board's packages on the nearest one.
CASES = (
    *(Case(BASE, cpu, budget) for cpu in CPUS for budget in BUDGETS),
    Case("jetpack6", "cortex-a76", "0.2"),
    Case("jetpack7", "max", "0.2"),
)


def asking(bundle: str, picture: str, budget: str) -> list[str]:
    """Arguments of `edgeprune`."""
    prompts = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    return [
        "run",
        bundle,
        "--image",
        picture,
        *prompts,
        "--budget",
        budget,
        "--backend",
        "onnxruntime",
        "--threads",
        "1",
        "--json",
    ]


def answers(text: str) -> list[dict[str, Any]]:
    """The answers in what `edgeprune run --json` printed."""
    found: list[dict[str, Any]] = json.loads(text)["answers"]
    return found


def differences(here: Sequence[Answer], there: Sequence[Answer]) -> tuple[str, ...]:
    """A sentence for each field of each answer that is not the same."""
    if len(here) != len(there):
        return (f"{len(there)} answers instead of {len(here)}",)
    return tuple(
        f"{key} of {a['prompt']!r} at budget {a['budget']}: {b.get(key)!r} instead of {a.get(key)!r}"
        for a, b in zip(here, there, strict=True)
        for key in SAME
        if a.get(key) != b.get(key)
    )
