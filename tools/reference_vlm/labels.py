"""What each view of a scene shows: targets for the class token and for every patch token (training only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from drawing import COLOUR_NAMES, SHAPES, TILE, WORDS, Scene, Text
from PIL import Image

SIDE = 8  # patches along one side of a view
PATCH = TILE // SIDE
CHARS = "0123456789abcdefghijklmnopqrstuvwxyz"
OBJECTS = len(SHAPES) * len(COLOUR_NAMES)
CLASS_LABELS = OBJECTS + 2 + 10 + len(WORDS)  # shape x colour, has number, has word, digits, words
IGNORE = -100
READABLE = 12  # a text at least this high (px, in the view) can be read
# per patch: (name, classes); every one is a cross-entropy with IGNORE
PATCH_TARGETS = (
    ("object", OBJECTS + 1), ("centre", 2), ("text", 3), ("char_left", len(CHARS) + 1), ("char_right", len(CHARS) + 1),
    ("word", len(WORDS)), ("digit_1", 11), ("digit_2", 11), ("digit_3", 11), ("row", SIDE), ("column", SIDE),
    ("thumbnail", 2),
)  # fmt: skip
TARGET_INDEX = {name: i for i, (name, _) in enumerate(PATCH_TARGETS)}


@dataclass
class Views:
    """The views of one scene in LLaVA-NeXT order (thumbnail, then tiles row by row) and their targets."""

    pixels: np.ndarray  # (views, 112, 112, 3) uint8
    class_labels: np.ndarray  # (views, CLASS_LABELS) int8, -1 where the question is not asked
    patches: np.ndarray  # (views, 64, targets) int16


def view_pixels(scene: Scene, filter: Image.Resampling) -> np.ndarray:
    """The thumbnail and the tiles; with BICUBIC as the LLaVA-NeXT image processor cuts them (no size needs padding)."""
    thumbnail = np.asarray(scene.image.resize((TILE, TILE), filter))
    image = np.asarray(scene.image)
    tiles = [
        image[y : y + TILE, x : x + TILE] for y in range(0, scene.height, TILE) for x in range(0, scene.width, TILE)
    ]
    return np.stack([thumbnail, *tiles])


def cover(scene: Scene, box: tuple[int, int, int, int]) -> np.ndarray:
    """(shapes, 8, 8): the share of each patch of the view `box` (x, y, width, height) that each shape covers."""
    x, y, w, h = box
    ids = scene.ids[y : y + h, x : x + w].reshape(SIDE, h // SIDE, SIDE, w // SIDE)
    if not scene.shapes:
        return np.zeros((0, SIDE, SIDE))
    return np.stack([(ids == i + 1).mean((1, 3)) for i in range(len(scene.shapes))])


def label_view(scene: Scene, box: tuple[int, int, int, int], thumbnail: bool) -> tuple[np.ndarray, np.ndarray]:
    """Class-token labels and patch targets of one view."""
    x, y, w, h = box
    sx, sy = TILE / w, TILE / h
    marks = np.zeros(CLASS_LABELS, np.int8)
    grid = np.zeros((SIDE, SIDE, len(PATCH_TARGETS)), np.int16)
    column = TARGET_INDEX
    grid[..., column["row"]] = np.arange(SIDE)[:, None]
    grid[..., column["column"]] = np.arange(SIDE)[None]
    grid[..., column["thumbnail"]] = int(thumbnail)
    for name in ("word", "digit_1", "digit_2", "digit_3"):
        grid[..., column[name]] = IGNORE
    covered = cover(scene, box)
    if len(covered):
        best = covered.argmax(0)
        classes = np.array([1 + s.kind * len(COLOUR_NAMES) + s.colour for s in scene.shapes])
        grid[..., column["object"]] = np.where(covered.max(0) > 0.15, classes[best], 0)
    for i, shape in enumerate(scene.shapes):
        area = w * h / SIDE**2 * covered[i].sum()
        if area > 0.3 * (scene.ids == i + 1).sum():
            marks[classes[i] - 1] = 1
        if x <= shape.cx < x + w and y <= shape.cy < y + h:
            grid[int((shape.cy - y) * sy / PATCH), int((shape.cx - x) * sx / PATCH), column["centre"]] = 1
    for text in scene.texts:
        label_text(text, (x, y, w, h), grid, marks)
    if thumbnail and any(t.size * min(sx, sy) < READABLE for t in scene.texts):
        marks[OBJECTS + 2 :] = -1
    return marks, grid.reshape(SIDE * SIDE, -1)


def label_text(text: Text, box: tuple[int, int, int, int], grid: np.ndarray, marks: np.ndarray) -> None:
    """Add one text to the targets of the view `box`, if it lies in it (texts never cross a tile's border)."""
    x, y, w, h = box
    sx, sy = TILE / w, TILE / h
    x0, y0, x1, y1 = text.box
    if x0 < x - 1 or y0 < y - 1 or x1 > x + w + 1 or y1 > y + h + 1:
        return
    left, right, top, bottom = (x0 - x) * sx, (x1 - x) * sx, (y0 - y) * sy, (y1 - y) * sy
    edges = (np.array(text.edges) - x) * sx
    readable = text.size * min(sx, sy) >= READABLE
    column = TARGET_INDEX
    need = 0.4 * min(PATCH, bottom - top)
    for row in range(max(0, int(top // PATCH)), min(SIDE, int(bottom // PATCH) + 1)):
        if min(bottom, (row + 1) * PATCH) - max(top, row * PATCH) < need:
            continue
        for col in range(max(0, int(left // PATCH)), min(SIDE, int(right // PATCH) + 1)):
            if min(right, (col + 1) * PATCH) - max(left, col * PATCH) < 2.5:
                continue
            cell = grid[row, col]
            cell[column["text"]] = 1 if text.is_number else 2
            for name, offset in (("char_left", 0.25), ("char_right", 0.75)):
                index = int(np.searchsorted(edges, (col + offset) * PATCH, side="right")) - 1
                if 0 <= index < len(text.text):
                    cell[column[name]] = 1 + CHARS.index(text.text[index]) if readable else IGNORE
            if not readable:
                continue
            if text.is_number:
                for i in range(3):
                    cell[column[f"digit_{i + 1}"]] = int(text.text[i]) if i < len(text.text) else 10
            else:
                cell[column["word"]] = WORDS.index(text.text)
    marks[OBJECTS + (0 if text.is_number else 1)] = 1
    if text.is_number:
        for digit in text.text:
            marks[OBJECTS + 2 + int(digit)] = 1
    else:
        marks[OBJECTS + 12 + WORDS.index(text.text)] = 1


def label(scene: Scene, filter: Image.Resampling = Image.Resampling.BICUBIC) -> Views:
    """Pixels and targets of all views of a scene."""
    boxes = [(0, 0, scene.width, scene.height)]
    boxes += [(x, y, TILE, TILE) for y in range(0, scene.height, TILE) for x in range(0, scene.width, TILE)]
    both = [label_view(scene, box, i == 0) for i, box in enumerate(boxes)]
    return Views(view_pixels(scene, filter), np.stack([b[0] for b in both]), np.stack([b[1] for b in both]))
