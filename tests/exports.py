"""Bundles of tiny made checkpoints: each is exported once and shared (tests/kept.py), so nobody may change it.

bundle = exported(tower="vit", decoder="llama")          # read only; further options: fields of Recipe
bundle = own_bundle(bundle, tmp_path)                    # a copy to damage
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.plan import budget_from_text
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.text import inside_from_texts
from edgeprune.tokens.methods import CONTROLS, METHODS
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.bundle.seal import write_manifest
from edgeprune_export.commands.export import export
from edgeprune_runtime.bundle import MANIFEST
from edgeprune_runtime.spec import Manifest, TokenPlan
from tests.checkpoints import FAMILY_VARIANTS, tiny_checkpoint
from tests.kept import kept
from tests.torchlib import read_once

read_once()

BUDGETS = ("0.2", "0.5", "40", "1.0")
#: Methods that come with the package; tests may register others later.
SHIPPED = tuple(METHODS)
#: Positions per run of the prefill graph; small, so that short prompts cross several boundaries.
CHUNK = 32

#: Exports that pass the parity gate: between them every tower, decoder, rope scaling, name form and plan option.
GATED: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (
        {"tower": "clip", "decoder": "llama", "rope": "llama3", "tied": True, "names": "old", "attention_bias": True},
        {},
    ),
    (
        {"tower": "clip", "decoder": "mistral", "rope": "default", "names": "hub", "shards": 2, "bos": "tokenizer"},
        {"settings": {"alpha": 0.25, "early_layer": 1}},
    ),
    (
        {"tower": "vit", "decoder": "llama", "rope": "linear", "names": "new", "multi_head": True},
        {"positions": "renumber", "separators": "rows"},
    ),
    (
        {"tower": "vit", "decoder": "mistral", "rope": "yarn", "names": "old", "head_dim": 24},
        {"separators": "none"},
    ),
    (
        {"tower": "dinov2", "decoder": "qwen2", "rope": "default", "names": "hub", "tied": True, "dtype": "float16"},
        {"budget_of": "picture"},
    ),
    (
        {"tower": "dinov2", "decoder": "mistral", "rope": "llama3", "names": "new", "swiglu": True, "tied": True},
        {"method": "downsample"},
    ),
    (
        {"family": "llava", "tower": "clip", "decoder": "llama", "names": "hub", "processor": "old"}
        | {"tokenizer": "bytes", "dtype": "bfloat16"},
        {},
    ),
    (
        {"family": "llava", "tower": "vit", "decoder": "qwen2", "names": "old", "bos": "none"},
        {"method": "uniform", "positions": "renumber"},
    ),
    (
        {"family": "llava", "tower": "deit", "decoder": "llama", "names": "new"},
        {},
    ),
    (
        {"family": "llava", "tower": "siglip", "decoder": "qwen2", "names": "hub", "processor": "old"},
        {"method": "divprune"},
    ),
    (
        {"tower": "siglip", "decoder": "mistral", "names": "new"},
        {"method": "hiprune"},
    ),
)


#: The same for the further families: a plan for each variant, so that every policy meets texts, merged patches and newlines.
FAMILY_PLANS: tuple[dict[str, Any], ...] = (
    {},
    {"method": "visionzip", "positions": "renumber"},
    {"method": "prumerge+", "budget_of": "picture"},
    {"method": "cdpruner", "separators": "none"},
    {"method": "divprune", "separators": "rows"},
    {"method": "hiprune", "separators": "none"},
    {"method": "mmtok", "positions": "renumber", "separators": "rows"},
    {"method": "received"},
    {"method": "downsample", "budget_of": "picture"},
    {"method": "dart", "separators": "rows"},
    {"method": "vflowopt", "positions": "renumber", "separators": "none"},
)
FAMILY_GATED = tuple(zip(FAMILY_VARIANTS, FAMILY_PLANS, strict=True))

#: Qwen-VL on two grids, of which the first fills the tile up to the second's width: what `exported` takes, beside a variant. Between
#: them windows and blocks without, every norm and MLP, tables of positions, rows behind every decoder layer, readings with one and two axes.
QWEN_GRIDS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (
        {"family": "qwen2_vl", "sections": (1, 2, 5), "kv_heads": 1, "vocab": 512},
        {"plan": {"method": "received"}, "sizes": ((64, 64), (32, 96)), "parity": False},
    ),
    (
        {"family": "qwen2_5_vl", "config": "hub", "tied": True, "vision_layers": 4, "full_blocks": (0, 2)},
        {"plan": {"method": "divprune"}, "sizes": ((64, 64), (32, 96)), "parity": False},
    ),
    (
        {"family": "qwen3_vl", "head_dim": 24, "sections": (3, 4, 5), "layers": 3, "vision_layers": 4}
        | {"deepstack": (0, 2, 3), "patches": 7, "kv_heads": 1},
        {"plan": {"method": "dart"}, "sizes": ((64, 64), (32, 96)), "parity": False},
    ),
)


def options(
    budgets: tuple[str, ...] = ("0.2", "1.0"),
    *,
    parity: bool = True,
    controls: bool = False,
    precision: Any = "fp32",
    plan: dict[str, Any] | None = None,
    inside: Sequence[str] = (),
    **more: Any,
) -> ExportOptions:
    """Options for a small bundle. `plan`: fields of TokenPlan; `inside`: as on the command line."""
    planned = msgspec.convert(plan or {}, TokenPlan)
    return ExportOptions(
        tuple(budget_from_text(text) for text in budgets),
        **({"chunk": CHUNK, "text_tokens": 64} | more | {"more_methods": tuple(more.get("more_methods", ()))}),
        plan=msgspec.structs.replace(planned, inside=planned.inside + inside_from_texts(inside)),
        parity=parity,
        controls=controls,
        precision=precision,
    )


def exported(variant: dict[str, Any] | None = None, **asked: Any) -> Path:
    """The bundle of a checkpoint. `variant`: fields of Recipe; the rest is what `options` takes."""
    return _exported(json.dumps(variant or {}, sort_keys=True), json.dumps(asked, sort_keys=True))


def _tuples(value: Any) -> Any:
    """Lists as JSON has them, as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@functools.cache
