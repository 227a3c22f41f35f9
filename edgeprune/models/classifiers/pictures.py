"""From a picture to the pixels that a classifier looks at, by the runtime's own preprocessing of a single tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune.models.spec import ClassifierSpec
from edgeprune_runtime.pictures.load import load_image
from edgeprune_runtime.pictures.pixels import tiles_from_image


def pixels_from_image(image: Image.Image, spec: ClassifierSpec) -> NDArray[np.float32]:
    """An upright RGB version of the picture, resized, cropped and normalised: [3, P, P]. Raises ImageError."""
    pixels: NDArray[np.float32] = tiles_from_image(load_image(image), spec.picture)[0]
    return pixels
