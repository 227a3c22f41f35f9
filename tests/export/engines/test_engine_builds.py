"""Real engines by TensorRT for RTX, which builds without a GPU: every graph, every family, every method."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest

from edgeprune.errors import ExportError, PlanError
from edgeprune.plan import budget_from_text
from edgeprune.tokens.inside import INSIDE
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.commands.export import export
from edgeprune_export.engines.build import build
from edgeprune_export.engines.builder import STEPS, Job, build_engine
from edgeprune_export.engines.choices import BuildFlags, BuildOptions
from edgeprune_export.engines.lint.rules import RTX_SMS
from edgeprune_export.engines.lint.run import LintTarget
from edgeprune_export.engines.prepare import Prepared, prepare, require_clean
from edgeprune_export.engines.rules.dialect import DIALECTS
from edgeprune_export.engines.subprocess_build import build_apart
from edgeprune_export.engines.target import RTX_CAPABILITIES, target_from_text
from edgeprune_runtime.backends import tensorrt_api
from edgeprune_runtime.backends.tensorrt import TensorRtBackend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.engines.sets import engine_folders, read_engine_set
from tests.checkpoints import variant_name
from tests.commands import answer, complaint
from tests.exports import FAMILY_GATED, GATED, QWEN_GRIDS, cut, every_method, exported, own_bundle

pytest.importorskip("tensorrt_rtx", reason="`pip install tensorrt-rtx` to try real builds")
ROOT = Path(__file__).parents[3]
CUTS = [{"method": "fastv", "layers": [1], "keep": [0.5]}], [{"method": "pdrop", "layers": [1, 2], "keep": [0.5, 6]}]
#: Rows that leave inside the language model: stages and their rankings.
LEAVING = tuple(
    ({"tower": "clip", "decoder": "qwen2", "layers": 3}, {"plan": {"inside": cut}, "parity": False}) for cut in CUTS
)
EVERY = (*((variant, {"plan": plan}) for variant, plan in (*GATED, *FAMILY_GATED)), *QWEN_GRIDS, *LEAVING)
#: The oldest TensorRT that each dialect is for.
OLDEST = {"portable": (10, 3, 0), "modern": (10, 16, 0)}


@pytest.fixture(scope="module")
def rtx() -> tensorrt_api.TensorRt:
    return tensorrt_api.load("tensorrt_rtx")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference model's bundle."""
    out = tmp_path_factory.mktemp("reference") / "reference.bundle"
    budgets = tuple(budget_from_text(text) for text in ("0.2", "1.0"))
    return export(
        ROOT / "tools/reference_vlm/checkpoint", out, ExportOptions(budgets, controls=False, parity=False)
    ).root


def prepared(bundle: Bundle, folder: Path, dialect: str = "portable") -> dict[str, Prepared]:
    folder.mkdir()
    return {one.name: one for one in prepare(bundle, DIALECTS[dialect], "fp16", folder, lambda: None)}


def made(
    trt: tensorrt_api.TensorRt,
    one: Prepared,
    engine: Path,
    *capabilities: str,
    advance: Callable[[], None] = lambda: None,
) -> float:
    return build_engine(trt, Job(one.path, engine, capabilities or ("sm89",), one.rows), advance)


def test_every_graph_of_the_reference_bundle_builds_ahead_of_time(reference: Path) -> None:
    folder, found = build(reference, target_from_text("rtx:sm86,sm89,sm120"), BuildOptions())
    assert found.key.capabilities == ("sm86", "sm89", "sm120")
    assert found.key.dialect == "modern"
    assert {graph for engine in found.engines for graph in engine.graphs} == {
        graph.name for graph in Bundle.open(reference).manifest.graphs
    }
    (language,) = (engine for engine in found.engines if engine.name == "language")
    assert (language.graphs, language.rows) == (("prefill", "decode"), (128, 1))
    weights = Bundle.open(reference).graph("prefill").weight_bytes / 2
    assert weights < found.files["language.engine"].bytes < 2 * weights + 12e6, (
        "both lengths in one engine hold weights once"
    )
    assert found.gate.skipped == "built ahead of time, on another device than the one that will run it"
    assert engine_folders(reference) == [folder]
    assert read_engine_set(folder) == found
    assert {path.name for path in folder.iterdir()} == {*found.files, "engines.json", "engines.sha256"}


