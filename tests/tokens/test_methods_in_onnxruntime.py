"""Every method keeps the same tokens in eager torch and in ONNX Runtime, ties and thin pictures included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from edgeprune.models import open_checkpoint
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine
from edgeprune.tokens.methods import CONTROLS, METHODS
from edgeprune.tokens.readings import ALIVE, Geometry, Reduction, TowerOutputs, alive_slots, outputs_from
from edgeprune.tokens.registry.fit import method_plan, why_unfit
from edgeprune_export.graphs.select import QUESTION_ROWS, geometry_of
from edgeprune_runtime import Bundle
from edgeprune_runtime.pictures.packed import pack_picture
from edgeprune_runtime.spec import SelectionSpec, TokenPlan
from tests.checkpoints import tiny_checkpoint
from tests.exports import GATED, SHIPPED, every_method, exported

SIZES = ((120, 170), (50, 140), (140, 60), (96, 96), (300, 290), (3, 900), (900, 3), (30, 260), (1, 1))
Named = dict[str, torch.Tensor]


class Projector:
    """The checkpoint's connector in float64, and the geometry of its pictures."""

    def __init__(self) -> None:
        checkpoint = open_checkpoint(tiny_checkpoint(**GATED[0][0]))
        read = checkpoint.weights.read
        self.geometry: Geometry = geometry_of(checkpoint.spec)
        self.layers = [(read(f"connector.{i}.weight"), read(f"connector.{i}.bias")) for i in (1, 2)]

    def __call__(self, rows: torch.Tensor) -> np.ndarray:
        (w1, b1), (w2, b2) = ([torch.from_numpy(np.array(a)).double() for a in layer] for layer in self.layers)
        hidden = torch.nn.functional.gelu(rows.double() @ w1.T + b1)
        return np.asarray(hidden @ w2.T + b2)


@pytest.fixture(scope="module")
def projector() -> Projector:
    return Projector()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(every_method(), verify=False)


def pictures(bundle: Bundle, selection: SelectionSpec, *, tied: bool) -> list[Named]:
    """Per size one picture with made readings; `tied`: attention in three values only. Absent tiles hold what was there before."""
    outputs, spec_of = bundle.graph(selection.tower).outputs, bundle.manifest.picture
    rng, found = np.random.default_rng(0), []
    for size in SIZES:
        packed = pack_picture(spec_of.place(*size), spec_of)
        tiles = len(packed.slot)
        named: dict[str, np.ndarray] = {}
        for spec in outputs:
            shape = (tiles, *spec.shape[1:])
            if spec.name == ALIVE:
                named[spec.name] = rng.integers(0, 4, shape) > 0
            elif spec.name.startswith(("attention", "wide", "map", "received", "carried")):
                weights = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
                named[spec.name] = rng.integers(0, 3, shape) if tied else weights
            else:
                named[spec.name] = rng.normal(size=shape)
            named[spec.name][np.arange(tiles) >= packed.tiles] = 1e3
        width = bundle.manifest.language.hidden
        named["question"] = rng.normal(size=(QUESTION_ROWS, width))
        named["question_weight"] = (np.arange(QUESTION_ROWS) < 5) / 5
        named["entropy"] = rng.uniform(0, 8, packed.slot.shape)
        host = {"slot": packed.slot, "region": packed.region, "places": packed.places}
        floats = {name: torch.from_numpy(value.astype(np.float32)) for name, value in named.items()}
        found.append(floats | {name: torch.from_numpy(np.array(value)) for name, value in host.items()})
    return found


