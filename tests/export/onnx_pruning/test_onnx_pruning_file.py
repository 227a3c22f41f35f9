"""From file to file: what is promised is what is written, and a failure leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgeprune.errors import ExportError, PlanError
from edgeprune_export.onnx_pruning import files
from edgeprune_export.onnx_pruning.asked import OnnxTarget
from edgeprune_export.onnx_pruning.choose import choose
from edgeprune_export.onnx_pruning.count import count, count_program
from edgeprune_export.onnx_pruning.groups.find import couple
from edgeprune_export.onnx_pruning.prune import METADATA, OnnxPruned, prune_onnx
from edgeprune_export.onnx_pruning.reading import read
from edgeprune_export.onnx_pruning.rewrite import rewrite
from edgeprune_export.onnx_pruning.scores import magnitude, relative
from tests.export.onnx_pruning.onnx_masked import GRAPHS, feed_of, run
from tests.runtime.test_claims import another_run

HIDDEN, WIDTH, TOKENS, PATCHES, PATCH, CLASSES = 40, 8, 17, 16, 3 * 6 * 6, 7


def vit_macs(kept: list[int]) -> int:
    """Multiply-accumulates of the fixtures' ViT, heads and units of each layer in turn."""
    total = PATCHES * PATCH * HIDDEN + HIDDEN * CLASSES
    for heads, units in zip(kept[::2], kept[1::2], strict=True):
        total += TOKENS * heads * WIDTH * (4 * HIDDEN + 2 * TOKENS) + TOKENS * 2 * HIDDEN * units
    return total


def vit_params(kept: list[int]) -> int:
    total = PATCH * HIDDEN + HIDDEN + (TOKENS + 1) * HIDDEN + 2 * HIDDEN + HIDDEN * CLASSES + CLASSES
    for heads, units in zip(kept[::2], kept[1::2], strict=True):
        width = heads * WIDTH
        total += 4 * width * HIDDEN + 3 * width + HIDDEN + 2 * units * HIDDEN + units + HIDDEN + 4 * HIDDEN
    return total


def stored(model: onnx.ModelProto) -> int:
    """Floating-point elements in the file, scalars aside."""
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return sum(array.size for array in arrays if array.ndim and array.dtype.kind == "f")


@pytest.mark.parametrize("importance", ["magnitude", "random"])
@pytest.mark.parametrize("metric", ["params", "macs"])
@pytest.mark.parametrize("name", ["vit23", "vit_batch", "joint", "cnn"])
def test_the_written_file_has_what_was_promised(name: str, metric: str, importance: Any, tmp_path: Path) -> None:
    source, out = GRAPHS / f"{name}.onnx", tmp_path / "out.onnx"
    done = prune_onnx(source, out, {metric: 0.7}, importance=importance)
    written = onnx.load(out)
    assert done.before == count(onnx.load(source))
    assert done.predicted == done.after == count(written) and done.after.params == stored(written)
    assert done.reached == getattr(done.after, metric) / getattr(done.before, metric)
    assert done.met == (abs(done.reached - 0.7) <= 0.007)
    assert done.met
    if name.startswith("vit"):
        kept = [group.kept for group in done.groups]
        assert done.after.macs == vit_macs(kept) and done.before.macs == vit_macs([5, 72, 5, 72])
    if name == "vit23":
        assert done.after.params == vit_params(kept) and done.before.params == vit_params([5, 72, 5, 72])
    for group in done.groups:
        assert 1 <= group.kept <= group.total
        if group.block == 1 and group.total >= 16:
            assert group.kept == group.total or group.kept % 8 == 0
    assert any(group.kept < group.total for group in done.groups)
    found = run(written, feed_of(onnx.load(source)))
    assert [one.shape for one in found] == [one.shape for one in run(onnx.load(source), feed_of(onnx.load(source)))]


