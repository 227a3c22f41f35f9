"""The findings as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.arm64_check.answers import CPUS, Answer, Case
from tools.arm64_check.engines import CAPABILITY, DIALECTS, VERSION
from tools.arm64_check.guest import HOST_PACKAGES, SUITE
from tools.arm64_check.wheels import BOARDS

#: Rows of the boards' table: what differs between boards, and what a board builds and runs with.
_SHOWN = ("numpy", "cuda-bindings", "onnx", "onnxruntime", "tokenizers", "pillow", "msgspec", "psutil", "protobuf")


@dataclass(frozen=True)
class Found:
    """What the check found.

    host, guest  Python, C library and packages of the two machines
    files        files of the bundle that the guest found intact
    rows         (case, answers, whether they are the host's) per run
    engines      names of the engines built in each board's environment
    boards       version by package that a board would install, by requirement file
    wrong        a sentence for everything that is not as it should be
    """

    host: Mapping[str, Any]
    guest: Mapping[str, Any]
    files: int
    rows: tuple[tuple[Case, Sequence[Answer], bool], ...]
    engines: Mapping[str, Sequence[str]]
    boards: Mapping[str, Mapping[str, str]]
    wrong: tuple[str, ...]


def page(found: Found) -> str:
    verdict = "\n".join(f"- **{sentence}**" for sentence in found.wrong) or "Everything was the same."
    processors = "\n".join(f"- `{name}`: {what}" for name, what in CPUS.items())
    return f"""# The base install and a bundle's answers on Debian arm64, emulated

Printed by `sudo .venv/bin/python -m tools.arm64_check --work build/arm64` (about twenty minutes on two cores the first time, ten after that).
Debian `{SUITE}` for arm64 was made by debootstrap, and its programs ran under QEMU's user mode (Debian's packages
{", ".join(HOST_PACKAGES)}). edgeprune and all it needs were installed there by that system's own pip, from aarch64 wheels of
the package registry and nothing else. The bundle is the reference model, exported on the host.

{verdict}

**No board and no GPU took part.** This shows that the packages are complete on aarch64 and that the ARM code in them gives the same answers.
It says nothing about TensorRT, sensors or time. ONNX Runtime goes by the features that the emulated kernel reports (it is shown no `/sys`,
which would describe the host), so a board's own choice of kernels may differ.

## Machines
{_machines(found)}

In the emulated base install torch, transformers and onnx are absent and `edgeprune_runtime` imports; `edgeprune verify` found all {found.files}
files of the bundle intact, `edgeprune doctor` found the install healthy, and `edgeprune inspect` said what it says on the host.

## Answers
Two questions about `docs/images/scene.png`, greedy, ONNX Runtime, one thread. `jetpack6` and `jetpack7` are environments made with the boards'
requirement files under Debian's Python. onnx and cuda-bindings import in them, and `edgeprune build`, `selftest` and `run` come there, without
torch, to the point where the board's own TensorRT is missing, and say so in one sentence.

{_answers(found)}

{processors}

## Engines
`edgeprune build --target rtx:{CAPABILITY}` in the boards' environments, without torch and without a GPU. TensorRT for RTX {VERSION} stands in
for the board's TensorRT, which can be had only there: the same interface, given the form of graphs that the board's version is given.
Built, not run:

{_engines(found)}

## What a board would install
`pip install ".[jetson]" --requirement runtime/jetson/FILE`, resolved from wheels for the board's own Python and C library, not run:

{_boards(found)}
"""


def _machines(found: Found) -> str:
    sides = (found.host, found.guest)
    rows = [(name, *(str(side[name]) for side in sides)) for name in ("machine", "python", "libc")]
    rows += [(name, *(side["packages"][name] for side in sides)) for name in found.host["packages"]]
    return _table(("", "host", "emulated"), rows)


def _answers(found: Found) -> str:
    rows = []
    for case, answers, same in found.rows:
        given = "; ".join(f"{answer['text']} `{answer['token_ids']}`" for answer in answers)
        count = str(answers[0]["visual_tokens"])
        rows.append((case.environment, case.cpu, case.budget, count, given, "same" if same else "**differ**"))
    compared = "token ids, text and kept tokens against x86-64"
    return _table(("environment", "processor", "budget", "visual tokens", "answers", compared), rows)


def _engines(found: Found) -> str:
    rows = [(board, DIALECTS[board], str(len(names)), ", ".join(names)) for board, names in found.engines.items()]
    return _table(("environment", "graphs", "engines", "names"), rows)


def _boards(found: Found) -> str:
    rows = [(name, *(packages.get(name, "-") for packages in found.boards.values())) for name in _SHOWN]
    return _table(
        ("package", *(f"{BOARDS[board].name}, Python {BOARDS[board].python}" for board in found.boards)), rows
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
