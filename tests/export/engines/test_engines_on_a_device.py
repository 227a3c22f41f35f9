"""The whole way on a simulated GPU: built, gated, sealed, found again, run, rebuilt; and what happens where something does not fit."""

from __future__ import annotations

import gc
import json
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edgeprune.errors import (
    BackendUnavailable,
    BundleError,
    EngineError,
    ExportError,
    ParityError,
    PlanError,
    RequestError,
)
from edgeprune_export.bundle.progress import silent
from edgeprune_export.bundle.seal import seal
from edgeprune_export.engines import build as building
from edgeprune_export.engines.build import build
from edgeprune_export.engines.choices import BuildFlags, BuildOptions
from edgeprune_export.engines.estimate import BuildEstimate, require_room
from edgeprune_export.engines.selftest import BUNDLE, selftest
from edgeprune_export.engines.target import Runtime, target_from_text
from edgeprune_export.engines.timing_cache import TimingCache
from edgeprune_export.gate.pictures import fixed_pictures, pictures_for
from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.backends import choose, tensorrt_api
from edgeprune_runtime.backends.tensorrt import TensorRtBackend
from edgeprune_runtime.engines.sets import differences, read_engine_set
from edgeprune_runtime.engines.spec import ENGINE_DIGEST, ENGINE_MANIFEST, EngineKey
from edgeprune_runtime.language import LanguageModel
from tests.commands import answer, complaint, invoke
from tests.exports import GATED, QWEN_GRIDS, exported, own_bundle
from tests.simulated_gpu import SimulatedGpu, engines_of, simulate

pytestmark = pytest.mark.slow

PICTURE = fixed_pictures()[0]
VERSIONS = ["10.3.0.30", "10.16.1", "11.4.0"]
TENSORRT = target_from_text("tensorrt")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimulatedGpu:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return simulate(monkeypatch)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


