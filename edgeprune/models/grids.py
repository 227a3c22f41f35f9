"""Which grids a bundle takes pictures on, where the model itself takes any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgeprune.errors import PlanError
from edgeprune.models.config.section import Section
from edgeprune.models.spec import ConnectorSpec, TowerSpec
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Grids, sizes_for

GridSizes = Sequence[tuple[int, int]]
#: Boxes and points of smaller pictures are known to come out wrong.
GROUNDING_TOKENS = 1024


def step_px(tower: TowerSpec, connector: ConnectorSpec) -> int:
    """What both sides of a grid are multiples of: a visual token, and where the tower has windows a whole window."""
    return tower.patch_px * math.lcm(connector.merge, tower.window or 1)


def having(picture: PictureSpec, sizes: GridSizes) -> PictureSpec:
    """The same on these grids; its tile is the square that holds them all."""
    assert isinstance(picture.tiling, Grids)
    unit, px = picture.tile.unit_px, max(max(size) for size in sizes)
    tile = msgspec.structs.replace(picture.tile, px=px, patches=px // unit * picture.tile.merge)
    return msgspec.structs.replace(picture, tile=tile, tiling=picture.tiling.having(sizes))


def chosen(
    picture: PictureSpec, tower: TowerSpec, connector: ConnectorSpec, sizes: GridSizes | None, tokens: int | None
) -> PictureSpec:
    """The same on grids of `sizes` (height, width in pixels), or of about `tokens` visual tokens; as it is where neither is given.

    Raises PlanError for a model whose tiles have one size, and for sides that are no multiple of what the tower needs.
    """
    if sizes is None and tokens is None:
        return picture
    if not isinstance(picture.tiling, Grids):
        raise PlanError(
            f"grids are for models that take pictures of any size; this one's tiles have {picture.tile.px} pixels a side: "
            "leave out --grid and --tokens, or limit its tiles with --tiles"
        )
    step = step_px(tower, connector)
    if tokens is not None:
        least = (step // picture.tile.unit_px) ** 2
        if tokens < least:
            raise PlanError(
                f"{tokens} visual tokens are less than the smallest grid, {step}x{step} pixels, has: {least}"
            )
        sizes = sizes_for(tokens, picture.tile.unit_px, step)
    assert sizes is not None
    for height, width in sizes:
        if height < step or width < step or height % step or width % step:
            near = tuple(max(round(side / step), 1) * step for side in (height, width))
            raise PlanError(
                f"grid {height}x{width} does not fit this model: both sides are multiples of {step} pixels; "
                f"the nearest is {near[0]}x{near[1]}"
            )
    return having(picture, sizes)


def remarks(picture: PictureSpec, processor: Section | None, *, asked: bool) -> tuple[str, ...]:
    """What a user should know about the grids of an export. asked: whether they were chosen by the user."""
    if not isinstance(picture.tiling, Grids):
        return ()
    found = []
    grids = ", ".join(f"{height}x{width}" for height, width in picture.tiling.sizes)
    if not asked:
        most = _most_tokens(picture, processor)
        usual = f"; the checkpoint's processor would give up to {most}" if most else ""
        found.append(
            f"pictures go on grids of up to {picture.candidates_max} visual tokens ({grids}){usual}: choose with --tokens N or --grid HxW"
        )
    if picture.coordinates and picture.candidates_max < GROUNDING_TOKENS:
        found.append(
            f"boxes and points want {GROUNDING_TOKENS} visual tokens or more, and these grids have {picture.candidates_max}: "
            f"give --tokens {GROUNDING_TOKENS} where answers are to name places"
        )
    return tuple(found)


def _most_tokens(picture: PictureSpec, processor: Section | None) -> int | None:
    """Visual tokens of a picture as large as the checkpoint's processor takes it."""
    values = {} if processor is None else processor.values
    size = values.get("size")
    pixels = values.get("max_pixels") or (size.get("longest_edge") if isinstance(size, dict) else None)
    return pixels // picture.tile.unit_px**2 if type(pixels) is int else None
