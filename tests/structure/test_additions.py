"""What an addition takes, as docs/architecture.md says: each example is added as a user would add it, and used.

Registries get copies of their names while an example is in them, so nothing reaches other tests.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from edgeprune.models.checkpoint import open_checkpoint
from edgeprune.models.config.section import Section
from edgeprune.models.decoders import DECODERS, decoder_from_config
from edgeprune.models.families import FAMILIES
from edgeprune.models.families.common import part
from edgeprune.models.towers import TOWERS, tower_from_config
from edgeprune.models.weights import names
from edgeprune.plan import MethodPlan
from edgeprune.structure.importance import IMPORTANCES
from edgeprune.structure.sites import PruningSite
from edgeprune.structure.statistics import SiteStatistics
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows, going_on
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Cut, Rows
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.readings import READINGS, Geometry, outputs_from
from edgeprune_export.commands.export import export
from edgeprune_export.engines.prepare import prepare
from edgeprune_export.engines.rules.dialect import DIALECTS
from edgeprune_export.gate.eager_tower import EAGER_READINGS
from edgeprune_export.graphs.readings import GRAPH_READINGS
from edgeprune_export.onnx.walk import all_nodes
from edgeprune_profiles.boards.device_file import load_device
from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.backends import BACKENDS
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.meters import METERS, survey
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import TileSpec, TilingSpec
from edgeprune_runtime.registry import Registry
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint
from tests.exports import options

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
REGISTRIES: tuple[Registry[Any], ...] = (
    BACKENDS,
    DECODERS,
    DIALECTS,
    EAGER_READINGS,
    FAMILIES,
    GRAPH_READINGS,
    INSIDE,
    IMPORTANCES,
    METERS,
    METHODS,
    READINGS,
    TOWERS,
)
#: A row of the table: what is added, its example, and the example's lines.
ROW = re.compile(r"^\| ([\w ]+) \| \[`([\w.]+)`\]\(examples/\2\), (\d+) lines? \|", re.M)
TABLE = {
    name: (file, int(lines))
    for name, file, lines in ROW.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
}
ADDITIONS = {
    "method",
    "reading",
    "family",
    "tower kind",
    "decoder kind",
    "tiling",
    "backend",
    "meter",
    "board",
    "engine dialect",
    "importance",
    "cut in the tower",
    "ranking in the language model",
}


@contextmanager
def own_registries() -> Iterator[None]:
    """What is added inside is gone afterwards."""
    before = {id(registry): registry.names() for registry in REGISTRIES}  # plug-ins are searched for here
    with pytest.MonkeyPatch.context() as patch:
        for registry in REGISTRIES:
            patch.setattr(registry, "_known", dict(registry._known))
        forget()
        yield
    forget()
    for module in [name for name in sys.modules if name.startswith("edgeprune_file:")]:
        del sys.modules[module]
    assert {id(registry): registry.names() for registry in REGISTRIES} == before


def forget() -> None:
    """Names of tensors are read once from all families and towers."""
    names._renames.cache_clear()
    names._block_parts.cache_clear()


@pytest.fixture
def registries() -> Iterator[None]:
    with own_registries():
        yield


def example(name: str) -> ModuleType:
    """The module of docs/examples/NAME.py."""
    spec = importlib.util.spec_from_file_location(f"edgeprune_file:{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def lines_of_code(path: Path) -> int:
    """Lines that are neither empty nor a comment nor part of a text that stands by itself."""
    if path.suffix != ".py":
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return sum(not line.startswith("#") for line in kept)
    lines: set[int] = set()
    beginning = True
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            beginning = beginning or token.type == tokenize.NEWLINE
        elif token.type not in (tokenize.COMMENT, tokenize.ENDMARKER, tokenize.ENCODING):
            if not (beginning and token.type == tokenize.STRING):
                lines.update(range(token.start[0], token.end[0] + 1))
            beginning = False
    return len(lines)


# The table


def test_the_table_has_a_row_for_every_addition_and_every_row_is_shown_here() -> None:
    assert set(TABLE) == ADDITIONS
    shown = {name for name in globals() if name.startswith("test_adding_")}
    assert all(any(name.startswith(f"test_adding_{row.replace(' ', '_')}") for name in shown) for row in TABLE)


@pytest.mark.parametrize("addition", sorted(ADDITIONS))
def test_the_lines_in_the_table_are_those_of_the_example(addition: str) -> None:
    file, lines = TABLE[addition]
    assert lines_of_code(EXAMPLES / file) == lines


def test_lines_of_code_leave_out_what_is_for_people(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('"""Text\n\nmore."""\n\n# comment\nx = """\na\n"""\n\n\ndef f():\n    "Text."\n    return x  # x\n')
    assert lines_of_code(path) == 5


def test_what_was_added_is_gone_afterwards() -> None:
    with own_registries():
        METHODS.load_file(f"{EXAMPLES / 'mine.py'}:UNUSUAL")
        assert "unusual" in METHODS
    assert "unusual" not in METHODS and not any(name.startswith("edgeprune_file:") for name in sys.modules)


# What needs no export


def test_adding_method_keeps_k_tokens(registries: None) -> None:
    METHODS.choose(f"{EXAMPLES / 'mine.py'}:UNUSUAL")
    features = torch.zeros(2, 4, 3)
    features[1, 2], features[0, 3] = 5.0, 3.0
    slot = torch.arange(8).view(2, 4)
    named = {"features": features, "slot": slot, "region": torch.zeros(2, 4), "places": torch.zeros(2, 4, 2)}
    reduction = METHODS["unusual"].reduce(outputs_from(named, Geometry(2)), 2, MethodPlan(0, 0))
    assert reduction.index.tolist() == [3, 6]


def test_adding_cut_in_the_tower_leaves_k_tokens(registries: None) -> None:
    cut = INSIDE.choose(f"{EXAMPLES / 'cut.py'}:UNUSUAL")
    assert isinstance(cut, TowerMethod)
    x = torch.zeros(5, 3)
    x[0], x[2], x[4] = 9.0, 4.0, 2.0
    left = cut.step(Rows(x, torch.arange(5)), BlockRows(x, x, x, 1), Cut(2, 0, 1, (2, 2), 1, {}))
    assert left.place is not None and left.place.tolist() == [0, 2, 1], "row 0 is the class token's"


def test_adding_ranking_in_the_language_model_lets_k_rows_go_on(registries: None) -> None:
    cut = INSIDE.choose(f"{EXAMPLES / 'ranking.py'}:LARGE")
    assert isinstance(cut, LanguageCut)
    value = torch.zeros(6, 2, 3)
    value[2], value[4], value[5] = 3.0, 4.0, 9.0
    visual, present = torch.tensor([False, True, True, True, True, False]), torch.arange(6) < 5
    nobody = torch.zeros(0)
    rows = LanguageRows(visual, present, torch.tensor(2), nobody.long(), nobody, {"value": value})
    assert going_on(cut.rank(rows, {}), rows, 3).rows.tolist() == [0, 2, 4], "row 5 lies behind the prompt"


def test_adding_family_opens_checkpoints_of_its_name(registries: None, tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(), tmp_path)
    edit_json(folder / "config.json", lambda config: config.update(model_type="llava_next_video"))
    with pytest.raises(CheckpointError, match="llava_next_video"):
        open_checkpoint(folder)
    family = FAMILIES.choose(f"{EXAMPLES / 'family.py'}:VIDEO")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.family is family and checkpoint.spec.picture == open_checkpoint(tiny_checkpoint()).spec.picture


def test_adding_tiling_packs_pages(registries: None) -> None:
    column = example("tiling").Column(3)
    tile = TileSpec(px=8, patches=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), merge=2)
    spec = PictureSpec(tile, column, SequenceSpec(tile="<row {row}>"))
    assert (spec.tiles_max, spec.token_counts, spec.candidates_max) == (3, (4, 8, 12), 12)
    page = Image.fromarray(np.repeat(np.arange(24, dtype=np.uint8) * 10, 12 * 3).reshape(24, 12, 3))
    place = spec.place(page.height, page.width)
    crops = list(column.crops(page, place, tile))
    assert place.tiles == len(crops) == 2 and {crop.shape for crop in crops} == {(8, 8, 3)}
    assert crops[0].max() < crops[1].max()
    packed = pack_picture(place, spec)
    assert [segment.text or (segment.start, segment.stop) for segment in packed.segments] == [
        "<row 1>",
        (0, 4),
        "<row 2>",
        (4, 8),
    ]
    assert packed.slot.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [-1] * 4]
    assert packed.places[1].tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]] and packed.canvas == (4, 2)
    assert spec.limited(1).place(24, 12).tiles == 1


def test_adding_tiling_is_one_more_tag_of_the_manifest(registries: None) -> None:
    column = example("tiling").Column
    union = TilingSpec | column
    assert msgspec.json.decode(msgspec.json.encode(column(3)), type=union) == column(3)


def test_adding_meter_is_listed_and_measures(registries: None) -> None:
    METERS.add("faults", example("meter").FaultMeter)
    assert survey()["faults"] is None
    with METERS["faults"]().window() as window, pytest.raises(RuntimeError, match="still open"):
        window.reading()
    assert window.reading().source == "getrusage" and window.reading().major >= 0


def test_adding_board_is_a_file() -> None:
    board = load_device(str(EXAMPLES / "board.toml"))
    assert board.name == "my-board" and board.memory.size_bytes is not None
    assert board.memory.size_bytes.value == 4 << 30


def test_adding_importance_scores_units(registries: None) -> None:
    importance = IMPORTANCES.choose(f"{EXAMPLES / 'importance.py'}:WRITES")
    out = torch.nn.Linear(6, 2, bias=False)
    out.weight.data = torch.tensor([[3.0, 0, 1, 0, 0, 0], [0, 4.0, 0, 0, 0, 2]])
    site = PruningSite("tower", 0, "heads", 3, (), out)
    assert IMPORTANCES["writes"].score(site, SiteStatistics(), 0).tolist() == [5, 1, 2]
    assert not importance.needs


# One export of a model with a tower and a language model of its own, under a method with a reading of its own, through the gate


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    scratch = tmp_path_factory.mktemp("additions")
    with own_registries():
        TOWERS.add("chinese_clip_vision_model", example("tower").CHINESE_CLIP)
        DECODERS.add("seed_oss", example("decoder").SEED_OSS)
        llava = FAMILIES["llava"]
        FAMILIES._known["llava"] = dataclasses.replace(llava, tower=any_tower)
        METHODS.choose(f"{EXAMPLES / 'reading.py'}:LONG_KEYS")
        folder = own_copy(tiny_checkpoint(family="llava", tower="clip", decoder="qwen2"), scratch)
        edit_json(folder / "config.json", renamed)
        return export(folder, scratch / "bundle", options(("0.4", "1.0"), plan={"method": "long-keys"}))


def any_tower(config: Section) -> Any:
    return tower_from_config(part(config, "vision_config"))


def renamed(config: dict[str, Any]) -> None:
    config["vision_config"]["model_type"] = "chinese_clip_vision_model"
    config["text_config"]["model_type"] = "seed_oss"
    text = config["text_config"]
    text["head_dim"] = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]


def test_adding_reading_equals_that_of_transformers_modules(added: Bundle) -> None:
    values = [check.value for check in added.manifest.parity.checks if check.name.startswith("tower: key_length_")]
    assert values and max(values) < 1e-4


def test_adding_tower_kind_and_decoder_kind_answer_as_transformers_does(added: Bundle) -> None:
    config = json.loads(added.path("config.json").read_text(encoding="utf-8"))
    assert [config[f"{name}_config"]["model_type"] for name in ("vision", "text")] == [
        "chinese_clip_vision_model",
        "seed_oss",
    ]
    gated = [check for check in added.manifest.parity.checks if check.name.startswith("decode: greedy text")]
    assert {check.budget for check in gated} == {"0.4", "1.0"} and all(check.passed for check in gated)


def test_adding_decoder_kind_reads_what_the_file_leaves_out(registries: None) -> None:
    DECODERS.add("seed_oss", example("decoder").SEED_OSS)
    spec = decoder_from_config(Section("config.json.text_config", {"model_type": "seed_oss"}), tied=False)
    assert (spec.head_dim, spec.kv_heads, spec.attention_bias, spec.output_bias) == (128, 8, True, False)


def test_adding_backend_answers_and_knows_the_time_of_every_graph(added: Bundle, registries: None) -> None:
    BACKENDS.add("timed", example("backend").create)
    with Model.open(added.root, backend="timed") as model, Model.open(added.root, backend="onnxruntime") as plain:
        asked = {"image": np.zeros((40, 40, 3), np.uint8), "max_tokens": 3, "stop": False}
        assert model.ask("what is it", **asked).token_ids == plain.ask("what is it", **asked).token_ids
        seconds = model.vision._backend.seconds  # type: ignore[attr-defined]
    assert len(seconds["tower"]) == 1 and len(seconds["decode"]) == 2 and len(seconds["head"]) == 3


def test_adding_engine_dialect_lowers_to_its_operators(added: Bundle, registries: None, tmp_path: Path) -> None:
    DIALECTS.add("standard-23", example("dialect").STANDARD_23)
    prepared = {one.name: one.path for one in prepare(added, DIALECTS["standard-23"], "fp32", tmp_path, lambda: None)}
    lowered = {name: onnx.load(path, load_external_data=False) for name, path in prepared.items()}
    assert {"RMSNormalization", "RotaryEmbedding"} <= {node.op_type for node in all_nodes(lowered["language"].graph)}
    assert {node.domain for model in lowered.values() for node in all_nodes(model.graph)} == {""}
    pixels = np.random.default_rng(0).standard_normal(added.graph("tower").inputs[0].shape).astype(np.float32)
    ours, theirs = (features(path, pixels) for path in (prepared["tower"], added.path("tower.onnx")))
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


def features(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made: np.ndarray = session.run(["features"], {"pixels": pixels})[0]
    return made