def asked(
    root: Path, backend: str, budget: str = "0.2", picture: Image.Image = PICTURE
) -> tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]:
    with Model.open(root, backend=backend) as model:
        assert model.backend == backend
        found = model.ask("What is this?", image=picture, budget=budget, max_tokens=10, stop=False)
        return found.token_ids, found.kept


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("number", [1, 4, 6])
def test_engines_answer_as_the_bundle_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, number: int
) -> None:
    variant, plan = GATED[number]
    root = own_bundle(exported(variant, plan=plan), tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gpu = simulate(monkeypatch, version=version)
    folder, found = build(root, TENSORRT, BuildOptions(precision="fp32"))
    assert found.key.dialect == ("portable" if version.startswith("10.3") else "modern")
    assert set(gpu.networks) == {0 if version.startswith("11") else 1 << 1}, "strongly typed by flag before 11"
    assert found.gate.skipped is None and len(found.gate.checks) > 10
    for budget in ("0.2", "1.0"):
        assert asked(root, "tensorrt", budget) == asked(root, "onnxruntime", budget)
    assert gpu.launches > 0, "sessions that stand still run as CUDA graphs"


@pytest.mark.parametrize(
    "inside",
    ["pdrop@1,3:0.5,6", "transprune@1,3:0.5,6", "corematching@2:0.5", "sparsevlm@1,3:0.5,6", "lvlm-csp@0,1,3:0.25,1,6"],
)
def test_engines_of_stages_answer_as_the_bundle_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inside: str
) -> None:
    root = own_bundle(exported({"decoder": "qwen2", "layers": 4}, inside=[inside], parity=False), tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    simulate(monkeypatch, version="10.16.1")
    _, found = build(root, TENSORRT, BuildOptions(precision="fp32"))
    ranked = {check.name.partition(":")[0] for check in found.gate.checks if check.name.endswith("rows that go on")}
    manifest = Bundle.open(root).manifest
    assert ranked == {stage.rank for stage in manifest.language.stages if stage.rank}
    for budget in ("0.2", "1.0"):
        assert asked(root, "tensorrt", budget) == asked(root, "onnxruntime", budget)


@pytest.mark.parametrize(
    ("number", "version"), [(0, "10.3.0.30"), (1, "10.16.1"), (2, "10.3.0.30")], ids=["plain", "windows", "deepstack"]
)
def test_every_grid_has_an_engine_that_is_gated_and_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, version: str
) -> None:
    variant, asked_for = QWEN_GRIDS[number]
    root = own_bundle(exported(variant, **asked_for), tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    simulate(monkeypatch, version=version)
    _, found = build(root, TENSORRT, BuildOptions())
    gated = {check.name.partition(":")[0] for check in found.gate.checks}
    assert gated == {engine.name for engine in found.engines} - {"head"}, "the head is seen in the logits of language"
    steps = {step.name: step for step in selftest(root, "tensorrt", tmp_path, silent)}
    assert {name for name, step in steps.items() if step.outcome == "failed"} == set()
    assert steps["answers"].numbers["answers_same"] > 0
    for picture in pictures_for(Bundle.open(root).manifest.picture):
        assert asked(root, "tensorrt", picture=picture)[1] == asked(root, "onnxruntime", picture=picture)[1]


def test_the_gate_finds_the_tensor_at_fault_in_the_engine_of_one_grid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variant, asked_for = QWEN_GRIDS[2]
    root = own_bundle(exported(variant, **asked_for), tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gpu = simulate(monkeypatch, version="10.16.1")
    for node, engine in (("conv_0.product", "tower-"), ("attention_1.half", "language")):
        gpu.break_node = node
        with pytest.raises(ParityError, match=rf"astray is '{node}' \(\w+\) of {engine}"):
            build(root, TENSORRT, BuildOptions())
    assert not list(engines_of(root))


def test_half_precision_passes_the_gate_and_the_cache_takes_half(gpu: SimulatedGpu, bundle: Path) -> None:
    _, found = build(bundle, TENSORRT, BuildOptions())
    assert max(check.value for check in found.gate.checks if check.rule == "at most") < 0.01
    opened = Bundle.open(bundle)
    full, half = (
        LanguageModel(opened, choose(name, root=bundle).backend).cache_bytes for name in ("onnxruntime", "tensorrt")
    )
    assert half * 2 == full


def test_the_host_waits_once_per_token(gpu: SimulatedGpu, bundle: Path) -> None:
    build(bundle, TENSORRT, BuildOptions())
    language = LanguageModel(Bundle.open(bundle), TensorRtBackend("tensorrt"))
    embeds = np.zeros((40, 64), np.float32)
    language.prefill(embeds, np.arange(40)[None])
    for step in range(4):
        language.step(3, 40 + step)
    before, launches = gpu.waits, gpu.launches
    for step in range(5):
        language.step(3, 44 + step)
    writes = 5  # embeds, position, row, last index, total: each waits for its own earlier copy, which is long done
    assert gpu.waits - before == 5 * (writes + 1)
    assert gpu.launches - launches == 5 * 2, "one captured graph for the layers, one for the head"


def test_everything_on_the_device_is_given_back(gpu: SimulatedGpu, bundle: Path) -> None:
    build(bundle, TENSORRT, BuildOptions())
    gc.collect()
    gpu.drain()
    assert not gpu.allocated
    model = Model.open(bundle, backend="tensorrt")
    model.ask("What is this?", image=PICTURE, max_tokens=6)
    assert gpu.allocated
    model.close()
    del model
    gc.collect()
    gpu.drain()
    assert not gpu.allocated


def test_auto_takes_the_gpu_only_with_engines_that_fit_and_says_why(gpu: SimulatedGpu, bundle: Path) -> None:
    before = choose("auto", root=bundle)
    assert before.backend.name == "onnxruntime"
    assert "tensorrt: bundle bundle has no tensorrt engines for this device (it holds none)" in before.why
    build(bundle, TENSORRT, BuildOptions())
    after = choose("auto", root=bundle)
    assert (after.backend.name, after.why) == ("tensorrt", "")


def test_what_does_not_fit_is_said_and_built_again_or_refused(gpu: SimulatedGpu, bundle: Path, tmp_path: Path) -> None:
    build(bundle, TENSORRT, BuildOptions())
    picture = tmp_path / "picture.png"
    PICTURE.save(picture)
    command = (
        "run",
        bundle,
        "--image",
        picture,
        "--prompt",
        "What is this?",
        "--backend",
        "tensorrt",
        "--max-tokens",
        "4",
    )
    assert answer(*command)["backend"] == "tensorrt"
    gpu.name, gpu.driver = "Simulated Thor", 13000
    line = complaint(*command, "--no-build")
    assert "built with GPU Simulated Orin, here is Simulated Thor" in line
    assert "built with driver CUDA 12.6, here is CUDA 13.0" in line
    assert f"make them with `edgeprune build {bundle} --target tensorrt`" in line
    told = invoke(*command)
    assert told.exit_code == 0 and "note:" in told.stderr and "Simulated Thor" in told.stderr
    (folder,) = engines_of(bundle)
    assert read_engine_set(folder).key.gpu == "Simulated Thor"


def test_every_part_of_the_key_counts() -> None:
    found = EngineKey("tensorrt", "10.3.0", "portable", "fp16", ("sm87",), "Orin", "CUDA 12.6", "15W")
    assert not list(differences(found, found))
    changes = {
        "version": "10.4.0",
        "capabilities": ("sm110",),
        "gpu": "Thor",
        "driver": "CUDA 13.0",
        "power_mode": None,
    }
    for name, value in changes.items():
        (said,) = differences(found, msgspec.structs.replace(found, **{name: value}))
        assert ("unknown" if value is None else value if isinstance(value, str) else value[0]) in said
    ahead = EngineKey("tensorrt_rtx", "1.7.1", "modern", "fp16", ("sm86", "sm89"))
    here = EngineKey("tensorrt_rtx", "1.7.1", "modern", "fp16", ("sm89",), "RTX 4090", "CUDA 13.0", None)
    assert not list(differences(ahead, here)), "built ahead of time for every such device"


def test_engines_of_another_export_are_stale(gpu: SimulatedGpu, bundle: Path, tmp_path: Path) -> None:
    folder, _ = build(bundle, TENSORRT, BuildOptions())
    other = own_bundle(exported(GATED[1][0]), tmp_path / "other")
    shutil.copytree(folder, other / "engines" / folder.name)
    with pytest.raises(EngineError, match=r"the bundle's .*weights\.bin changed since"):
        TensorRtBackend("tensorrt").engine_set(other)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("conv_0.product", "'conv_0.product' (Conv) of tower"),
        ("attention_1.half", "'attention_1.half' (Reshape) of language"),
        ("gemm_58.product", "'gemm_58.product' (Gemm) of select-hired-k36"),
        ("gemm_0.product", "'gemm_0.product' (Gemm) of head"),
    ],
)
def test_the_gate_names_the_first_tensor_that_goes_astray_and_seals_nothing(
    gpu: SimulatedGpu, bundle: Path, node: str, words: str
) -> None:
    gpu.break_node = node
    with pytest.raises(ParityError) as caught:
        build(bundle, TENSORRT, BuildOptions())
    assert "the engine differs from the bundle's graph in" in str(caught.value)
    assert words in str(caught.value)
    assert not list(engines_of(bundle))


