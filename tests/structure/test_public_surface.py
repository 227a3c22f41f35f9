"""The names that users of the runtime may rely on, written down: a change here is a change of the interface."""

from __future__ import annotations

import inspect

import pytest

import edgeprune_runtime
from edgeprune_runtime import errors

NAMES = {
    "Answer",
    "Bundle",
    "EdgepruneError",
    "Model",
    "Piece",
    "RequestError",
    "Sampling",
    "ShownPicture",
    "Span",
    "Turn",
    "View",
}
TREE = {
    "EdgepruneError": "Exception",
    "CheckpointError": "EdgepruneError",
    "PlanError": "EdgepruneError",
    "ExportError": "EdgepruneError",
    "ParityError": "ExportError",
    "BundleError": "EdgepruneError",
    "RequestError": "EdgepruneError",
    "ImageError": "RequestError",
    "PromptError": "RequestError",
    "BudgetError": "RequestError",
    "BackendUnavailable": "EdgepruneError",
    "EngineError": "BackendUnavailable",
    "MeasurementError": "EdgepruneError",
    "OutputError": "EdgepruneError",
    "MissingExtra": "EdgepruneError",
}
_ASK = (
    "(self, prompt, *, image=None, budget=None, method=None, tiles=None, max_tokens=128, sampling=Sampling(), template=True, "
    "stop=True, inside=None)"
)
MODEL = {
    "budget_label": "(self, budget)",
    "open": "(path, *, backend='auto', threads=0, verify=True, wait=False, reuse=True)",
    "close": "(self)",
    "see": "(self, image, *, budget=None, method=None, tiles=None, question=None, skip_equal=None)",
    "see_each": "(self, image, choices, *, tiles=None, question=None, skip_equal=None)",
    "ask": _ASK,
    "stream": _ASK,
    "forget": "(self)",
    "set_policies": "(self, *, positions, separators)",
    "methods": "(self, budget)",
}
ANSWER = ["text", "token_ids", "finish_reason", "prompt_tokens", "visual_tokens", "budget", "method", "kept"]
ANSWER += ["spans", "notes", "pictures", "cached_tokens", "inside"]


def written(function: object) -> str:
    """The signature without its annotations."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return text.replace("Sampling(temperature=0.0, top_p=1.0, seed=0)", "Sampling()")


def test_the_package_offers_exactly_these_names() -> None:
    assert set(edgeprune_runtime.__all__) == NAMES
    assert all(getattr(edgeprune_runtime, name) for name in NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        edgeprune_runtime.Nonsense  # noqa: B018


def test_the_error_tree_is_as_drawn() -> None:
    found = {
        name: kind.__base__.__name__
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    }
    assert found == TREE


def test_methods_of_the_model_have_these_signatures() -> None:
    model = edgeprune_runtime.Model
    methods = {
        name: written(getattr(model, name))
        for name, value in vars(model).items()
        if not name.startswith("_") and not isinstance(value, property)
    }
    assert methods == MODEL
    assert isinstance(vars(model)["budgets"], property)


def test_an_answer_has_these_fields() -> None:
    assert list(edgeprune_runtime.Answer.__dataclass_fields__) == ANSWER
    assert list(edgeprune_runtime.Piece.__dataclass_fields__) == ["token_id", "text", "answer"]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_says_what_it_is(name: str) -> None:
    thing = getattr(edgeprune_runtime, name)
    assert inspect.getdoc(thing)
    assert not inspect.getdoc(thing).startswith(f"{name}("), "written by a person, not by dataclass"


def test_pruning_side_exports_the_same_errors() -> None:
    import edgeprune.errors as pruning

    assert set(pruning.__all__) == set(TREE)
    assert all(getattr(pruning, name) is getattr(errors, name) for name in TREE)