def test_without_a_gpu_engines_are_not_run_and_the_reason_is_a_sentence(reference: Path) -> None:
    reason = TensorRtBackend("tensorrt_rtx").why_unavailable()
    assert reason is not None and reason.startswith("no CUDA device answers")


#: The product of MCTF's merged attention: the compiler stops at a check of its own (tactic.cpp:2418), in this dialect only.
MYELIN = pytest.mark.xfail(reason="TensorRT-RTX 1.7.1 cannot compile mctf in the portable dialect", raises=ExportError)


@pytest.mark.parametrize("dialect", ["portable", "modern"])
@pytest.mark.parametrize(("variant", "asked"), EVERY, ids=[variant_name(variant) for variant, _ in EVERY])
def test_graphs_of_every_family_are_read(
    rtx: tensorrt_api.TensorRt, tmp_path: Path, variant: dict[str, Any], asked: dict[str, Any], dialect: str
) -> None:
    ready = prepared(Bundle.open(exported(variant, **asked), verify=False), tmp_path / "lowered", dialect)
    require_clean(list(ready.values()), LintTarget("tensorrt", OLDEST[dialect]))
    for one in ready.values():
        logger = rtx.logger()
        network = rtx.module.Builder(logger).create_network(0)
        parser = rtx.module.OnnxParser(network, logger)
        assert parser.parse_from_file(str(one.path)), [parser.get_error(i).desc() for i in range(parser.num_errors)]


def test_every_method_builds(rtx: tensorrt_api.TensorRt, tmp_path: Path) -> None:
    bundle = Bundle.open(every_method(), verify=False)
    ready = prepared(bundle, tmp_path / "lowered")
    names = [name for name in ready if name.startswith("select-")]
    assert len(names) > 20
    for name in names:
        made(rtx, ready[name], tmp_path / "x.engine")


@pytest.mark.parametrize(
    ("dialect", "inside", "graphs"),
    [
        ("portable", "pdrop@1,2:0.5,6", 5),
        ("modern", "pdrop@1,2:0.5,6", 5),
        ("modern", "transprune@1,2:0.5,6", 5),
        ("portable", "corematching@1:0.5", 3),
        ("modern", "sparsevlm@1:0.5", 3),
        ("portable", "lvlm-csp@0,1,2:0.25,1,6", 4),
    ],
)
def test_stages_and_rankings_build(
    rtx: tensorrt_api.TensorRt, tmp_path: Path, dialect: str, inside: str, graphs: int
) -> None:
    bundle = exported(LEAVING[0][0], inside=[inside], parity=False)
    ready = prepared(Bundle.open(bundle, verify=False), tmp_path / "lowered", dialect)
    names = [name for name in ready if name.startswith(("language-", "rank-"))]
    assert len(names) == graphs
    for name in names:
        assert made(rtx, ready[name], tmp_path / "x.engine") > 0


@pytest.mark.parametrize("number", [0, 3], ids=[variant_name(FAMILY_GATED[n][0]) for n in (0, 3)])
def test_merged_patches_and_several_tiles_build(rtx: tensorrt_api.TensorRt, tmp_path: Path, number: int) -> None:
    variant, plan = FAMILY_GATED[number]
    for one in prepared(Bundle.open(exported(variant, plan=plan), verify=False), tmp_path / "lowered").values():
        assert made(rtx, one, tmp_path / "x.engine") > 0


@pytest.mark.parametrize(
    ("number", "dialect"), [(1, "portable"), (2, "modern")], ids=["windows-portable", "deepstack-modern"]
)
def test_a_model_of_free_sizes_builds_with_an_engine_for_each_grid(tmp_path: Path, number: int, dialect: str) -> None:
    variant, asked = QWEN_GRIDS[number]
    bundle = own_bundle(exported(variant, **asked), tmp_path)
    _, found = build(bundle, target_from_text("rtx:sm86,sm89"), BuildOptions(dialect=dialect))
    engines = {engine.name: engine for engine in found.engines}
    assert {"tower-64x64", "tower-32x96", "language", "head"} < set(engines)
    assert engines["language"].graphs == ("prefill", "decode")
    assert {graph for engine in found.engines for graph in engine.graphs} == {
        graph.name for graph in Bundle.open(bundle).manifest.graphs
    }


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        pytest.param(name, dialect, marks=[MYELIN] if (name, dialect) == ("mctf", "portable") else [])
        for name in INSIDE
        if INSIDE[name].part == "tower"
        for dialect in ("portable", "modern")
    ],
)
def test_towers_that_are_cut_pass_the_lint_and_build(
    rtx: tensorrt_api.TensorRt, tmp_path: Path, name: str, dialect: str
) -> None:
    ready = prepared(Bundle.open(cut(name), verify=False), tmp_path / "lowered", dialect)
    require_clean(list(ready.values()), LintTarget("tensorrt", OLDEST[dialect]))
    assert made(rtx, ready[f"tower-{name}"], tmp_path / "x.engine") > 0


