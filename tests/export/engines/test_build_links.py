"""Engines are written into the bundle itself: a link out of it is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune_export.engines.build import build
from edgeprune_export.engines.choices import BuildOptions
from edgeprune_export.engines.target import target_from_text
from edgeprune_runtime.errors import BundleError
from tests.exports import own_bundle


def test_a_build_does_not_write_through_a_link_out_of_the_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle, away = own_bundle(tiny_bundle, tmp_path), tmp_path / "away"
    away.mkdir()
    (bundle / "engines").symlink_to(away)
    with pytest.raises(BundleError, match="link out of the bundle"):
        build(bundle, target_from_text("onnxruntime"), BuildOptions(force=True))
    assert not list(away.iterdir())
