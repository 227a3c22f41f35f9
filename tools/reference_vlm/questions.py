"""Questions about a scene, their answers, and the vocabulary both are written in."""

from __future__ import annotations

import numpy as np
from drawing import COLOUR_NAMES, PLURALS, SHAPES, WORDS, Scene

KINDS = ("number", "word", "colour", "shape", "count", "position", "exists")
TEMPLATES = {
    "number": ("what number is written?", "which number is in the picture?"),
    "word": ("what word is written?", "which word is in the picture?"),
    "colour": ("what colour is the {shape}?", "which colour does the {shape} have?"),
    "shape": ("what shape is {colour}?", "which shape is the {colour} one?"),
    "count": ("how many {plural} are there?", "count the {plural}."),
    "side": ("is the {shape} on the left or the right?", "is the {shape} left or right?"),
    "height": ("is the {shape} at the top or the bottom?", "is the {shape} top or bottom?"),
    "exists": ("is there a {colour} {shape}?", "does the picture show a {colour} {shape}?"),
}
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>", "<image>", "<|user|>", "<|assistant|>")
QA = tuple[str, str, str]


def vocabulary(first: tuple[str, ...] = SPECIALS) -> list[str]:
    """All tokens, `first` before the words; digits and punctuation are tokens of their own."""
    words: set[str] = {"yes", "no", "left", "right", "top", "bottom"}
    for templates in TEMPLATES.values():
        for template in templates:
            words.update(w.strip("?.") for w in template.split() if not w.startswith("{"))
    words.update(SHAPES, PLURALS, COLOUR_NAMES, WORDS)
    return [*first, *"0123456789", "?", ".", ",", *sorted(words)]


def ask(scene: Scene, seed: int, drill: bool = False) -> list[QA]:
    """All (kind, question, answer) asked about this scene: about ten, a pure function of scene and seed.

    `drill` (training only) adds every position question there is, because they are learned last.
    """
    rng = np.random.default_rng((seed, 1))
    out: list[QA] = []

    def add(kind: str, template: str, answer: str, **names: str) -> None:
        text = TEMPLATES[template][rng.integers(2)].format(**names)
        out.append((kind, text, answer))

    for text in scene.texts[:2]:
        kind = "number" if text.is_number else "word"
        add(kind, kind, text.text)
    kinds = [s.kind for s in scene.shapes]
    colours = [s.colour for s in scene.shapes]
    unique = [s for s in scene.shapes if kinds.count(s.kind) == 1]
    rng.shuffle(unique)
    for shape in unique[:2]:
        add("colour", "colour", COLOUR_NAMES[shape.colour], shape=SHAPES[shape.kind])
    single = [s for s in scene.shapes if colours.count(s.colour) == 1]
    rng.shuffle(single)
    for shape in single[:2]:
        add("shape", "shape", SHAPES[shape.kind], colour=COLOUR_NAMES[shape.colour])
    rng.shuffle(unique)
    for shape in unique[:2]:  # not asked when the centre is close to the middle line
        dx, dy = shape.cx / scene.width - 0.5, shape.cy / scene.height - 0.5
        if abs(dx) > 0.07 and (rng.random() < 0.5 or abs(dy) <= 0.07):
            add("position", "side", "left" if dx < 0 else "right", shape=SHAPES[shape.kind])
        elif abs(dy) > 0.07:
            add("position", "height", "top" if dy < 0 else "bottom", shape=SHAPES[shape.kind])
    for shape in unique if drill else ():
        dx, dy = shape.cx / scene.width - 0.5, shape.cy / scene.height - 0.5
        if abs(dx) > 0.07:
            add("position", "side", "left" if dx < 0 else "right", shape=SHAPES[shape.kind])
        if abs(dy) > 0.07:
            add("position", "height", "top" if dy < 0 else "bottom", shape=SHAPES[shape.kind])
    asked = set()
    if kinds:  # the most frequent kind, and another one
        other = kinds[rng.integers(len(kinds))] if rng.random() < 0.4 else int(rng.integers(len(SHAPES)))
        asked = {max(set(kinds), key=lambda k: (kinds.count(k), k)), other}
    for kind_id in sorted(asked):
        add("count", "count", str(kinds.count(kind_id)), plural=PLURALS[kind_id])
    present = {(s.kind, s.colour) for s in scene.shapes}
    for _ in range(2):
        if present and rng.random() < 0.5:
            kind_id, colour = sorted(present)[rng.integers(len(present))]
        else:  # half of the "no" questions name a shape and a colour that are there, but not together
            near = [(k, c) for k in sorted(set(kinds)) for c in sorted(set(colours)) if (k, c) not in present]
            far = [(k, c) for k in range(len(SHAPES)) for c in range(len(COLOUR_NAMES)) if (k, c) not in present]
            pool = near if near and rng.random() < 0.5 else far
            kind_id, colour = pool[rng.integers(len(pool))]
        answer = "yes" if (kind_id, colour) in present else "no"
        add("exists", "exists", answer, colour=COLOUR_NAMES[colour], shape=SHAPES[kind_id])
    return out