def test_int8_weights_and_bfloat16_build(rtx: tensorrt_api.TensorRt, tmp_path: Path) -> None:
    bundle = Bundle.open(exported(GATED[1][0], precision="int8"), verify=False)
    for dialect in ("portable", "modern"):
        made(rtx, prepared(bundle, tmp_path / dialect, dialect)["language"], tmp_path / "x.engine", "sm86", "sm120")
    plain = Bundle.open(exported(GATED[1][0]), verify=False)
    (tmp_path / "bf16").mkdir()
    for one in list(prepare(plain, DIALECTS["modern"], "bf16", tmp_path / "bf16", lambda: None)):
        made(rtx, one, tmp_path / "x.engine")


@pytest.mark.parametrize("capability", ["sm86", "sm89", "sm120"])
def test_weights_of_four_bits_pass_the_lint_and_build_smaller(
    rtx: tensorrt_api.TensorRt, tmp_path: Path, capability: str
) -> None:
    """A layer large enough that its weights, and not what every engine has, decide the size."""
    variant = {"tower": "clip", "decoder": "qwen2", "vocab": 20_000}
    sizes = {}
    for precision in ("fp32", "int4"):
        bundle = Bundle.open(exported(variant, budgets=["0.5"], precision=precision, parity=False), verify=False)
        ready = prepared(bundle, tmp_path / precision, "modern")
        require_clean(list(ready.values()), LintTarget("tensorrt", OLDEST["modern"]))
        made(rtx, ready["language"], tmp_path / "language.engine", capability)
        made(rtx, ready["head"], tmp_path / "head.engine", capability)
        sizes[precision] = (tmp_path / "head.engine").stat().st_size
    assert sizes["int4"] <= 0.5 * sizes["fp32"]


def test_progress_reaches_its_end_and_no_further(rtx: tensorrt_api.TensorRt, tmp_path: Path) -> None:
    ready = prepared(Bundle.open(exported(GATED[1][0]), verify=False), tmp_path / "lowered")
    steps: list[None] = []
    made(rtx, ready["head"], tmp_path / "x.engine", advance=lambda: steps.append(None))
    assert len(steps) == STEPS


def test_an_interrupt_ends_the_build_and_leaves_nothing(rtx: tensorrt_api.TensorRt, tmp_path: Path) -> None:
    ready = prepared(Bundle.open(exported(GATED[1][0]), verify=False), tmp_path / "lowered")
    script = (
        "import sys, threading, _thread; from pathlib import Path\n"
        "from edgeprune_export.engines.builder import Job, build_engine\n"
        "from edgeprune_runtime.backends import tensorrt_api\n"
        "def interrupt():\n    _thread.interrupt_main()\n"
        f"job = Job(Path({str(ready['language'].path)!r}), Path({str(tmp_path / 'x.engine')!r}), ('sm89',), (32, 1))\n"
        "build_engine(tensorrt_api.load('tensorrt_rtx'), job, interrupt)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert "KeyboardInterrupt" in done.stderr and done.returncode != 0
    assert not (tmp_path / "x.engine").exists()


def test_a_process_of_its_own_builds_the_same_and_passes_on_what_went_wrong(
    rtx: tensorrt_api.TensorRt, tmp_path: Path
) -> None:
    one = prepared(Bundle.open(exported(GATED[1][0]), verify=False), tmp_path / "lowered")["head"]
    steps: list[None] = []
    job = Job(one.path, tmp_path / "x.engine", ("sm89",), flags=BuildFlags(low_memory=True))
    assert build_apart(rtx, job, lambda: steps.append(None)) > 0
    assert job.engine.stat().st_size > 0 and len(steps) == STEPS
    broken = tmp_path / "broken.onnx"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (int64[1, n] y) { y = NonZero(x) }'
        ),
        broken,
    )
    with pytest.raises(
        ExportError, match=r"broken\.onnx was not built: tensorrt_rtx 1\.\S+ cannot read broken\.onnx: node .*NonZero"
    ):
        build_apart(rtx, replace(job, source=broken), lambda: None)