def test_the_gate_reads_every_place_of_the_cache(gpu: SimulatedGpu, bundle: Path) -> None:
    """A mask that hides the last places shows only where a prompt fills them."""
    gpu.hide_cache_from = 215
    with pytest.raises(ParityError, match="at budget a full cache"):
        build(bundle, TENSORRT, BuildOptions())


def test_a_stream_that_cannot_be_captured_is_queued_as_before(gpu: SimulatedGpu, bundle: Path) -> None:
    gpu.can_capture = False
    build(bundle, TENSORRT, BuildOptions())
    assert asked(bundle, "tensorrt") == asked(bundle, "onnxruntime")
    assert gpu.launches == 0


def test_a_second_question_equals_a_first_one_bit_for_bit_and_runs_fewer_chunks(
    gpu: SimulatedGpu, bundle: Path
) -> None:
    build(bundle, TENSORRT, BuildOptions())
    opened = Bundle.open(bundle)
    chunk = opened.manifest.language.chunk
    embeds = np.random.default_rng(0).standard_normal((2 * chunk + 9, 64), np.float32)
    where = np.arange(len(embeds))[None]
    other = np.concatenate([embeds[: 2 * chunk], -embeds[2 * chunk :]])

    def logits(language: LanguageModel, rows: np.ndarray) -> list[bytes]:
        found = [language.prefill(rows, where).tobytes()]
        return found + [language.step(9, len(rows) + step).tobytes() for step in range(3)]

    fresh, ours = (LanguageModel(opened, TensorRtBackend("tensorrt"), reuse=reuse) for reuse in (False, True))
    expected = logits(fresh, embeds)
    logits(ours, other)
    gpu.runs = 0
    assert logits(ours, embeds) == expected and ours.reused == 2 * chunk
    behind = gpu.runs
    gpu.runs = 0
    assert logits(fresh, embeds) == expected
    assert gpu.runs == behind + 2


