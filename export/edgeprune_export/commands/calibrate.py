"""Freeze the numbers that a method's source draws from each picture: measured over many pictures, settled into plan settings.

The checkpoint's own tower (transformers, float32) sees every picture; what was measured is kept line by line, so that a run that was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgeprune.errors import PlanError
from edgeprune.later import torch
from edgeprune.models import Checkpoint, open_checkpoint
from edgeprune.models.grids import GridSizes
from edgeprune.plan import MethodPlan
from edgeprune.settings_file import SCHEMA, CalibratedSettings, write_settings
from edgeprune.tokens.methods import METHODS, Method
from edgeprune.tokens.readings import outputs_from
from edgeprune.tokens.registry.fit import method_plan, require_fit
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.commands.image_files import PICTURES, drawn, pictures_in
from edgeprune_runtime.claims import claimed
from edgeprune_runtime.files import Journal
from edgeprune_runtime.pictures.entropy import unit_entropy
from edgeprune_runtime.pictures.load import load_image
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.spec import TokenPlan

if TYPE_CHECKING:
    from edgeprune_export.gate.eager import EagerReference

MethodStatistics = Mapping[str, float]


@dataclass(frozen=True)
class Calibrating:
    """What to calibrate on: `count` pictures of the folder, drawn with `seed`; sizes, tokens: as for `open_checkpoint`."""

    folder: Path
    count: int = 32
    seed: int = 0
    sizes: GridSizes | None = None
    tokens: int | None = None
    command: str = "edgeprune_export.commands.calibrate"


class _Line(msgspec.Struct, frozen=True):
    picture: str
    statistics: dict[str, float]


def calibrate(
    source: str | Path, asked: TokenPlan, how: Calibrating, out: Path, *, track: Track = silent
) -> CalibratedSettings:
    """Measure, settle and write `out`. Raises PlanError when there is nothing to calibrate or nothing to calibrate on."""
    some = ", ".join(name for name in METHODS if METHODS[name].calibration is not None)
    if asked.method is None:
        raise PlanError(f"no method is named, and the defaults have nothing to calibrate; methods that have: {some}")
    method = METHODS[asked.method]
    if method.calibration is None:
        raise PlanError(f"method {method.name} has nothing to calibrate; methods that have: {some}")
    with track("reading the checkpoint", 0):
        checkpoint = open_checkpoint(source, sizes=how.sizes, tokens=how.tokens)
    model = checkpoint.spec
    plan = method_plan(asked, model)
    require_fit([method.name], plan, model, checkpoint.weights.shapes, METHODS)
    pictures = _drawn(how)
    sizes = {path.name: path.stat().st_size for path in sorted(checkpoint.path.glob("*.safetensors"))}
    about = {"method": method.name, "settings": dict(plan.settings), "seed": how.seed, "source": sizes}
    if model.picture.views:
        about["grids"] = [list(view) for view in model.picture.views]
    with track("loading torch and transformers", 0):
        from edgeprune_export.gate.eager import EagerReference
    log = out.with_name(f"{out.name}.measured.jsonl")
    with (
        claimed(out),
        Journal(log, about, _Line, anew=True) as journal,
        track(f"calibrating {method.name}", len(pictures)) as advance,
    ):
        known: dict[str, MethodStatistics] = {line.picture: line.statistics for line in journal.lines}
        reference = None
        for path in pictures:
            if path.name not in known:
                reference = reference or EagerReference(checkpoint, (method.calibration.reads or method.reads)(plan))
                known[path.name] = _measured(checkpoint, reference, method, plan, path)
                journal.add(_Line(path.name, dict(known[path.name])))
            advance()
    measured = [known[path.name] for path in pictures]
    settled = {**plan.settings, **method.calibration.settle(measured, plan)}
    stored = CalibratedSettings(
        schema=SCHEMA,
        method=method.name,
        settings=settled,
        statistics=_means(measured),
        pictures=len(measured),
        seed=how.seed,
        model=Path(str(source)).name,
        command=how.command,
    )
    write_settings(out, stored)
    os.remove(log)
    return stored


def _drawn(how: Calibrating) -> list[Path]:
    if not how.folder.is_dir():
        raise PlanError(f"{how.folder} is not a folder; give one with pictures like those the model will see")
    found = pictures_in(how.folder)
    if not found:
        raise PlanError(f"{how.folder} holds no pictures ({', '.join(PICTURES)}); give a folder that does")
    return drawn(found, how.count, how.seed)


def _measured(
    checkpoint: Checkpoint, reference: EagerReference, method: Method, plan: MethodPlan, path: Path
) -> MethodStatistics:
    from edgeprune_export.graphs.select import QUESTION_ROWS, geometry_of

    assert method.calibration is not None
    spec = checkpoint.spec.picture
    image = load_image(path)
    picture = pack_picture(spec.place(image.height, image.width), spec)
    tiles = tiles_from_image(image, spec, picture.place)
    entropy = np.zeros((spec.tiles_max, spec.tile.units), np.float32)
    for t, tile in enumerate(tiles):
        entropy[t, spec.tile.units_of(picture.place.view)] = unit_entropy(tile, spec.tile)
    host = {
        "question": torch.zeros(QUESTION_ROWS, checkpoint.spec.connector.outputs),
        "question_weight": torch.zeros(QUESTION_ROWS),
        "entropy": torch.from_numpy(entropy),
    }
    named = reference.outputs(torch.from_numpy(tiles), picture, host)
    return method.calibration.measure(outputs_from(named, geometry_of(checkpoint.spec)), plan)


def _means(measured: Sequence[MethodStatistics]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in measured])) for name in measured[0]}
