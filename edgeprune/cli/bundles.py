"""edgeprune inspect and verify: what a bundle holds, and whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgeprune.cli.console import Json, emit, errors_as_one_line, out, say, track
from edgeprune.cli.options import BundleFolder
from edgeprune.cli.plain import labelled
from edgeprune.cli.tables import columns, show_table

if TYPE_CHECKING:
    from edgeprune_runtime.bundle import Bundle
    from edgeprune_runtime.spec import Manifest, TensorSpec


def verify(bundle: BundleFolder, json: Json = False) -> None:
    """Check size and SHA-256 of every file of BUNDLE against its manifest."""
    with errors_as_one_line():
        from edgeprune_runtime.bundle import Bundle
        from edgeprune_runtime.engines.sets import engine_folders, read_engine_set

        count = len(Bundle.open(bundle, verify=False).manifest.files)
        with track("verifying", count) as advance:
            opened = Bundle.open(bundle, progress=lambda _: advance())
        engines = {str(folder): read_engine_set(folder) for folder in engine_folders(bundle)}
        if json:
            emit({"bundle": str(bundle), "files": count, "sha256": opened.sha256, "engines": list(engines), "ok": True})
        else:
            out.print(f"{bundle}: {count} files, all intact; manifest sha256 {opened.sha256}", highlight=False)
            for folder, found in engines.items():
                out.print(f"{folder}: {len(found.files)} files, all intact", highlight=False)


def inspect(bundle: BundleFolder, json: Json = False) -> None:
    """Show graphs, shapes, bytes by part, plan, parity and provenance of BUNDLE."""
    with errors_as_one_line():
        from edgeprune.tokens.inside.text import inside_text
        from edgeprune_runtime.bundle import Bundle
        from edgeprune_runtime.checks.room import cache_bytes as all_cache_bytes
        from edgeprune_runtime.engines.sets import engine_folders, read_engine_set

        opened = Bundle.open(bundle, verify=False)
        manifest = opened.manifest
        language = manifest.language
        cache_bytes = all_cache_bytes(manifest)
        engines = {folder: read_engine_set(folder, verify=False) for folder in engine_folders(bundle)}
        pruned = _pruned_parts(opened)
        if json:
            listed = [
                {"folder": str(folder), "key": e.key, "engines": e.engines, "gate": e.gate}
                for folder, e in engines.items()
            ]
            emit(
                {
                    "bundle": str(bundle),
                    "sha256": opened.sha256,
                    "cache_bytes": cache_bytes,
                    "manifest": manifest,
                    "engines": listed,
                }
            )
            return
        out.print(
            labelled(manifest.name, "bold", f" {manifest.family}, {manifest.precision}, schema {manifest.schema}")
        )
        plan = manifest.plan
        say(
            f"plan: {plan.method}{''.join(f', {name} {value:g}' for name, value in plan.settings.items())}, "
            f"positions {plan.positions}, separators {plan.separators}, budget of the {plan.budget_of}"
        )
        for one in plan.inside:
            say(f"inside: {inside_text(one)}")
        for part, done in pruned.items():
            groups, channels = sum(len(b.heads) for b in done.blocks), sum(len(b.mlp) for b in done.blocks)
            say(
                f"structure: {part} pruned to {done.target or 'a given plan'}: {len(done.blocks)} blocks with {groups} head groups and "
                f"{channels} MLP channels"
            )
        kept = [
            [s.budget, s.method, str(s.keep), "any" if s.tokens is None else str(s.tokens), s.graph]
            for s in manifest.selections
        ]
        show_table(
            "budgets", columns(["budget", "method", "K", "of tokens", "graph"], ["budget", "method", "graph"]), kept
        )
        if language.cuts:
            _show_stages(manifest)
        graphs = [
            [
                g.name,
                _shapes(g.inputs),
                _shapes(g.outputs),
                f"{manifest.files[g.file].bytes / 1e3:.0f}",
                f"{g.weight_bytes / 1e6:.1f}",
            ]
            for g in manifest.graphs
        ]
        head = ["graph", "inputs", "outputs", "graph KB", "weights MB"]
        show_table("graphs (all shapes are static)", columns(head, head[:3]), graphs)
        weights = manifest.files[manifest.weights_file].bytes
        graph_bytes = sum(manifest.files[g.file].bytes for g in manifest.graphs)
        total = sum(entry.bytes for entry in manifest.files.values())
        parts = [
            ["weights, shared by all graphs and budgets", f"{weights / 1e6:.1f}"],
            ["graphs", f"{graph_bytes / 1e6:.2f}"],
            ["tokenizer, template, configuration", f"{(total - weights - graph_bytes) / 1e6:.2f}"],
            [f"KV cache, allocated at run time ({language.capacity} positions)", f"{cache_bytes / 1e6:.1f}"],
        ]
        show_table("bytes", columns(["part", "MB"], ["part"]), parts)
        parity = manifest.parity
        if parity.skipped:
            say(f"parity: not checked ({parity.skipped})")
        else:
            say(
                f"parity: {len(parity.checks)} checks on {parity.pictures} pictures against {parity.reference}, all passed"
            )
        for folder, found in engines.items():
            key, size = found.key, sum(entry.bytes for entry in found.files.values()) / 1e6
            where = ", ".join(filter(None, (key.gpu, key.driver and f"driver {key.driver}", key.power_mode)))
            gate = (
                f"{len(found.gate.checks)} checks passed"
                if found.gate.skipped is None
                else f"not gated ({found.gate.skipped})"
            )
            say(
                f"engines {folder.name}: {key.runtime} {key.version}, {', '.join(key.capabilities)}{f' ({where})' if where else ''}, "
                f"{key.dialect} dialect, {key.precision}, {len(found.engines)} engines, {size:.1f} MB; {gate}"
            )
        made = manifest.provenance
        say(f"made {made.created} by: {made.command}")
        say(
            f"versions: {', '.join(f'{name} {number}' for name, number in made.versions.items())}",
        )
        say(f"source {made.source}: {len(made.source_sha256)} files hashed")


class _PrunedBlock(msgspec.Struct):
    heads: tuple[int, ...]
    mlp: tuple[int, ...]


class _PrunedPart(msgspec.Struct):
    """What is shown of a part in structure.json."""

    blocks: tuple[_PrunedBlock, ...]
    target: str | None = None


class _PrunedModel(msgspec.Struct):
    parts: dict[str, _PrunedPart]


def _pruned_parts(bundle: Bundle) -> dict[str, _PrunedPart]:
    """Of a bundle whose source was a pruned checkpoint. Raises BundleError for a structure.json of another form."""
    from edgeprune_runtime.errors import BundleError

    if "structure.json" not in bundle.manifest.files:
        return {}
    try:
        return msgspec.json.decode(bundle.text("structure.json"), type=_PrunedModel).parts
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(
            f"structure.json in bundle {bundle.root} is not a structure plan ({error}); export the bundle again"
        ) from error


def _shapes(specs: tuple[TensorSpec, ...]) -> str:
    """`name [2, 3]` for each tensor; the many cache tensors of a decoder are shown once."""
    shown = [f"{s.name} {list(s.shape)}" for s in specs if not s.name.startswith(("past_", "present_"))]
    caches = [s for s in specs if s.name.startswith(("past_", "present_"))]
    return "\n".join(shown + ([f"{len(caches)} x cache {list(caches[0].shape)}"] if caches else []))


def _show_stages(manifest: Manifest) -> None:
    """Layers of the language model over one list of rows each, what goes on into them, and what that leaves of a picture."""
    from edgeprune.tokens.inside.bars import layers_in_words
    from edgeprune_runtime.stages.counts import mean_kept, visual_by_stage

    language = manifest.language
    rows = []
    for stage in language.stages:
        heads = sum(language.kv_heads[layer] for layer in range(stage.first, stage.behind))
        keep = "all rows" if stage.keep == 1 else f"{stage.keep:g} of the visual rows"
        if stage.returns:
            keep = "all rows again"
        elif stage.recycles:
            keep += ", and means of others"
        size = 8 * heads * stage.capacity * language.head_dim
        layers = f"{stage.first} to {stage.behind - 1}"
        rows.append([layers, keep, str(stage.capacity), str(language.chunk_of(stage)), f"{size / 1e6:.1f}"])
    head = ["layers", "go on", "positions", "per run", "cache MB"]
    show_table("stages of the language model", columns(head, head[:2]), rows)
    largest = manifest.picture.candidates_max
    kept = []
    for budget in dict.fromkeys(s.budget for s in manifest.selections if s.own):
        entering = max(s.keep for s in manifest.selections if s.own and s.budget == budget)
        stages = ", ".join(str(here) for here in visual_by_stage(language, entering))
        shares = [f"{100 * part / largest:.1f} %" for part in (entering, mean_kept(language, entering))]
        kept.append([budget, str(entering), stages, *shares])
    head = ["budget", "visual rows", "in each stage", "kept at the output", "kept over layers"]
    show_table("visual rows of the largest picture", columns(head, head[:1]), kept)
    entering = max(s.keep for s in manifest.selections if s.own)
    by_stage = zip(language.stages, visual_by_stage(language, entering), strict=True)
    for line in layers_in_words([here for stage, here in by_stage for _ in range(stage.first, stage.behind)]):
        say(line)