def test_numbers_that_are_not_finite_end_one_request_only(gpu: SimulatedGpu, bundle: Path) -> None:
    build(bundle, TENSORRT, BuildOptions())
    language = LanguageModel(Bundle.open(bundle), TensorRtBackend("tensorrt"))
    embeds = np.random.default_rng(0).standard_normal((40, 64), np.float32)
    before = language.prefill(embeds, np.arange(40)[None]).copy()
    with pytest.raises(RequestError, match="no longer finite: half precision has overflowed"):
        language.prefill(np.full((70, 64), np.nan, np.float32), np.arange(70)[None])
    assert np.array_equal(language.prefill(embeds, np.arange(40)[None]), before)


def test_a_gate_that_is_switched_off_is_on_record(gpu: SimulatedGpu, bundle: Path) -> None:
    gpu.break_node = "conv_0.product"
    _, found = build(bundle, TENSORRT, BuildOptions(gate=False))
    assert found.gate.skipped == "switched off by --no-gate"


def test_no_device_no_tensorrt_object(gpu: SimulatedGpu, bundle: Path) -> None:
    gpu.devices = 0
    with pytest.raises(BackendUnavailable, match="the NVIDIA driver sees no GPU"):
        Model.open(bundle, backend="tensorrt")
    with pytest.raises(BackendUnavailable, match="sees no GPU"):
        build(bundle, TENSORRT, BuildOptions())
    with pytest.raises(BackendUnavailable, match=r"ahead of time, without a GPU, as in --target rtx:sm86,sm89$"):
        build(bundle, target_from_text("rtx"), BuildOptions())
    assert not (bundle / "engines").exists()


def test_a_device_without_room_says_so(gpu: SimulatedGpu, bundle: Path) -> None:
    build(bundle, TENSORRT, BuildOptions())
    gpu.drain()
    gpu.memory_bytes = 100_000
    with pytest.raises(
        BackendUnavailable, match="cudaMalloc failed with cudaErrorMemoryAllocation; .*close other programs"
    ):
        Model.open(bundle, backend="tensorrt")


def test_a_version_older_than_all_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, version="8.6.1")
    with pytest.raises(BackendUnavailable, match=r"tensorrt 8\.6\.1 is too old; edgeprune needs 10\.3 or later"):
        tensorrt_api.load("tensorrt")