def session_of(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def plan_of(bundle: Bundle) -> MethodPlan:
    return MethodPlan(1, 2, bundle.manifest.plan.settings)


def eagerly(s: SelectionSpec, named: Named, plan: MethodPlan, geometry: Geometry) -> tuple[TowerOutputs, Reduction]:
    """What torch makes of the same readings."""
    reads = METHODS[s.method].reads(plan)
    names = ("features", *reads.tower, *reads.host, "slot", "region", "places")
    given = {name: named[name] for name in names}
    if METHODS[s.method].own_cuts is not None:
        given["slot"] = alive_slots(named["slot"], named[ALIVE])
    outputs = outputs_from(given, geometry)
    return outputs, METHODS[s.method].reduce(outputs, s.keep, plan)


def agree(bundle: Bundle, session: ort.InferenceSession, s: SelectionSpec, named: Named, projector: Projector) -> bool:
    """Whether graph and eager keep the same tokens; if they do, their rows are the same too."""
    asked = {value.name: named[value.name].numpy() for value in session.get_inputs()}
    visual, kept = session.run(["visual", "kept"], asked)
    outputs, reduction = eagerly(s, named, plan_of(bundle), projector.geometry)
    count = int((kept >= 0).sum())
    assert count == min(s.keep, int((outputs.slot >= 0).sum()))
    if not np.array_equal(kept, reduction.index.numpy()):
        return False
    expected = projector(combine.apply(outputs, reduction))[:count]
    np.testing.assert_allclose(visual[:count], expected, atol=1e-4 * np.abs(expected).max())
    return True


@pytest.mark.parametrize("method", [*METHODS])
def test_graph_and_eager_keep_the_same_tokens(bundle: Bundle, method: str, projector: Projector) -> None:
    selections = {s.graph: s for s in bundle.manifest.selections if s.method == method}
    for selection in selections.values():
        session = session_of(bundle.path(bundle.graph(selection.graph).file))
        # Where sums of many products are compared, a tie made on purpose may fall either way: those see none.
        for tied in (False,) if METHODS[method].steady < 1 else (False, True):
            for named in pictures(bundle, selection, tied=tied):
                assert agree(bundle, session, selection, named, projector)


@pytest.mark.parametrize(("budget", "keep"), [("0.001", 1), ("179", 179)])
@pytest.mark.parametrize("method", ["hired", "downsample", "prumerge+", "recoverable", "todre"])
def test_the_smallest_and_largest_budget_agree_too(budget: str, keep: int, method: str, projector: Projector) -> None:
    bundle = Bundle.open(exported(GATED[0][0], budgets=[budget], plan={"method": method}, parity=False), verify=False)
    (selection,) = bundle.manifest.selections
    assert selection.keep == keep
    session = session_of(bundle.path(bundle.graph(selection.graph).file))
    for named in pictures(bundle, selection, tied=False):
        assert agree(bundle, session, selection, named, projector)


@pytest.mark.parametrize("family", ["internvl", "smolvlm"])
def test_graphs_agree_where_patches_are_merged_and_the_overview_stands_last(family: str) -> None:
    """On every method that fits: one family with a class token, one without."""
    checkpoint = open_checkpoint(tiny_checkpoint(family=family))
    spec = checkpoint.spec
    plan = method_plan(TokenPlan(), spec)
    first, *rest = (
        name
        for name in SHIPPED
        if name != "full" and why_unfit(METHODS[name], plan, spec, checkpoint.weights.shapes) is None
    )
    asked = {"plan": {"method": first}, "more_methods": rest, "parity": False}
    bundle = Bundle.open(exported({"family": family}, budgets=["0.2"], **asked), verify=False)
    selections = bundle.manifest.selections
    assert spec.connector.merge == 2 and {s.method for s in selections} == {first, *rest}
    for selection in selections:
        session = session_of(bundle.path(bundle.graph(selection.graph).file))
        for named in pictures(bundle, selection, tied=False):
            given = {value.name: named[value.name].numpy() for value in session.get_inputs()}
            (kept,) = session.run(["kept"], given)
            outputs, reduction = eagerly(selection, named, plan, geometry_of(spec))
            np.testing.assert_array_equal(kept, reduction.index, err_msg=selection.method)
            places = outputs.slot.flatten()[kept[kept >= 0]]
            assert len(places) == min(selection.keep, int((outputs.slot >= 0).sum()))
            assert (places.diff() > 0).all() and (places >= 0).all()


def test_a_graph_declares_only_the_inputs_that_its_method_reads(bundle: Bundle) -> None:
    names = {
        method: {spec.name for spec in bundle.graph(f"select-{method}-k36").inputs}
        for method in ("hired", "random", "mmtok", "flowcut")
    }
    assert names["hired"] == {"features", "attention_0", "attention_1", "slot", "region"}
    assert names["random"] == {"features", "slot"}
    assert names["mmtok"] == {"features", "projected", "question", "question_weight", "slot"}
    assert names["flowcut"] == {"features", "carried", "slot", "alive"}


def test_the_gate_held_every_method(bundle: Bundle) -> None:
    report = bundle.manifest.parity
    checked = {check.name.partition(":")[0] for check in report.checks}
    assert report.skipped is None
    assert {f"select-{name}-k36" for name in SHIPPED if name not in ("full", *CONTROLS)} <= checked
    assert {"tower", "tower-flowcut-k36"} <= checked


def test_a_greedy_choice_is_one_loop_of_constant_length(bundle: Bundle) -> None:
    """CDPruner's is one loop per block of about sqrt(K) rounds: TensorRT has no loop in a loop."""
    import onnx

    for method in ("divprune", "todre", "todre-kcenter", "mmtok", "cdpruner", "vispruner"):
        graph = onnx.load(bundle.path(f"select-{method}-k36.onnx"), load_external_data=False).graph
        loops = [node.op_type for node in graph.node].count("Scan")
        assert loops == (-(-36 // 7) if method == "cdpruner" else 1)
        assert len(graph.node) < 300, "not unrolled"
