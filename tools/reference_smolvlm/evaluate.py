"""Held-out accuracy of a saved checkpoint per question kind (exact match), packed or with `generate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference_vlm"))  # scenes, questions, training helpers

import torch
from common import normalise
from drawing import Scene
from evaluate import Results, summary  # the first model's: its folder comes first on the path
from model import plain_attention  # noqa: F401  (registers the "plain" attention)
from packing import tokens
from prompt import CLOSING, IDS, MERGED, prefix
from questions import ask
from scenes import HELD_OUT_SEED, SIZES, make_scene
from smolvlm import CONSTANTS, tile_features
from stage_decoder import correct_by_kind
from tiles import forward, pack, visual_slots
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

SHOWN = ("all", "overview", "none")


def dropped(grid: int, shown: str) -> Tensor | None:
    """Prefix slots that are hidden when only the overview's visual tokens, or none, are shown; separators stay."""
    slots = visual_slots(grid)
    return {"all": None, "overview": slots[:-MERGED], "none": slots}[shown]


def packed(model: SmolVLMForConditionalGeneration, seed: int, scenes: int, shown: str, size: int = 10) -> Results:
    """All questions of a scene share one prefix; teacher forcing with arg max, which equals greedy decoding."""
    groups: dict[int, list[tuple[Scene, int]]] = {g: [] for g in range(len(SIZES))}
    for i in range(seed, seed + scenes):
        scene = make_scene(i)
        groups[SIZES.index((scene.height, scene.width))].append((scene, i))
    out: Results = {}
    dtype = next(model.parameters()).dtype
    for grid, members in groups.items():
        for start in range(0, len(members), size):
            batch = pack(members[start : start + size], grid)
            with torch.no_grad():
                features = tile_features(model, normalise(batch.pixels, dtype=dtype, constants=CONSTANTS))
                logits, _, _ = forward(model, batch, features, dropped(grid, shown))
            for kind, right in correct_by_kind(batch, logits).items():
                out.setdefault(kind, []).extend(right)
    return out


class Reader:
    """What SmolVLM's processor does, from the parts of it that need no torchvision."""

    def __init__(self, folder: Path) -> None:
        self.images = AutoImageProcessor.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def inputs(self, scene: Scene, question: str) -> dict[str, Tensor]:
        """Model inputs for one question about one picture."""
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        seen = self.images(images=[scene.image], return_tensors="pt", return_row_col_info=True)
        rows, columns = seen.pop("rows")[0][0], seen.pop("cols")[0][0]
        named = self.tokenizer
        picture = get_image_prompt_string(
            rows, columns, MERGED, image_token=named.image_token, fake_token_around_image=named.fake_image_token,
            global_image_token=named.global_image_token,
        )  # fmt: skip
        words = named(text.replace(named.image_token, picture), add_special_tokens=False, return_tensors="pt")
        return {**words, **seen}


def require_packed(ids: list[int], scene: Scene, question: str) -> None:
    """Stop when the packing that was trained on differs from what the tokenizer makes of the expanded prompt."""
    grid = SIZES.index((scene.height, scene.width))
    expected = [*prefix(grid), *tokens(question, IDS), *CLOSING]
    if ids != expected:
        raise SystemExit(
            f"the prompt has ids {ids}, the packing has {expected}: make prompt.py and the processor agree"
        )


def generated(model: SmolVLMForConditionalGeneration, folder: Path, seed: int, scenes: int) -> Results:
    """The slow way: image processor, chat template and `generate`, question by question, as a user would."""
    reader = Reader(folder)
    out: Results = {}
    for i in range(seed, seed + scenes):
        scene = make_scene(i)
        for kind, question, answer in ask(scene, i):
            inputs = reader.inputs(scene, question)
            require_packed(inputs["input_ids"][0].tolist(), scene, question)
            reply = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
            text = reader.tokenizer.decode(reply, skip_special_tokens=True).strip()
            out.setdefault(kind, []).append(text == answer)
    return out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--scenes", type=int, default=250)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="seed of the first scene (held out by default)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--shown", choices=SHOWN, nargs="+", default=["all"], help="which visual tokens are shown")
    parser.add_argument("--generate", type=int, default=0, help="also run `generate` on this many of the scenes")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = AutoModelForImageTextToText.from_pretrained(
        args.checkpoint, dtype=getattr(torch, args.dtype), attn_implementation="plain"
    ).eval()
    for shown in args.shown:
        print(json.dumps({shown: summary(packed(model, args.seed, args.scenes, shown))}), flush=True)
    if args.generate:
        few = args.generate
        print(json.dumps({"all, same scenes": summary(packed(model, args.seed, few, "all"))}), flush=True)
        model.set_attn_implementation("sdpa")
        print(json.dumps({"generate": summary(generated(model, args.checkpoint, args.seed, few))}), flush=True)


if __name__ == "__main__":
    main()
