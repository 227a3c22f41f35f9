"""Whether a rank graph lets the same rows go on as the method's own torch function on what the graph was given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch

from edgeprune.tokens.inside.place import CutPlace
from edgeprune_export.graphs.rank import Ranking, ranking_inputs
from edgeprune_runtime.bundle import Bundle

#: Two scores closer than this share of the larger may come in either order: products are summed in another one.
_TIE = 1e-5


def means_of_rows(
    bundle: Bundle, place: CutPlace, given: Mapping[str, np.ndarray], origin: np.ndarray, prompt: int
) -> dict[int, np.ndarray]:
    """Rows of the prompt at which means of rows that leave stand -> their weights [S], by the method's function on what the graph was given.

    origin [n]: which row of a prompt of S each row of the stage before is
    """
    if not place.language.stages[place.number].recycles:
        return {}
    ranking = Ranking(place)
    named = {name: torch.from_numpy(np.array(value)) for name, value in _values(bundle, place, given).items()}
    with torch.inference_mode():
        means = ranking.recycled(named, *ranking.score(named))
    assert means is not None
    found = {}
    for number in range(int(means.number)):
        found[int(origin[int(means.centres[number])])] = weights = np.zeros(prompt, np.float32)
        weights[origin] = means.weights[number, : len(origin)].numpy()
    return found


def share_of_rows(bundle: Bundle, place: CutPlace, given: Mapping[str, np.ndarray], rows: np.ndarray) -> float:
    """Share of rows on which graph and method agree, apart from ties. given: the graph's inputs by name; rows [n]: what it let go on, of the
    stage before."""
    ranking = Ranking(place)
    named = {name: torch.from_numpy(np.array(value)) for name, value in _values(bundle, place, given).items()}
    with torch.inference_mode():
        score, known = ranking.score(named)
        chosen = ranking.forward(*(named[name] for name in ranking_inputs(place)))[0].flatten().numpy()
    wanted, found = set(chosen.tolist()), set(rows.tolist())
    differing = sorted(wanted ^ found)
    if not differing:
        return 1.0
    edge = float(score[torch.tensor(sorted(wanted & set(known.visual.nonzero().flatten().tolist())))].min())
    own = [row for row in differing if row < len(score)]  # the others are means
    tied = [row for row in own if abs(float(score[row]) - edge) <= _TIE * max(abs(edge), abs(float(score[row])))]
    return 1.0 if len(tied) == len(differing) else 1 - len(differing) / max(1, int(known.visual.sum()))


def _values(bundle: Bundle, place: CutPlace, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a traced ranking takes: inputs of the graph, and values that nodes before it make."""
    names = ranking_inputs(place)
    cached = {name: f"past_{name}_{place.layer}" for name in ("key", "value")}
    known = {name: given[cached.get(name, name)] for name in names if cached.get(name, name) in given}
    return known | _made(bundle, place, given, [name for name in names if name not in known])


def _made(bundle: Bundle, place: CutPlace, given: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Values inside the rank graph, by their names there."""
    import onnxruntime

    graph = bundle.graph(str(place.language.stages[place.number].rank))
    model = onnx.load(bundle.path(graph.file), load_external_data=True)
    sizes = ranking_inputs(place)
    there = {name for node in model.graph.node for name in node.output}
    wanted = [name for name in names if name in there]
    elements = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    for name in wanted:
        dtype, shape = sizes[name]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, elements[dtype], list(shape)))
    found = {}
    if wanted:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        fed = {value.name: given[value.name] for value in session.get_inputs()}
        found = dict(zip(wanted, session.run(wanted, fed), strict=True))
    for name in names:  # of inputs that the graph does not read, nothing depends on what they are
        dtype, shape = sizes[name]
        found.setdefault(name, np.zeros(shape, dtype))
    return found
