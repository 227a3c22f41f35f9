"""Train the reference model stage by stage; kill it at any time and run the same command again to go on."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# glibc must read these before the first allocation: without them it keeps handing memory back to the kernel
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
STAGES = ("tower", "warm-up", "thumbnail", "joint")


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the states to resume from")
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished checkpoint")
    parser.add_argument("--early", type=Path, help="folder for usable checkpoints on the way")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the training scenes (0 to 9)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--stop-after", choices=STAGES, default="joint", help="last stage to run")
    parser.add_argument("--tower-steps", type=int, default=2400, help="stage 1: steps of --tower-scenes scenes")
    parser.add_argument("--tower-scenes", type=int, default=32)
    parser.add_argument("--tower-lr", type=float, default=1.5e-3)
    parser.add_argument("--warm-up-steps", type=int, default=900, help="stage 2: steps of --scenes scenes")
    parser.add_argument("--warm-up-lr", type=float, default=1.5e-3)
    parser.add_argument("--thumbnail-steps", type=int, default=300, help="stage 3: steps of --scenes scenes")
    parser.add_argument("--joint-steps", type=int, default=1600, help="stage 4: steps of --scenes scenes")
    parser.add_argument("--joint-lr", type=float, default=1e-3)
    parser.add_argument("--scenes", type=int, default=12, help="scenes per step of stages 2 and 3")
    return parser.parse_args()


def main() -> None:
    """Run every stage that is not finished yet."""
    args = parse()
    if args.device == "cpu" and any(os.environ.get(k) != v for k, v in MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})
    import torch
    from model import Heads, build_model, keep_rotary_exact, save_checkpoint
    from scenes import SPAN
    from stage_decoder import train_decoder
    from stage_tower import train_tower

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = build_model().to(args.device, torch.bfloat16)
    keep_rotary_exact(model.model.language_model)
    heads = Heads().to(args.device, torch.bfloat16)
    first = (1 + 10 * args.seed) * SPAN
    path = {stage: args.work / f"{stage}.pt" for stage in STAGES}
    train_tower(model, heads, path["tower"], args.tower_steps, args.tower_scenes, args.tower_lr, first, args.device)
    lengths = {
        "warm-up": (args.warm_up_steps, args.warm_up_lr),
        "thumbnail": (args.thumbnail_steps, args.joint_lr),
        "joint": (args.joint_steps, args.joint_lr),
    }
    for number, (stage, (steps, lr)) in enumerate(lengths.items()):
        if STAGES.index(args.stop_after) <= number:
            return
        train_decoder(model, heads, path[stage], path[STAGES[number]], steps, args.scenes, lr,
                      first + (1 + number) * SPAN, args.device, stage, args.early)  # fmt: skip
    save_checkpoint(model, args.out)
    print(f"saved {args.out}", flush=True)


if __name__ == "__main__":
    main()
