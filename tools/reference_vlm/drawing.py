"""How a scene is drawn: shapes, texts and clutter on a textured background, and the ground truth of each.

Fonts are the DejaVu files inside the matplotlib wheel, so every machine draws the same pixels.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PLURALS = ("circles", "squares", "triangles", "stars", "crosses", "rings")
COLOURS = {
    "red": (205, 30, 35), "green": (30, 150, 50), "blue": (35, 60, 205), "yellow": (240, 220, 40),
    "purple": (125, 30, 150), "orange": (245, 130, 20), "cyan": (40, 215, 225), "pink": (250, 140, 190),
}  # fmt: skip
COLOUR_NAMES = tuple(COLOURS)
WORDS = (
    "cat", "dog", "sun", "map", "key", "hat", "bus", "jam", "owl", "pie",
    "fish", "boat", "tree", "lamp", "door", "milk", "rose", "king", "wolf", "bear",
)  # fmt: skip
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif",
    "DejaVuSerif-Bold",
)  # fmt: skip
TILE = 112
Box = tuple[float, float, float, float]


@dataclass
class Shape:
    """One coloured shape; `kind` and `colour` index SHAPES and COLOUR_NAMES."""

    kind: int
    colour: int
    cx: float
    cy: float
    radius: float


@dataclass
class Text:
    """One number or word; `edges` are the x positions between its characters."""

    text: str
    size: int
    box: Box
    edges: list[float]

    @property
    def is_number(self) -> bool:
        """Whether this text is a number and not a word."""
        return self.text.isdigit()


@dataclass
class Scene:
    """A picture with its ground truth; `ids` holds 1 + the index of the shape that covers each pixel, 0 for none."""

    image: Image.Image
    ids: np.ndarray
    shapes: list[Shape] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    @property
    def height(self) -> int:
        """Picture height in pixels."""
        return self.image.height

    @property
    def width(self) -> int:
        """Picture width in pixels."""
        return self.image.width


@functools.lru_cache(maxsize=512)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One DejaVu face from the matplotlib wheel."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Low-saturation noise of several octaves around one base tone."""
    base = rng.uniform(70, 185) + rng.uniform(-22, 22, 3)
    out = np.broadcast_to(base, (height, width, 3)).astype(np.float32)
    for cells, amplitude in ((3, 30.0), (9, 18.0), (28, 13.0), (75, 9.0)):
        grey = rng.uniform(-1, 1, (cells, cells, 1)) + 0.35 * rng.uniform(-1, 1, (cells, cells, 3))
        small = Image.fromarray((grey * 80 + 128).clip(0, 255).astype(np.uint8))
        big = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        out = out + (big - 128) * (amplitude * rng.uniform(0.3, 1.0) / 80)
    return out.clip(0, 255).astype(np.uint8)


def outline(kind: int, cx: float, cy: float, r: float, angle: float) -> list[tuple[float, float]]:
    """Corner points of the polygon shapes (square, triangle, star, cross), turned by `angle`."""
    if SHAPES[kind] == "square":
        points = [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    elif SHAPES[kind] == "triangle":
        points = [(0.0, -1.0), (0.95, 0.8), (-0.95, 0.8)]
    elif SHAPES[kind] == "star":
        turn = [(math.pi * i / 5 - math.pi / 2, 1.05 if i % 2 == 0 else 0.45) for i in range(10)]
        points = [(math.cos(a) * s, math.sin(a) * s) for a, s in turn]
    else:
        a = 0.33
        points = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a),
                  (-a, -a)]  # fmt: skip
    c, s = math.cos(angle), math.sin(angle)
    return [(cx + r * (x * c - y * s), cy + r * (x * s + y * c)) for x, y in points]