def _exported(variant: str, asked: str) -> Path:
    wanted = json.loads(asked)
    if "budgets" in wanted:
        wanted["budgets"] = tuple(wanted["budgets"])

    if "sizes" in wanted:
        wanted["sizes"] = _tuples(wanted["sizes"])
    fields = {name: _tuples(value) for name, value in json.loads(variant).items()}

    def make(out: Path) -> None:
        export(tiny_checkpoint(**fields), out, options(**wanted))

    return kept("bundle", [variant, asked], make)


def tiny() -> Path:
    """All budgets and controls of one checkpoint, without the parity gate."""
    return exported(budgets=BUDGETS, parity=False, controls=True)


def every_method() -> Path:
    """Every method and control at one budget, gated, beside the full budget."""
    first, *rest = (name for name in SHIPPED if name not in ("full", *CONTROLS))
    return exported(GATED[0][0], plan={"method": first}, more_methods=rest, controls=True)


#: Output methods whose readings have one axis of tokens, two, none; and one that looks at keys.
READERS = ("hired", "visionzip", "received", "divprune", "prumerge", "hiprune")
#: The tower that is cut: deep enough for two cuts before its feature layer.
DEEP = {"tower": "clip", "decoder": "llama", "vision_layers": 5}


def cut(name: str) -> Path:
    """A tower that a method cuts twice, or once where it can no more, before output methods of every kind; gated."""
    method: Any = INSIDE[name]
    plan = f"{name}@1:0.5" if method.once else f"{name}@1,2:0.7"
    readers = [one for one in READERS if method.finish is None or one == "divprune"]
    return exported(DEEP, budgets=["0.2"], plan={"method": readers[0]}, more_methods=readers[1:], inside=[plan])


def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def resealed(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Alter the manifest as edit_manifest does and seal it again, as an export with other contents would have."""
    edit_manifest(bundle, change)
    values = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    write_manifest(bundle, msgspec.convert(values, Manifest))
    return bundle


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Tamper with manifest.json: rewrite it after `change` has altered its object in place."""
    path = bundle / MANIFEST
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
