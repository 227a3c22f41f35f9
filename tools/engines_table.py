"""What building engines really takes, beside the estimate that a build tells before it starts: time, peak memory, bytes on disk.

    python tools/engines_table.py reference.bundle other.bundle --target rtx:sm89 --target rtx:sm86,sm89,sm120

Each build runs in a process of its own, on a copy of the bundle; the peak is that process's. No GPU is needed for these targets.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

from edgeprune_export.engines.builder import Job, build_engine
from edgeprune_export.engines.dynamic_rows import static
from edgeprune_export.engines.estimate import estimate
from edgeprune_export.engines.prepare import prepare
from edgeprune_export.engines.rules.dialect import DIALECTS
from edgeprune_export.engines.target import target_from_text
from edgeprune_runtime.backends.tensorrt_api import load
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.meters.environment import environment


def built(root: Path, target: str, *more: str) -> dict[str, Any]:
    """One build: what the command tells, its wall seconds and its peak resident size."""
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        copy = Path(
            shutil.copytree(
                root, Path(folder) / "bundle", ignore=shutil.ignore_patterns("engines"), copy_function=os.link
            )
        )
        call = "from edgeprune.cli import main; main()"
        command = [sys.executable, "-c", call, "build", str(copy), "--target", target, "--json", *more]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"building {root.name} for {target} failed; run `edgeprune build` to see why")
        (found,) = json.loads(told)["engines"]
        return {
            "engines": found,
            "wall_s": time.perf_counter() - start,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * 1024,
        }


def row(root: Path, target: str, *more: str) -> str:
    bundle = Bundle.open(root, verify=False)
    needed = estimate(bundle, "fp16", ahead_of_time=target_from_text(target).ahead_of_time)
    found = built(root, target, *more)
    engines = found["engines"]
    size = sum(entry["bytes"] for entry in engines["files"].values())
    weights = bundle.manifest.files[bundle.manifest.weights_file].bytes
    return (
        f"| {root.stem} | {weights / 1e6:.0f} | {' '.join((target, *more))} | {len(engines['engines'])} | {size / 1e6:.1f} | "
        f"{needed.disk_bytes / 1e6:.0f} | {found['cpu_s']:.0f} | {found['wall_s']:.0f} | {needed.seconds[0]:.0f} to {needed.seconds[1]:.0f} | "
        f"{found['peak_bytes'] / 1e6:.0f} | {needed.memory_bytes / 1e6:.0f} |"
    )


def lengths(root: Path) -> str:
    """The language model's engine for both lengths beside one for each: bytes, by what they share."""
    trt, bundle = load("tensorrt_rtx"), Bundle.open(root, verify=False)
    with tempfile.TemporaryDirectory(dir=root.parent) as name:
        folder = Path(name)
        language = next(
            one
            for one in list(prepare(bundle, DIALECTS[trt.api.dialect], "fp16", folder, lambda: None))
            if one.graphs[1:]
        )
        sizes = []
        for rows in (language.rows, *((count,) for count in language.rows)):
            source, engine = language.path, folder / "language.engine"
            if len(rows) == 1:
                source = folder / "one.onnx"
                onnx.save(static(onnx.load(language.path, load_external_data=False), rows[0]), source)
            fixed = rows if len(rows) > 1 else ()
            build_engine(trt, Job(source, engine, ("sm89",), fixed), lambda: None)
            sizes.append(engine.stat().st_size / 1e6)
    both, *each = sizes
    weights = bundle.graph("decode").weight_bytes / 2e6
    parts = " + ".join(f"{size:.1f}" for size in each)
    return f"| {root.stem} | {weights:.0f} | {both:.1f} | {parts} = {sum(each):.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--lengths", action="store_true", help="only compare one engine for both lengths with two")
    options = parser.parse_args()
    facts = environment()
    import tensorrt_rtx

    where = f"{facts.cpu_model}, {facts.cores_usable} cores, {facts.python}"
    print(f"TensorRT for RTX {tensorrt_rtx.__version__}, fp16, {where}\n")
    if options.lengths:
        print(
            "| bundle | fp16 weights of the language model (MB) | one engine, two lengths (MB) | an engine for each (MB) |"
        )
        print("|" + " --- |" * 4, *map(lengths, options.bundles), sep="\n")
        return
    print(
        "| bundle | weights (MB) | target | engines | engines (MB) | estimate | CPU (s) | wall (s) | estimate | peak memory (MB) | estimate |"
    )
    print("|" + " --- |" * 11)
    for root in options.bundles:
        for target in options.target:
            for more in ((), ("--low-memory",)):
                print(row(root, target, *more), flush=True)


if __name__ == "__main__":
    main()
