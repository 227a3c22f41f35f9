"""Make a vision-language checkpoint with seeded random weights, for tests and benchmarks (needs torch, transformers).

Example: python tools/make_checkpoint.py /tmp/half --size 0.5b --decoder qwen2 --tied --dtype float16
Sizes that are one published model's bring its family along: --size smolvlm2-500m, --size qwen2.5-vl-3b
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.checkpoints.families import FAMILIES
from tools.checkpoints.recipe import LLAVA, Recipe
from tools.checkpoints.sizes import MODELS, SIZES
from tools.checkpoints.write import make_checkpoint


def parser() -> argparse.ArgumentParser:
    """The command line; every option is a field of Recipe."""
    default = Recipe()
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("folder", type=Path, help="where to write; created if missing, must be empty")
    line.add_argument("--family", choices=(*LLAVA, *FAMILIES), default=default.family)
    line.add_argument("--tower", choices=("clip", "vit", "dinov2", "deit", "siglip"), default=default.tower)
    line.add_argument("--decoder", choices=("llama", "mistral", "qwen2", "qwen3"), default=default.decoder)
    line.add_argument("--size", choices=tuple(SIZES), default=default.size)
    line.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default=default.dtype)
    line.add_argument("--names", choices=("new", "old", "hub"), default=default.names, help="form of the weight names")
    line.add_argument("--shards", type=int, default=default.shards, help="at least so many weight files")
    line.add_argument("--seed", type=int, default=default.seed)
    line.add_argument("--tied", action="store_true", help="the head is the embedding table")
    line.add_argument("--multi-head", action="store_true", help="as many key-value heads as query heads")
    line.add_argument("--attention-bias", action="store_true", help="Llama with biases on q, k, v, o")
    line.add_argument("--head-dim", type=int, help="width of a head where it is not hidden / heads")
    line.add_argument("--rope", choices=("default", "linear", "llama3", "yarn"), default=default.rope)
    line.add_argument("--sliding-window", type=int, help="Mistral and Qwen2")
    line.add_argument("--swiglu", action="store_true", help="DINOv2 with a gated MLP")
    line.add_argument("--tokenizer", choices=("words", "bytes"), default=default.tokenizer)
    line.add_argument(
        "--bos", choices=("template", "tokenizer", "none"), default=default.bos, help="who writes the first token"
    )
    line.add_argument(
        "--processor", choices=("new", "old"), default=default.processor, help="layout of the processor files"
    )
    line.add_argument("--vocab", type=int, help="rows of the embedding table")
    line.add_argument("--layers", type=int, help="layers of the decoder")
    line.add_argument("--patches", type=int, help="patches per side of a tile")
    line.add_argument("--spare-px", type=int, default=default.spare_px, help="pixels of a tile beyond its last patch")
    line.add_argument("--eps", type=float, help="epsilon of the norms")
    line.add_argument(
        "--silent-tie",
        action="store_true",
        help="config.json leaves out tie_word_embeddings, the family's default holds",
    )
    line.add_argument("--merge", type=int, default=default.merge, help="patches per side of one visual token")
    line.add_argument("--norm", choices=("layer_norm", "rms_norm"), default=default.norm, help="InternVL's tower")
    line.add_argument("--no-tower-bias", dest="tower_bias", action="store_false", help="InternVL's q, k and v")
    line.add_argument("--min-patches", type=int, default=default.min_patches, help="InternVL: fewest tiles")
    line.add_argument("--max-patches", type=int, default=default.max_patches, help="InternVL: most tiles")
    line.add_argument("--longest-px", type=int, help="Idefics3 and SmolVLM: a picture's longer side")
    line.add_argument("--kv-heads", type=int, help="key-value heads")
    line.add_argument(
        "--config", choices=("new", "hub", "both"), default=default.config, help="Qwen-VL: form of config.json"
    )
    line.add_argument("--window-px", type=int, default=default.window_px, help="Qwen2.5-VL: side of a window")
    line.add_argument(
        "--pixel-keys", choices=("edges", "pixels", "both"), default=default.pixel_keys, help="Qwen-VL's size limits"
    )
    line.add_argument("--called", help="the name of another model that config.json gives")
    return line


def read(arguments: list[str]) -> tuple[Path, Recipe]:
    """The folder and the recipe; a size that is a published model's brings the rest along, unless told otherwise."""
    line = parser()
    line.set_defaults(**MODELS.get(line.parse_args(arguments).size, {}))
    given = vars(line.parse_args(arguments))
    folder: Path = given.pop("folder")
    if folder.exists() and any(folder.iterdir()):
        line.error(f"{folder} is not empty; name a new folder")
    recipe = Recipe(**given)
    if recipe.family == "llava_next" and recipe.tower == "deit":
        line.error("DeiT has two prefix tokens, which LLaVA-NeXT cannot hold; use --family llava")
    return folder, recipe


def main() -> None:
    """Read the command line and write the checkpoint."""
    folder, recipe = read(sys.argv[1:])
    make_checkpoint(folder, recipe)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB, {dataclasses.asdict(recipe)}", file=sys.stderr)


if __name__ == "__main__":
    main()