def test_the_real_module_has_what_the_adapter_calls(rtx: tensorrt_api.TensorRt) -> None:
    for name, attributes in tensorrt_api.USED.items():
        holder = getattr(rtx.module, name) if name[0].isupper() else rtx.module.IBuilderConfig
        missing = [one for one in attributes if not hasattr(holder, one)]
        assert not missing, name
    assert issubclass(rtx.module.IProgressMonitor, object) and rtx.module.TensorIOMode.INPUT
    assert hasattr(rtx.module.BuilderFlag, "REQUIRE_USER_ALLOCATION")
    assert hasattr(rtx.module.ExecutionContextAllocationStrategy, "ON_PROFILE_CHANGE")
    assert hasattr(rtx.module.DynamicShapesKernelSpecializationStrategy, "EAGER")
    config = rtx.module.IRuntimeConfig
    assert hasattr(config, "set_execution_context_allocation_strategy")
    assert hasattr(config, "dynamic_shapes_kernel_specialization_strategy")
    for kind in ("FLOAT", "HALF", "BF16", "INT64", "INT32", "BOOL"):
        assert hasattr(rtx.module.DataType, kind)
    assert {f"sm{sm}" for sm in RTX_SMS} == set(RTX_CAPABILITIES)
    assert all(hasattr(rtx.module.ComputeCapability, name.upper()) for name in RTX_CAPABILITIES)


def test_deserialising_without_a_gpu_is_a_sentence_and_no_crash(rtx: tensorrt_api.TensorRt, tmp_path: Path) -> None:
    script = (
        "from edgeprune_runtime.backends.tensorrt import TensorRtBackend\n"
        "from edgeprune_runtime.errors import BackendUnavailable\n"
        "from edgeprune_runtime.spec import GraphSpec; from pathlib import Path\n"
        "try:\n    TensorRtBackend('tensorrt_rtx').session(Path('none.engine'), GraphSpec('head', 'head.onnx', (), (), 0))\n"
        "except BackendUnavailable as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no CUDA device answers")


def test_the_command_builds_and_tells_and_needs_no_torch(tmp_path: Path) -> None:
    bundle = own_bundle(exported(GATED[1][0]), tmp_path)
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from edgeprune.cli import main\n"
        f"sys.argv = ['edgeprune', 'build', {str(bundle)!r}, '--target', 'rtx:sm89', '--json']\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (told,) = msgspec.json.decode(done.stdout)["engines"]
    assert told["key"]["capabilities"] == ["sm89"]
    again = complaint("build", bundle, "--target", "rtx:sm89")
    assert "is there already; " in again and "--force builds it again" in again
    assert answer("build", bundle, "--target", "rtx:sm89", "--force")["engines"][0]["folder"] == told["folder"]


def test_the_lint_stops_a_build_before_it_starts_and_names_every_node(tmp_path: Path) -> None:
    bundle = own_bundle(exported(GATED[1][0]), tmp_path)
    line = complaint("build", bundle, "--target", "rtx:sm75", "--dialect", "portable", "--compute", "bf16")
    assert (
        "cannot take" in line
        and "so nothing was built. pixels.bfloat16 (Cast) of tower, " in line
        and " more uses bfloat16, which sm75 lacks: build with" in line
    )
    assert not (bundle / "engines").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rtx:sm87", "sm87 is Jetson Orin: build there with `--target tensorrt`"),
        ("rtx:sm90", "sm90 is Hopper"),
        ("rtx:", "is unknown; use rtx:sm89,sm120"),
        ("cuda", "is unknown"),
        ("tensorrt:sm87", "built on the device that runs them"),
    ],
)
def test_a_target_that_cannot_be_built_for_says_what_can(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        target_from_text(text)