def test_a_target_is_missed_only_where_no_choice_meets_it() -> None:
    """The joint block has 5 x 9 aligned choices, counted here one by one; some shares lie between them."""
    program = read(onnx.load(GRAPHS / "joint.onnx"))
    coupling = couple(program)
    heads, units = coupling.groups
    whole = count_program(program).macs
    shares = []
    for fewer_heads in range(heads.count):
        for fewer_units in range(0, units.count, 8):
            removed = np.zeros(coupling.units, bool)
            removed[:fewer_heads] = removed[units.start : units.start + fewer_units] = True
            shares.append(count_program(rewrite(program, coupling, removed)).macs / whole)
    met = []
    for share in np.arange(0.4, 1.0, 0.02).tolist():
        found = choose(program, coupling, np.ones(coupling.units), OnnxTarget("macs", share), align=8, least=1)
        reached = count_program(rewrite(program, coupling, found)).macs / whole
        met.append(abs(reached - share) <= 0.01 * share)
        assert met[-1] or min(abs(other - share) for other in shares) > 0.01 * share
    assert any(met) and not all(met)


@settings(max_examples=60, deadline=None)
@given(
    share=st.floats(0.3, 0.99),
    metric=st.sampled_from(["params", "macs"]),
    align=st.integers(1, 12),
    least=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_choice_counts_exactly_and_respects_the_limits(
    share: float, metric: Any, align: int, least: int, seed: int
) -> None:
    program = read(onnx.load(GRAPHS / "cnn.onnx"))
    coupling = couple(program)
    scores = np.random.default_rng(seed).uniform(size=coupling.units)
    try:
        removed = choose(program, coupling, scores, OnnxTarget(metric, share), align=align, least=least)
    except PlanError as error:
        assert "out of reach" in str(error) and share < 0.6
        return
    pruned = rewrite(program, coupling, removed)
    assert count_program(pruned) == count(pruned.model())
    for group in coupling.groups:
        own = slice(group.start, group.start + group.count)
        kept = group.count - removed[own].sum()
        assert kept >= min(least, group.count)
        if group.block == 1 and group.count >= 2 * align:
            assert kept == group.count or kept % align == 0
        if removed[own].any() and not removed[own].all():
            assert scores[own][removed[own]].max() <= scores[own][~removed[own]].min()


def test_the_lowest_scores_leave_first_whichever_the_group() -> None:
    program = read(onnx.load(GRAPHS / "vit20.onnx"))
    coupling = couple(program)
    scores = np.ones(coupling.units)
    last = coupling.groups[-1]
    scores[last.start + 8 : last.start + 40] = 0.1
    removed = choose(program, coupling, scores, OnnxTarget("params", 0.916), align=8, least=1)
    assert removed[last.start + 8 : last.start + 40].all() and removed.sum() == 32


def test_magnitude_is_the_norm_of_what_leaves_relative_to_the_group() -> None:
    """Units of the dense layer of the CNN: its rows, its bias, scale and shift, the depthwise kernel, the columns that read it."""
    program = read(onnx.load(GRAPHS / "cnn.onnx"))
    coupling = couple(program)
    dense = coupling.groups[2]
    w = program.constants
    parts = [
        w["dense.weight"],
        w["dense.bias"],
        w["norm3.weight"][16:],
        w["norm3.bias"][16:],
        w["depthwise.weight"][16:],
    ]
    parts += [w["depthwise.bias"][16:], w["point.weight"][:, 16:].swapaxes(0, 1)]
    expected = np.sqrt(sum(np.square(part.reshape(12, -1)).sum(1) for part in parts))
    scores = magnitude(program, coupling)
    np.testing.assert_allclose(scores[dense.start : dense.start + 12], expected, rtol=1e-5)
    scores[: coupling.groups[0].count] = 0
    found = relative(scores, coupling)
    np.testing.assert_allclose(found[dense.start : dense.start + 12], expected / expected.mean(), rtol=1e-5)
    for group in coupling.groups:
        assert found[group.start : group.start + group.count].mean() == pytest.approx(1)


def test_an_impossible_target_names_the_smallest_reachable_share(tmp_path: Path) -> None:
    source, out = GRAPHS / "vit20.onnx", tmp_path / "out.onnx"
    with pytest.raises(PlanError, match=r"keeps (0\.\d+) of them") as caught:
        prune_onnx(source, out, {"params": 0.05})
    assert not list(tmp_path.iterdir())
    smallest = float(str(caught.value).split("keeps ")[1].split()[0])
    done = prune_onnx(source, out, {"params": smallest})
    assert done.met and all(group.kept == (8 if group.total == 72 else 1) for group in done.groups)


def test_a_target_between_coarse_steps_is_said_to_be_missed(tmp_path: Path) -> None:
    done = prune_onnx(GRAPHS / "vit20.onnx", tmp_path / "out.onnx", {"params": 0.97}, align=36, least=36)
    assert not done.met and abs(done.reached - 0.97) < 0.1 and done.target == OnnxTarget("params", 0.97)


@pytest.mark.parametrize("target", [{}, {"params": 0.5, "macs": 0.5}, {"params": 0.0}, {"macs": 1.0}, {"size": 0.5}])
def test_a_target_that_makes_no_sense_is_refused(target: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(PlanError):
        prune_onnx(GRAPHS / "vit20.onnx", tmp_path / "out.onnx", target)
    with pytest.raises(PlanError, match="unknown importance 'taylor'"):
        prune_onnx(GRAPHS / "vit20.onnx", tmp_path / "out.onnx", {"params": 0.5}, importance="taylor")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "damage", [truncated, lambda data: b"", lambda data: b"not a model" * 9, lambda data: data[:-1]]
)
def test_a_damaged_file_is_refused_in_a_sentence(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    source.write_bytes(damage((GRAPHS / "vit20.onnx").read_bytes()))
    with pytest.raises(ExportError, match="not a whole ONNX model"):
        prune_onnx(source, out, {"params": 0.7})
    with pytest.raises(ExportError, match="is not a file"):
        prune_onnx(tmp_path / "missing.onnx", out, {"params": 0.7})
    assert list(tmp_path.iterdir()) == [source]


def test_a_failure_at_the_end_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"old")
    with pytest.raises(ExportError, match="exists; choose another file"):
        prune_onnx(GRAPHS / "vit20.onnx", out, {"params": 0.7})
    monkeypatch.setattr("edgeprune_export.onnx_pruning.prune.count_program", failing_second(count_program))
    with pytest.raises(ExportError, match="please report the source graph"):
        prune_onnx(GRAPHS / "vit20.onnx", out, {"params": 0.7}, force=True)
    assert list(tmp_path.iterdir()) == [out] and out.read_bytes() == b"old"
    monkeypatch.undo()
    prune_onnx(GRAPHS / "vit20.onnx", out, {"params": 0.7}, force=True)
    assert list(tmp_path.iterdir()) == [out] and onnx.load(out).graph.node


def failing_second(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Counts one parameter more each time: what is written never equals what was promised."""
    calls = iter(range(9))

    def counted(program: Any) -> Any:
        found = real(program)
        return type(found)(found.params + next(calls), found.macs)

    return counted


def test_weights_beside_the_graph_stay_beside_it(tmp_path: Path) -> None:
    inside = prune_onnx(GRAPHS / "vit23.onnx", tmp_path / "inside.onnx", {"params": 0.7})
    folder = tmp_path / "source"
    folder.mkdir()
    onnx.save(
        onnx.load(GRAPHS / "vit23.onnx"),
        folder / "in.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    out = tmp_path / "out.onnx"
    outside = prune_onnx(folder / "in.onnx", out, {"params": 0.7})
    assert outside.groups == inside.groups
    assert {path.name for path in tmp_path.glob("out*")} == {"out.onnx", "out.onnx.data"}
    assert out.stat().st_size < (tmp_path / "inside.onnx").stat().st_size / 2
    feed = feed_of(onnx.load(out))
    found = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"]).run(None, feed)
    np.testing.assert_array_equal(found[0], run(onnx.load(tmp_path / "inside.onnx"), feed)[0])
    prune_onnx(folder / "in.onnx", out, {"params": 0.6}, force=True)
    assert count(onnx.load(out)).params < outside.after.params
    (folder / "w.bin").unlink()
    with pytest.raises(ExportError, match="not a whole ONNX model"):
        prune_onnx(folder / "in.onnx", tmp_path / "more.onnx", {"params": 0.7})


def test_a_failure_between_graph_and_data_never_pairs_old_with_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, move = tmp_path / "out.onnx", Path.replace
    out.write_bytes(b"old graph")
    (tmp_path / "out.onnx.data").write_bytes(b"old data")

    def interrupted(path: Path, target: Path) -> Path:
        if target == out:
            raise OSError("killed")
        return move(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(OSError, match="killed"), files.replacing(out, force=True) as partial:
        partial.write_bytes(b"new graph")
        partial.with_name("out.onnx.data").write_bytes(b"new data")
    assert not out.exists() and (tmp_path / "out.onnx.data").read_bytes() == b"new data"


def test_the_file_says_what_was_done_and_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    steps: list[int] = []

    @contextmanager
    def track(title: str, total: int) -> Iterator[Callable[[], None]]:
        told.append((title, total))
        yield lambda: steps.append(1)

    done: OnnxPruned = prune_onnx(
        GRAPHS / "cnn.onnx", tmp_path / "out.onnx", {"macs": 0.8}, importance="random", seed=3, track=track
    )
    model = onnx.load(done.file)
    (facts,) = json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA])
    assert (
        facts["target"] == {"metric": "macs", "share": 0.8} and facts["seed"] == 3 and facts["importance"] == "random"
    )
    assert [group["kept"] for group in facts["groups"]] == [group.kept for group in done.groups]
    assert told == [("prune", len(steps))]
    again = prune_onnx(GRAPHS / "cnn.onnx", tmp_path / "again.onnx", {"macs": 0.8}, importance="random", seed=3)
    assert again.file.read_bytes() == done.file.read_bytes()
    other = prune_onnx(GRAPHS / "cnn.onnx", tmp_path / "other.onnx", {"macs": 0.8}, importance="random", seed=4)
    assert other.file.read_bytes() != done.file.read_bytes()


def test_a_pruned_file_can_be_pruned_again(tmp_path: Path) -> None:
    first = prune_onnx(GRAPHS / "vit23.onnx", tmp_path / "one.onnx", {"params": 0.8})
    second = prune_onnx(first.file, tmp_path / "two.onnx", {"params": 0.8})
    assert second.before == first.after
    assert len(json.loads(next(e.value for e in onnx.load(second.file).metadata_props if e.key == METADATA))) == 2
    assert [group.total for group in second.groups] == [group.kept for group in first.groups]


def test_symbols_in_the_shapes_are_fixed_on_request(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="input_shape"):
        prune_onnx(GRAPHS / "optimum_dynamic.onnx", tmp_path / "out.onnx", {"params": 0.7})
    done = prune_onnx(
        GRAPHS / "optimum_dynamic.onnx", tmp_path / "out.onnx", {"params": 0.7}, input_shape=(1, 3, 24, 24)
    )
    shape = onnx.load(done.file).graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [1, 3, 24, 24]


def test_the_temporary_folder_of_another_process_is_left_alone(tmp_path: Path) -> None:
    with another_run(tmp_path / "out.onnx"):
        with files.replacing(tmp_path / "out.onnx", force=True) as partial:
            partial.write_bytes(b"new")
        assert (tmp_path / ".out.onnx.partial-other").is_dir() and (tmp_path / "out.onnx").read_bytes() == b"new"
