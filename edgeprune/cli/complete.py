"""What a shell may complete: names of boards, methods, families and shapes. Nothing heavy is imported for it."""

from __future__ import annotations


def device_names_like(incomplete: str) -> list[str]:
    from edgeprune_profiles.boards.device_file import device_names

    return _like(device_names(), incomplete)


def method_names_like(incomplete: str) -> list[str]:
    from edgeprune.tokens.methods import METHODS

    return _like(tuple(METHODS), incomplete)


def inside_names_like(incomplete: str) -> list[str]:
    from edgeprune.tokens.inside import INSIDE

    return _like(tuple(INSIDE), incomplete)


def family_names_like(incomplete: str) -> list[str]:
    from edgeprune.models.families import FAMILIES

    return _like(tuple(FAMILIES), incomplete)


def shape_names_like(incomplete: str) -> list[str]:
    from edgeprune.models.families.shapes import SHAPES

    return _like(tuple(SHAPES), incomplete)


def _like(names: tuple[str, ...], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
