"""Seeded procedural scenes and their command line.

A scene is a pure function of its seed, so nothing is stored and a held-out split is just a disjoint seed range.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from drawing import COLOUR_NAMES, SHAPES, WORDS, Canvas, Scene

SIZES = ((224, 224), (112, 224), (224, 112))  # (height, width): the grids 2x2, 1x2 and 2x1
SIZE_SHARES = (0.6, 0.2, 0.2)
SPAN = 10_000_000  # scene seeds of each training stage: (1 + 10 * run seed + stage) * SPAN and on
HELD_OUT_SEED = 1_000_000_000  # scene seeds from here on are never trained on


def random_number(rng: np.random.Generator) -> str:
    """A number of one (25 %), two (60 %) or three (15 %) digits."""
    low, high = ((1, 10), (10, 100), (100, 1000))[rng.choice(3, p=(0.25, 0.6, 0.15))]
    return str(rng.integers(low, high))


def random_size(rng: np.random.Generator) -> int:
    """A font size: mostly 13-22 px (only the tiles can read it), a quarter 24-32 px (the thumbnail can, too)."""
    return int(rng.integers(24, 33)) if rng.random() < 0.25 else int(rng.integers(13, 23))


def make_scene(seed: int, dense: bool = False, grid: int | None = None, easy: bool = False) -> Scene:
    """The scene of this seed.

    `dense` puts several numbers and words into it (for training the tower, never asked about), `grid` fixes the
    size (index of SIZES), `easy` leaves out clutter and all but three shapes.
    """
    rng = np.random.default_rng(seed)
    choice = rng.choice(len(SIZES), p=SIZE_SHARES)
    height, width = SIZES[choice if grid is None else grid]
    canvas = Canvas(rng, height, width)
    small = height * width < 224 * 224
    if rng.random() < 0.25:  # one half stays empty
        half = rng.integers(2) if not small else (0 if width > height else 1)
        first = rng.random() < 0.5
        if half == 0:
            canvas.region = (0, 0, width / 2, height) if first else (width / 2, 0, width, height)
        else:
            canvas.region = (0, 0, width, height / 2) if first else (0, height / 2, width, height)
        small = True
    for is_number in (True, False):
        count = rng.integers(1, 3 if small else 5) if dense else int(rng.random() < 0.85)
        for _ in range(count):
            canvas.add_text(random_number(rng) if is_number else str(rng.choice(WORDS)), random_size(rng))
    kinds = list(rng.integers(0, len(SHAPES), rng.integers(1, 4 if small or easy else 5)))
    if rng.random() < 0.55:  # something to count
        repeats = int(rng.integers(1, 3 if small or easy else 4))
        kinds += [kinds[0]] * repeats
    kinds = [kind for i, kind in enumerate(kinds) if kinds[:i].count(kind) < 4]
    for kind in kinds:
        canvas.add_shape(int(kind), int(rng.integers(len(COLOUR_NAMES))))
    for _ in range(0 if easy else rng.integers(0, 3 if small else 5)):
        canvas.add_clutter()
    return canvas.finish()


def write_split(out: Path, scenes: int, seed: int) -> int:
    """Write `scenes` pictures and their questions.jsonl; returns the number of questions."""
    from questions import ask

    out.mkdir(parents=True, exist_ok=True)
    total = 0
    with (out / "questions.jsonl").open("w", encoding="utf-8") as sink:
        for index in range(scenes):
            scene = make_scene(seed + index)
            name = f"{index + 1:04d}.png"
            scene.image.save(out / name)
            for kind, question, answer in ask(scene, seed + index):
                line = {"image": name, "question": question, "answers": [answer], "kind": kind}
                sink.write(json.dumps(line) + "\n")
                total += 1
    return total


def main() -> None:
    """Command line: write a split as PNG files and questions.jsonl."""
    parser = argparse.ArgumentParser(description="Write seeded procedural scenes with questions and answers.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--scenes", type=int, default=250, help="number of scenes")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="seed of the first scene (held out: default)")
    args = parser.parse_args()
    print(f"{write_split(args.out, args.scenes, args.seed)} questions about {args.scenes} scenes in {args.out}")


if __name__ == "__main__":
    main()