class Canvas:
    """Draws onto one scene and keeps the boxes that are taken, so that nothing overlaps."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        image = Image.fromarray(background(rng, height, width))
        self.scene = Scene(image, np.zeros((height, width), np.uint8))
        self.ids = Image.new("L", (width, height))
        self.draw, self.draw_ids = ImageDraw.Draw(image), ImageDraw.Draw(self.ids)
        self.region: Box = (0, 0, width, height)
        self.taken: list[Box] = []

    def place(self, width: float, height: float, in_tile: bool = False) -> Box | None:
        """A free box of this size inside the region (and inside one tile if asked), or None after 40 tries."""
        x0, y0, x1, y1 = self.region
        for _ in range(40):
            x = x0 + 2 + self.rng.random() * (x1 - x0 - width - 4)
            y = y0 + 2 + self.rng.random() * (y1 - y0 - height - 4)
            box = (x, y, x + width, y + height)
            if in_tile and (x // TILE != (box[2] + 1) // TILE or y // TILE != (box[3] + 1) // TILE):
                continue
            if all(box[0] > t[2] or box[2] < t[0] or box[1] > t[3] or box[3] < t[1] for t in self.taken):
                self.taken.append((x - 3, y - 3, box[2] + 3, box[3] + 3))
                return box
        return None

    def add_shape(self, kind: int, colour: int) -> None:
        """Draw one shape at a free place, if there is one."""
        r = self.rng.uniform(10, 24) if min(self.scene.height, self.scene.width) > TILE else self.rng.uniform(10, 20)
        box = self.place(2 * r, 2 * r)
        if box is None:
            return
        cx, cy = box[0] + r, box[1] + r
        rgb = np.array(COLOURS[COLOUR_NAMES[colour]]) * self.rng.uniform(0.88, 1.06) + self.rng.uniform(-10, 10, 3)
        fill = tuple(int(v) for v in rgb.clip(0, 255))
        shape_id = len(self.scene.shapes) + 1
        if SHAPES[kind] in ("circle", "ring"):
            extent = (cx - r, cy - r, cx + r, cy + r)
            width = max(3, round(r * 0.36))
            if SHAPES[kind] == "circle":
                self.draw.ellipse(extent, fill=fill)
            else:
                self.draw.ellipse(extent, outline=fill, width=width)
            self.draw_ids.ellipse(extent, fill=shape_id)
        else:
            points = outline(kind, cx, cy, r, self.rng.uniform(-0.22, 0.22))
            self.draw.polygon(points, fill=fill)
            self.draw_ids.polygon(points, fill=shape_id)
        self.scene.shapes.append(Shape(kind, colour, cx, cy, r))

    def add_text(self, text: str, size: int, clutter: bool = False) -> None:
        """Draw one text at a free place inside one tile, black or white, whichever stands out."""
        font = load_font(FONTS[self.rng.integers(len(FONTS))], size)
        left, top, right, bottom = font.getbbox(text)
        box = self.place(right - left, bottom - top, in_tile=True)
        if box is None:
            return
        x, y = round(box[0]), round(box[1])
        box = (x, y, x + right - left, y + bottom - top)
        local = np.asarray(self.scene.image.crop(box).convert("L")).mean()
        level = int(self.rng.uniform(0, 40)) if local > 127 else int(self.rng.uniform(215, 255))
        self.draw.text((x - left, y - top), text, font=font, fill=(level, level, level))
        if not clutter:
            edges = [x - left + font.getlength(text[:i]) for i in range(len(text) + 1)]
            self.scene.texts.append(Text(text, size, box, edges))

    def add_clutter(self) -> None:
        """Draw something that no question asks about: strokes, dots, a grid patch or a string of symbols."""
        rng, kind = self.rng, self.rng.integers(4)
        if kind == 3:
            self.add_text("".join(rng.choice(list("%&#~*+=<>"), rng.integers(2, 5))), int(rng.integers(13, 20)), True)
            return
        w, h = rng.uniform(14, 44, 2)
        box = self.place(w, h)
        if box is None:
            return
        grey = rng.uniform(30, 220)
        fill = tuple(int(v) for v in (grey + rng.uniform(-14, 14, 3)).clip(0, 255))
        if kind == 0:
            for _ in range(rng.integers(1, 5)):
                ends = rng.random(4) * (w, h, w, h) + (box[0], box[1], box[0], box[1])
                self.draw.line([float(v) for v in ends], fill=fill, width=int(rng.integers(1, 4)))
        elif kind == 1:
            for x, y in rng.random((rng.integers(4, 14), 2)) * (w, h) + (box[0], box[1]):
                self.draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=fill)
        else:
            step = int(rng.integers(4, 9))
            for x in range(int(box[0]), int(box[2]), step):
                self.draw.line((x, box[1], x, box[3]), fill=fill)
            for y in range(int(box[1]), int(box[3]), step):
                self.draw.line((box[0], y, box[2], y), fill=fill)

    def finish(self) -> Scene:
        """The finished scene with its id map."""
        self.scene.ids = np.asarray(self.ids)
        return self.scene
