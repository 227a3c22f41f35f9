"""Train the second reference model; kill it at any time and run the same command again to go on."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference_vlm"))  # scenes, questions, training helpers

# Read before the first allocation and thread: glibc must not keep handing memory back to the kernel, and threads that
# wait must sleep, because on shared cores spinning takes the time of the thread that is waited for.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "OMP_WAIT_POLICY": "passive",
}  # fmt: skip
STAGES = ("distil", "connect", "joint")


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the states to resume from")
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished checkpoint")
    parser.add_argument("--early", type=Path, help="folder for usable checkpoints on the way")
    parser.add_argument("--seed", type=int, default=1, help="seed of new weights and of the training scenes (1 to 9)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--stop-after", choices=STAGES, default="joint", help="last stage to run")
    parser.add_argument("--distil-steps", type=int, default=125, help="stage 1: steps of --distil-scenes scenes")
    parser.add_argument("--distil-scenes", type=int, default=16)
    parser.add_argument("--distil-lr", type=float, default=1e-3)
    parser.add_argument("--connect-steps", type=int, default=200, help="stage 2: steps of --scenes scenes")
    parser.add_argument("--joint-steps", type=int, default=220, help="stage 3: steps of --scenes scenes")
    parser.add_argument("--lr", type=float, default=1e-3, help="stages 2 and 3")
    parser.add_argument("--scenes", type=int, default=16, help="scenes per step of stages 2 and 3")
    parser.add_argument("--dense-scenes", type=int, default=4, help="text-dense scenes beside them, for the helpers")
    return parser.parse_args()


def main() -> None:
    """Run every stage that is not finished yet."""
    args = parse()
    if args.device == "cpu" and any(os.environ.get(k) != v for k, v in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    import torch
    from model import keep_rotary_exact
    from scenes import SPAN
    from smolvlm import Heads, build_config, save_checkpoint
    from stages import distil, train
    from transformers import SmolVLMForConditionalGeneration

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = SmolVLMForConditionalGeneration(build_config("plain")).to(args.device, torch.bfloat16)
    heads = Heads().to(args.device, torch.bfloat16)
    first = (1 + 10 * args.seed) * SPAN
    path = {stage: args.work / f"{stage}.pt" for stage in STAGES}
    distil(model, heads, path["distil"], args.distil_steps, args.distil_scenes, args.distil_lr, first, args.device)
    keep_rotary_exact(model.model.text_model)
    for number, (stage, steps) in enumerate((("connect", args.connect_steps), ("joint", args.joint_steps)), 1):
        if STAGES.index(args.stop_after) < number:
            return
        train(model, heads, path[stage], path[STAGES[number - 1]], steps, args.scenes, args.dense_scenes, args.lr,
              first + number * SPAN, args.device, stage, args.early)  # fmt: skip
    save_checkpoint(model, args.out)
    print(f"saved {args.out}", flush=True)


if __name__ == "__main__":
    main()