@pytest.mark.parametrize(
    ("version", "dialect", "typed"),
    [
        ("10.3.0.30", "portable", True),
        ("10.14.9", "portable", True),
        ("10.16.1.11", "modern", True),
        ("11.4.0", "modern", False),
    ],
)
def test_rows_of_the_table_hold_from_their_version_on(version: str, dialect: str, typed: bool) -> None:
    row = tensorrt_api.row_for("tensorrt", version)
    assert (row.dialect, row.strongly_typed, row.ahead_of_time) == (dialect, typed, False)


def test_damage_of_engines_is_found(gpu: SimulatedGpu, bundle: Path) -> None:
    folder, found = build(bundle, TENSORRT, BuildOptions())
    engine = folder / "head.engine"
    whole = engine.read_bytes()
    engine.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"head\.engine in .* is corrupt"):
        read_engine_set(folder)
    with pytest.raises(EngineError, match=r"head\.engine in .* is corrupt"):
        TensorRtBackend("tensorrt").engine_set(bundle)
    assert choose("auto", root=bundle).backend.name == "onnxruntime"
    assert choose("tensorrt", root=bundle, verify=False).backend.name == "tensorrt", "hashes are not checked then"
    assert "head.engine" in complaint("verify", bundle)
    engine.write_bytes(whole[:-1])
    with pytest.raises(BundleError, match="corrupt"):
        read_engine_set(folder, verify=False)
    engine.unlink()
    with pytest.raises(BundleError, match=r"head\.engine is missing from .*; build it again with `edgeprune build`"):
        read_engine_set(folder, verify=False)
    engine.write_bytes(whole)
    manifest = folder / ENGINE_MANIFEST
    sealed = manifest.read_bytes()
    manifest.write_bytes(sealed.replace(b'"fp16"', b'"bf16"'))
    with pytest.raises(BundleError, match="is not the manifest that was sealed"):
        read_engine_set(folder)
    for change, words in (
        ({"schema": 9}, "has schema 9, this runtime reads 1"),
        ({"engines": ()}, None),
        ({"files": {"../../manifest.json": found.files["head.engine"]}, "engines": ()}, "not inside the bundle"),
        ({"files": {}}, "does not hold"),
    ):
        seal(folder, msgspec.structs.replace(found, **change), ENGINE_MANIFEST, ENGINE_DIGEST)
        if words is not None:
            with pytest.raises(BundleError, match=words):
                read_engine_set(folder)


def test_an_engine_that_tensorrt_cannot_load_is_an_error_with_its_words(gpu: SimulatedGpu, bundle: Path) -> None:
    folder, found = build(bundle, TENSORRT, BuildOptions())
    content = b"not an engine"
    (folder / "head.engine").write_bytes(content)
    import hashlib

    files = found.files | {
        "head.engine": type(found.files["head.engine"])(hashlib.sha256(content).hexdigest(), len(content))
    }
    seal(folder, msgspec.structs.replace(found, files=files), ENGINE_MANIFEST, ENGINE_DIGEST)
    with pytest.raises(EngineError, match=r"cannot load head\.engine: cannot deserialize"):
        Model.open(bundle, backend="tensorrt")


def test_verify_and_inspect_show_engines(gpu: SimulatedGpu, bundle: Path) -> None:
    build(bundle, TENSORRT, BuildOptions())
    told = answer("inspect", bundle)["engines"]
    assert [entry["key"]["gpu"] for entry in told] == ["Simulated Orin"]
    assert "tensorrt 10.3.0" in invoke("inspect", bundle).stdout
    assert answer("verify", bundle)["engines"] == [told[0]["folder"]]


