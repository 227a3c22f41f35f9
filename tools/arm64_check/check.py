"""The steps of the check, in order. The long ones, the system and what is installed in it, are skipped when they are there and still fit."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from tools.arm64_check import engines, wheels
from tools.arm64_check.answers import BUDGETS, CASES, answers, asking, differences
from tools.arm64_check.guest import Guest, Refused, refuse_early, say
from tools.arm64_check.page import Found
from tools.arm64_check.wheels import BASE, BOARDS, ROOT

CHECKPOINT = ROOT / "tools" / "reference_vlm" / "checkpoint"
PICTURE = ROOT / "docs" / "images" / "scene.png"
PACKAGES = ("numpy", "onnxruntime", "pillow", "tokenizers")
_BUNDLE, _SCENE = "reference.bundle", "scene.png"
#: Python for the emulated system: what it is, and which of the exporter's packages can be found there.
_FACTS = f"""
import importlib.util, json, platform
import edgeprune_runtime
from importlib.metadata import version
print(json.dumps({{
    "machine": platform.machine(),
    "python": platform.python_version(),
    "libc": " ".join(platform.libc_ver()),
    "packages": {{name: version(name) for name in {PACKAGES!r}}},
    "foreign": [name for name in ("torch", "transformers", "onnx") if importlib.util.find_spec(name)],
}}))
"""
#: With all of a board's packages but the system's TensorRT, these have to come as far as to miss it. The last line tells the exit status.
_MISSING = "tensorrt cannot be imported"
_BOARD_COMMANDS = (
    f"edgeprune build /mnt/{_BUNDLE} --target tensorrt",
    f"edgeprune selftest /mnt/{_BUNDLE} --backend tensorrt",
    f"edgeprune run /mnt/{_BUNDLE} --image /mnt/{_SCENE} --prompt hello --backend tensorrt",
)
T = TypeVar("T")


def check(work: Path) -> Found:
    """Run all steps. Raises Refused where one cannot run."""
    refuse_early()
    work.mkdir(parents=True, exist_ok=True)
    guest = Guest(work)
    step("Debian's tools (60 MB)", guest.fetch_tools)
    step("Debian arm64 (about five minutes)", guest.install)
    wheel = step("edgeprune's wheel", lambda: wheels.own_wheel(work))
    for environment in (BASE, *BOARDS):
        digests = step(f"{environment}: aarch64 wheels (70 MB)", partial(wheels.for_debian, work, wheel, environment))
        step(f"{environment}: installing them there", partial(install, guest, environment, digests))
    boards = {
        name: step(f"what {name} comes to on a board", partial(wheels.for_board, work, wheel, name)) for name in BOARDS
    }
    budgets = [part for budget in BUDGETS for part in ("--budget", budget)]
    step("the reference bundle", lambda: on_host("export", CHECKPOINT, *budgets, "--out", work / _BUNDLE, "--force"))
    shutil.copyfile(PICTURE, work / _SCENE)
    facts, files, wrong = step("what is installed there", lambda: examine(guest))
    expected = {
        budget: answers(on_host(*asking(f"{work / _BUNDLE}", f"{work / _SCENE}", budget))) for budget in BUDGETS
    }
    rows = []
    for case in CASES:
        command = ["edgeprune", *asking(f"/mnt/{_BUNDLE}", f"/mnt/{_SCENE}", case.budget)]
        run = partial(guest.run, command, environment=case.environment, cpu=case.cpu)
        got = answers(step(f"{case.environment}: answers at budget {case.budget} on {case.cpu}", run))
        unlike = differences(expected[case.budget], got)
        rows.append((case, got, not unlike))
        wrong += [f"{case.environment} on {case.cpu}: {sentence}" for sentence in unlike]
    step("TensorRT for RTX (90 MB)", lambda: engines.install(guest))
    built = {name: step(f"{name}: engines", partial(engines.build, guest, _BUNDLE, name)) for name in BOARDS}
    return Found(_here(), facts, files, tuple(rows), built, boards, tuple(wrong))


def install(guest: Guest, environment: str, digests: tuple[str, str]) -> bool:
    """Install wheels in the emulated system, in an environment of that name. False when exactly these are installed."""
    home = guest.root / "opt" / environment
    stamp = home / "installed"
    had = tuple(stamp.read_text(encoding="utf-8").split()) if stamp.is_file() else ()
    if had == digests:
        return False
    options = ["--no-index", f"--find-links=/mnt/wheels-{environment}"]
    if had[:1] == digests[:1]:
        options += ["--no-deps", "--force-reinstall"]
        stamp.unlink()
    else:
        shutil.rmtree(home, ignore_errors=True)
        guest.run(["python3", "-m", "venv", f"/opt/{environment}"], environment=environment)
        options += [f"{wheels.rules(environment)[0]}=/mnt/wheels-{environment}/rules.txt"]
    guest.run(["pip", "install", "--quiet", *options, f"edgeprune{wheels.extra(environment)}"], environment=environment)
    stamp.write_text(" ".join(digests), encoding="utf-8")
    return True


def examine(guest: Guest) -> tuple[dict[str, Any], int, list[str]]:
    """Facts about the base install there, how many files of the bundle it found intact, and a sentence for everything that is wrong."""
    inside = partial(guest.run, environment=BASE)
    facts = json.loads(inside(["python", "-c", _FACTS]))
    verified = json.loads(inside(["edgeprune", "verify", f"/mnt/{_BUNDLE}", "--json"]))
    doctor = json.loads(inside(["edgeprune", "doctor", "--json"]))
    there = contents(inside(["edgeprune", "inspect", f"/mnt/{_BUNDLE}", "--json"]))
    here = contents(on_host("inspect", guest.work / _BUNDLE, "--json"))
    wrong = [f"{name} came with the base install" for name in facts["foreign"]]
    wrong += [] if doctor["healthy"] else ["`edgeprune doctor` finds the base install unhealthy"]
    wrong += [] if there == here else ["`edgeprune inspect` does not say the same"]
    for board in BOARDS:
        guest.run(["python", "-c", "import onnx, cuda.bindings.runtime"], environment=board)
        for command in _BOARD_COMMANDS:
            said = guest.run(["sh", "-c", f"{command} 2>&1; echo exit $?"], environment=board).strip()
            if _MISSING not in said or "Traceback" in said or not said.endswith("exit 1"):
                wrong.append(f"{board}: `{command}` does not refuse for want of TensorRT: {said.splitlines()[-2:]}")
    return facts, verified["files"], wrong


def contents(text: str) -> dict[str, Any]:
    """What `edgeprune inspect --json` says of a bundle, without where it lies."""
    return {key: value for key, value in json.loads(text).items() if key != "bundle"}


def on_host(*arguments: str | Path) -> str:
    """Standard output of the host's own `edgeprune`."""
    command = [str(Path(sys.executable).with_name("edgeprune")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise Refused(f"`edgeprune {arguments[0]}` failed on the host: {done.stderr[-1000:]}")
    return done.stdout


def step(name: str, work: Callable[[], T]) -> T:
    start = time.monotonic()
    say(f"{name} ...")
    found = work()
    say(f"  {'already there' if found is False else 'done'}, {time.monotonic() - start:.0f} s")
    return found


def _here() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "packages": {name: version(name) for name in PACKAGES},
    }
