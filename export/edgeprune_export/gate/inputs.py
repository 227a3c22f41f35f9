"""What transformers makes of a picture and a prompt: its own image processor and its own tokenizer.

Most families' processor classes need torchvision for their videos, and would decide again what a placeholder becomes. So the two are called
by themselves, and the text has one placeholder for every row of the packed picture: where that is wrong, the model's own count of
features differs and it says so.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from edgeprune.models.checkpoint import Checkpoint
from edgeprune_export.gate.library import library_errors
from edgeprune_export.gate.patch_rows import tile_of_rows
from edgeprune_runtime.pictures.packed import PackedPicture
from edgeprune_runtime.pictures.spec import PictureSpec


class LibraryInputs:
    """transformers' image processor and tokenizer of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoImageProcessor, AutoTokenizer

        self._family, self._spec = checkpoint.family, checkpoint.spec
        # The processor of Pillow and NumPy, whose resize the runtime repeats to the last bit.
        with library_errors("an image processor", checkpoint.path):
            self._processor: Any = AutoImageProcessor.from_pretrained(checkpoint.path, backend="pil")
        with library_errors("a tokenizer", checkpoint.path):
            self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.path)

    def visual(self, image: Image.Image, spec: PictureSpec, picture: PackedPicture) -> dict[str, torch.Tensor] | None:
        """Everything visual that the model's forward pass may take; None where the library cannot make these tiles."""
        settings = self._family.reference(spec, picture.place)
        if settings is None:
            return None
        if self._family.rows:  # of any size there: the size is this bundle's
            place = picture.place
            image = image.resize((place.width, place.height), Image.Resampling(spec.tile.resample))
        return dict(self._processor(image, return_tensors="pt", **settings))

    def pixels(self, visual: dict[str, torch.Tensor], picture: PackedPicture) -> np.ndarray:
        """The library's tiles [T, 3, P, P] in the runtime's order: the overview first."""
        values = np.asarray(visual["pixel_values"])
        if self._family.rows:
            spec = replace(self._spec.vision, view=picture.place.view)
            return np.asarray(tile_of_rows(torch.as_tensor(values), spec, self._spec.connector.merge))[None]
        tiles = values.reshape(-1, *values.shape[-3:])[: picture.tiles]
        ordered = np.empty_like(tiles)
        ordered[list(picture.tile_order)] = tiles
        return ordered

    def ids(self, text: str) -> torch.Tensor:
        """[1, S] of a text with a placeholder for every row."""
        bos = self.tokenizer.bos_token
        spelled = bos is not None and text.startswith(bos)  # the rule of transformers' apply_chat_template
        return torch.as_tensor(self.tokenizer(text, add_special_tokens=not spelled).input_ids)[None]


def accepted(model: Any, visual: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What of it the model's forward pass takes; processors also tell what only they need."""
    return {name: value for name, value in visual.items() if name in inspect.signature(model.forward).parameters}