@pytest.mark.parametrize("moment", ["lower", "build", "gate", "seal"])
def test_a_failure_at_any_moment_leaves_the_old_engines(
    gpu: SimulatedGpu, bundle: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder, found = build(bundle, TENSORRT, BuildOptions())
    name = {"lower": "prepare", "build": "build_engine", "gate": "check_engines", "seal": "seal"}[moment]

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(building, name, fail)
    with pytest.raises(KeyboardInterrupt):
        build(bundle, TENSORRT, BuildOptions(force=True))
    assert list((bundle / "engines").iterdir()) == [folder]
    assert read_engine_set(folder) == found


def test_a_build_that_will_not_fit_is_refused_before_it_starts(gpu: SimulatedGpu, tmp_path: Path) -> None:
    needed = BuildEstimate(memory_bytes=4_000_000_000, disk_bytes=1000, seconds=(1.0, 2.0))
    cases: tuple[tuple[Runtime, bool, str], ...] = (
        ("tensorrt", False, "or try --low-memory"),
        ("tensorrt", True, "or export a smaller or pruned model"),
        ("tensorrt_rtx", True, "or build on another machine, which needs no GPU: --target rtx:sm89"),
    )
    for runtime, low, words in cases:
        require_room(needed, tmp_path, 5_000_000_000, runtime=runtime, low_memory=low)
        found = f"needs about 4000 MB of memory, 3000 MB are available; close other programs or add swap, {words}"
        with pytest.raises(ExportError, match=re.escape(found)):
            require_room(needed, tmp_path, 3_000_000_000, runtime=runtime, low_memory=low)
    with pytest.raises(ExportError, match="on disk"):
        require_room(BuildEstimate(1, 1 << 60, (1.0, 2.0)), tmp_path, 1 << 40, runtime="tensorrt", low_memory=False)


def test_the_estimate_is_told_before_the_first_engine(gpu: SimulatedGpu, bundle: Path) -> None:
    told: list[BuildEstimate] = []
    build(
        bundle, TENSORRT, BuildOptions(gate=False), say=lambda needed: told.append(needed) if not gpu.levels else None
    )
    (needed,) = told
    assert needed.memory_bytes > 0 < needed.disk_bytes and needed.seconds[0] < needed.seconds[1]


def test_timing_caches_of_two_builds_are_merged(gpu: SimulatedGpu, tmp_path: Path) -> None:
    config = tensorrt_api.load("tensorrt").module.Builder(None).create_builder_config()
    cache = TimingCache(tmp_path / "deep" / "timing.cache")
    cache.open(config)
    config.get_timing_cache().content = b"mine"
    cache.path.write_bytes(b"theirs")  # another build ended meanwhile
    cache.merge(config)
    assert cache.path.read_bytes() == b"mine\ntheirs"
    assert {path.name for path in cache.path.parent.iterdir()} == {"timing.lock", "timing.cache"}, (
        "nothing half-written"
    )


def test_a_build_fills_the_users_timing_cache_and_low_memory_is_part_of_the_key(
    gpu: SimulatedGpu, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "build_apart", building.build_engine)
    _, found = build(bundle, TENSORRT, BuildOptions(flags=BuildFlags(low_memory=True), gate=False))
    assert found.key.flags == ("low_memory",)
    assert set(gpu.levels) == {1}
    (cache,) = (tmp_path / "cache/edgeprune").glob("*.cache")
    assert cache.name == "timing-tensorrt-10.3.0-Simulated-Orin.cache"
    assert b"language" in cache.read_bytes()


def test_the_selftest_tries_the_whole_way(gpu: SimulatedGpu, tmp_path: Path) -> None:
    record = tmp_path / "selftest.json"
    told = answer("selftest", "--backend", "tensorrt", "--out", record)
    outcomes = {step["name"]: step["outcome"] for step in told["steps"]}
    passed = {"device", "engines", "gate", "answers", "second question", "CUDA graphs", "times"}
    assert outcomes == dict.fromkeys(passed, "passed") | {"energy": outcomes["energy"]}
    assert json.loads(record.read_text())["steps"][0]["numbers"]["gpu"] == "Simulated Orin"


def test_the_selftest_fails_with_the_reason_and_exit_code_1(gpu: SimulatedGpu) -> None:
    gpu.break_node = "conv_0.product"
    result = invoke("selftest", "--backend", "tensorrt")
    assert result.exit_code == 1
    assert "failed" in result.stdout and "'conv_0.product' (Conv) of tower" in result.stdout
    gpu.devices = 0
    result = invoke("selftest", "--backend", "tensorrt")
    assert result.exit_code == 1 and "sees no GPU" in result.stdout


def test_the_bundle_of_the_selftest_is_one_of_this_version(opened: Model) -> None:
    manifest = Bundle.open(BUNDLE).manifest
    assert manifest.parity.skipped is None
    assert manifest.schema == opened.bundle.manifest.schema


def test_float16_engines_are_preferred_and_each_choice_has_its_own_folder(gpu: SimulatedGpu, bundle: Path) -> None:
    names = {
        build(bundle, TENSORRT, BuildOptions(precision=precision, gate=False))[0].name
        for precision in ("bf16", "fp32", "fp16")
    }
    assert len(names) == 3
    _, found = TensorRtBackend("tensorrt").engine_set(bundle)
    assert found.key.precision == "fp16"


def test_rtx_engines_for_a_device_at_hand_are_built_for_just_it(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    gpu = simulate(monkeypatch, "tensorrt_rtx", "1.7.1")
    with pytest.raises(PlanError, match="sm87 is Jetson Orin: build there with `--target tensorrt`"):
        build(bundle, target_from_text("rtx"), BuildOptions())
    gpu.major, gpu.minor = 8, 9
    _, found = build(bundle, target_from_text("rtx"), BuildOptions())
    assert found.key.capabilities == ("sm89",)
    assert gpu.capabilities and set(gpu.capabilities) == {89}
    assert gpu.flags, "only engines built for it can be captured for sure"


def test_the_selftest_gates_engines_that_were_built_ahead_of_time(
    monkeypatch: pytest.MonkeyPatch, bundle: Path
) -> None:
    gpu = simulate(monkeypatch, "tensorrt_rtx", "1.7.1")
    gpu.major, gpu.minor = 8, 9
    gpu.break_node = "gemm_31.product"
    build(bundle, target_from_text("rtx:sm86,sm89"), BuildOptions())
    gpu.break_node = None
    result = invoke("selftest", bundle, "--backend", "tensorrt_rtx")
    assert result.exit_code == 1
    assert "failed  gate: the engine differs from the bundle's graph in language" in result.stdout


def test_onnxruntime_graphs_run_on_the_device(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    from edgeprune_runtime.backends import onnxruntime_gpu

    gpu = simulate(monkeypatch)
    monkeypatch.setattr(
        onnxruntime_gpu, "_PROVIDERS", dict.fromkeys(onnxruntime_gpu._PROVIDERS, "CPUExecutionProvider")
    )
    monkeypatch.setattr(onnxruntime_gpu, "_PLACE", "cpu")
    run = onnxruntime_gpu.OnnxRuntimeGpuSession.run

    def after_the_stream(session: onnxruntime_gpu.OnnxRuntimeGpuSession) -> None:
        gpu.drain()  # a real one is queued on the stream that it was given
        run(session)

    monkeypatch.setattr(onnxruntime_gpu.OnnxRuntimeGpuSession, "run", after_the_stream)
    with pytest.raises(PlanError, match="takes float16 graphs, not bf16"):
        build(bundle, target_from_text("onnxruntime"), BuildOptions(precision="bf16"))
    folder, found = build(bundle, target_from_text("onnxruntime"), BuildOptions())
    assert found.gate.skipped is None
    assert {path.name for path in folder.iterdir()} >= {"language.onnx", "lowered.bin"}
    for name in ("onnxruntime_cuda", "onnxruntime_tensorrt"):
        assert asked(bundle, name) == asked(bundle, "onnxruntime")
