"""What a command needs beyond the base install, said before any work."""

from __future__ import annotations


def need_export(*packages: str) -> None:
    """Raise MissingExtra for packages of the `export` extra that are not installed."""
    from edgeprune_runtime.errors import MissingExtra
    from edgeprune_runtime.installed import how_to_install

    if missing := _missing(packages):
        raise MissingExtra(
            f"export needs {', '.join(missing)}, not installed here; install with {how_to_install(*missing)}"
        )


def need_engines() -> None:
    """Raise MissingExtra where graphs cannot be lowered here."""
    from edgeprune_runtime.errors import MissingExtra
    from edgeprune_runtime.installed import how_to_install

    if missing := _missing(("onnx", "onnx_ir")):
        raise MissingExtra(
            f"building engines needs {' and '.join(missing)}, not installed here; install with {how_to_install(*missing)}; on a Jetson "
            "with the requirement file of its JetPack, see docs/jetson.md"
        )


def _missing(packages: tuple[str, ...]) -> list[str]:
    from importlib.util import find_spec

    return [name for name in packages if find_spec(name) is None]
