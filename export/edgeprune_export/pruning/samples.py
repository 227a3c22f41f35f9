"""Which pictures calibrate: a folder of pictures, or a file that also says what is right."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgeprune.errors import PlanError
from edgeprune_export.commands.image_files import PICTURES, drawn, pictures_in


@dataclass(frozen=True)
class CalibrationSample:
    """A picture file, or noise of a seed; question and answer (vision-language models) or class number (classifiers) where known."""

    picture: Path | None
    question: str | None = None
    answer: str | None = None
    label: int | None = None
    seed: int = 0


def noise(size: int, seed: int) -> Image.Image:
    """Gaussian noise as a picture of size x size pixels."""
    grain = np.random.default_rng(seed).normal(128, 64, (size, size, 3))
    return Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))


def noise_samples(count: int, seed: int) -> tuple[CalibrationSample, ...]:
    """For importances that need inputs but no pictures."""
    return tuple(CalibrationSample(None, seed=seed * 100_003 + i) for i in range(count))


def samples_from(path: Path, count: int | None, seed: int) -> tuple[CalibrationSample, ...]:
    """Samples of a folder of pictures, a .jsonl of questions or a .csv with the columns file and label; `count` drawn with `seed`.

    Raises PlanError where there is nothing to calibrate on.
    """
    if path.suffix == ".jsonl":
        found = _questions(path)
    elif path.suffix == ".csv":
        found = _labelled(path)
    elif path.is_dir():
        found = [CalibrationSample(file) for file in pictures_in(path)]
    else:
        raise PlanError(
            f"{path} is neither a folder of pictures nor a .jsonl or .csv file; give one of them with --images"
        )
    if not found:
        raise PlanError(f"{path} holds no pictures ({', '.join(PICTURES)}); give a folder or file that does")
    return tuple(drawn(found, count, seed))


def _questions(path: Path) -> list[CalibrationSample]:
    from edgeprune.evaluate.dataset import load_questions

    return [CalibrationSample(q.image, q.question, q.answers[0]) for q in load_questions(path)]


def _labelled(path: Path) -> list[CalibrationSample]:
    root = path.parent.resolve()
    found = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                picture = (root / (row.get("file") or "")).resolve()
                label = row.get("label") or ""
                if not (label.isascii() and label.isdigit()) or not row.get("file"):
                    raise PlanError(f"{path}, line {number}: expected the columns file and label (a class number)")
                if not picture.is_relative_to(root) or not picture.is_file():
                    raise PlanError(f"{path}, line {number}: no picture {row['file']!r} in {root}; use a relative path")
                found.append(CalibrationSample(picture, label=int(label)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlanError(
            f"{path} cannot be read ({error}); expected a CSV file with the columns file and label"
        ) from error
    return found
