"""What a shell may complete: names of boards, methods, families and shapes. Nothing heavy is imported for it."""

from __future__ import annotations

#: Methods that are built in; importing them takes torch and seconds, which nobody waits for after a tab.
METHOD_NAMES = (
    "cdpruner",
    "damro",
    "dart",
    "divprune",
    "downsample",
    "fastervlm",
    "flowcut",
    "fopru",
    "fopru-row",
    "full",
    "hiprune",
    "hired",
    "mmtok",
    "prumerge",
    "prumerge+",
    "random",
    "received",
    "recoverable",
    "todre",
    "todre-kcenter",
    "uniform",
    "vflowopt",
    "visionzip",
    "vispruner",
    "vtc-cls",
)


def device_names_like(incomplete: str) -> list[str]:
    from edgeprune_profiles.boards.device_file import device_names

    return _like(device_names(), incomplete)


def method_names_like(incomplete: str) -> list[str]:
    return _like(METHOD_NAMES, incomplete)


def family_names_like(incomplete: str) -> list[str]:
    from edgeprune.models.families import FAMILIES

    return _like(tuple(FAMILIES), incomplete)


def shape_names_like(incomplete: str) -> list[str]:
    from edgeprune.models.families.shapes import SHAPES

    return _like(tuple(SHAPES), incomplete)


def _like(names: tuple[str, ...], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
