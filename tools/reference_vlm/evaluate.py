"""Held-out accuracy of a saved checkpoint per question kind (exact match), packed or with `generate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from common import normalise
from drawing import Scene
from labels import TARGET_INDEX, label
from model import plain_attention  # noqa: F401  (registers the "plain" attention)
from packing import pack
from questions import KINDS, ask
from scenes import HELD_OUT_SEED, SIZES, make_scene
from stage_decoder import correct_by_kind, forward
from stage_tower import patch_features
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

Results = dict[str, list[bool]]


def packed(
    model: LlavaNextForConditionalGeneration, seed: int, scenes: int, keep: int | None, size: int = 10
) -> Results:
    """All questions of a scene share one prefix; teacher forcing with arg max, which equals greedy decoding.

    `keep=0` leaves out the image tokens.
    """
    rng = np.random.default_rng(0)
    groups: dict[int, list[tuple[Scene, int]]] = {g: [] for g in range(len(SIZES))}
    for i in range(seed, seed + scenes):
        scene = make_scene(i)
        groups[SIZES.index((scene.height, scene.width))].append((scene, i))
    out: Results = {}
    dtype = next(model.parameters()).dtype
    for grid, members in groups.items():
        for start in range(0, len(members), size):
            batch = pack(members[start : start + size], grid, rng)
            with torch.no_grad():
                _, projected = patch_features(model, normalise(batch.pixels, dtype=dtype))
                logits, _, _ = forward(model, batch, projected, keep, "cpu")
            for kind, right in correct_by_kind(batch, logits).items():
                out.setdefault(kind, []).extend(right)
    return out


def generated(
    model: LlavaNextForConditionalGeneration, folder: Path, seed: int, scenes: int, size: int = 16
) -> Results:
    """The slow way: processor, chat template and `generate`, as a user would."""
    processor = AutoProcessor.from_pretrained(folder)
    todo = []
    for i in range(seed, seed + scenes):
        scene = make_scene(i)
        todo += [(scene.image, kind, question, answer) for kind, question, answer in ask(scene, i)]
    out: Results = {}
    for start in range(0, len(todo), size):
        part = todo[start : start + size]
        texts = []
        for _, _, question, _ in part:
            content = [{"type": "image"}, {"type": "text", "text": question}]
            texts.append(
                processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            )
        inputs = processor(images=[p[0] for p in part], text=texts, return_tensors="pt", padding=True)
        reply = model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        for tokens, (_, kind, _, answer) in zip(reply, part, strict=True):
            text = processor.decode(tokens, skip_special_tokens=True).strip()
            out.setdefault(kind, []).append(text == answer)
    return out


def class_attention(model: LlavaNextForConditionalGeneration, seed: int, scenes: int) -> dict[str, object]:
    """Share of the class token's attention that falls on patches with a shape or a text, per layer, and their area."""
    model.set_attn_implementation("eager")
    dtype = next(model.parameters()).dtype
    shares, area = [], []
    for i in range(seed, seed + scenes):
        views = label(make_scene(i))
        shown = (views.patches[..., [TARGET_INDEX["object"], TARGET_INDEX["text"]]] > 0).any(-1)
        content = torch.from_numpy(shown).to(dtype)
        with torch.no_grad():
            out = model.model.vision_tower(normalise(views.pixels, dtype=dtype), output_attentions=True)
        rows = torch.stack([a[:, :, 0, 1:].mean(1) for a in out.attentions])
        shares.append(((rows * content).sum(-1) / rows.sum(-1)).mean(-1))
        area.append(float(content.mean()))
    per_layer = torch.stack(shares).mean(0)
    return {"area": round(float(np.mean(area)), 3), "share per layer": [round(float(v), 3) for v in per_layer]}


def summary(results: Results) -> dict[str, float]:
    """Per-kind accuracy in percent, micro average and number of questions."""
    every = [r for v in results.values() for r in v]
    out = {"micro": round(100 * float(np.mean(every)), 2), "n": len(every)}
    for kind in KINDS:
        values = results.get(kind, [])
        out[kind] = round(100 * float(np.mean(values)), 2) if values else float("nan")
        out[f"n_{kind}"] = len(values)
    return out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--scenes", type=int, default=250)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="seed of the first scene (held out by default)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--generate", type=int, default=0, help="also run `generate` on this many of the scenes")
    parser.add_argument("--no-image", action="store_true", help="also without image tokens")
    parser.add_argument(
        "--attention", type=int, default=0, help="also what the class token looks at, on so many scenes"
    )
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = LlavaNextForConditionalGeneration.from_pretrained(
        args.checkpoint, dtype=getattr(torch, args.dtype), attn_implementation="plain"
    ).eval()
    print(json.dumps({"packed": summary(packed(model, args.seed, args.scenes, None))}), flush=True)
    if args.no_image:
        print(json.dumps({"no image": summary(packed(model, args.seed, args.scenes, 0))}), flush=True)
    if args.generate:
        few = args.generate
        print(json.dumps({"packed, same scenes": summary(packed(model, args.seed, few, None))}), flush=True)
        model.set_attn_implementation("sdpa")
        print(json.dumps({"generate": summary(generated(model, args.checkpoint, args.seed, few))}), flush=True)
    if args.attention:
        found = class_attention(model, args.seed, args.attention)
        print(json.dumps({"class-token attention on content": found}), flush=True)


if __name__ == "__main__":
    main()
