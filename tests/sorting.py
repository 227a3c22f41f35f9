"""Which markers a test gets, from its place and from what its code reaches, and in which order files are handed to workers."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
#: Markers by place under tests/.
PLACES: dict[str, set[str]] = {
    "structure/test_page_commands.py": {"readme", "slow"},
    "export/engines/": {"engines"},
    "export/onnx_pruning/": {"prune"},
    "pruning/": {"prune"},
    "pruning/test_latency.py": {"alone"},
    # What is not about the product alone: independent references, made checkpoints, other libraries' ways beside ours.
    "references/": {"slow"},
    "models/test_made_": {"slow"},
    "models/test_qwen_traps.py": {"slow"},
    "runtime/test_tiling_library.py": {"slow"},
    "pruning/test_pruned_checkpoints.py": {"slow"},
    "pruning/test_compensation.py": {"slow"},
    "export/onnx_pruning/test_onnx_pruning_equal.py": {"slow"},
    # These export through tables of makers, which `CALLS` does not see through.
    "runtime/test_prefix.py": {"export", "slow"},
    "runtime/test_second_question.py": {"export", "slow"},
    "export/test_classifier_cuts.py": {"export", "slow"},
    "evaluate/test_inside_language_page.py": {"slow"},
}
#: What a test becomes by calling one of these: itself, or in a helper or a fixture.
CALLS: dict[tuple[str, str], set[str]] = {
    ("tests.exports", "exported"): {"export", "slow"},
    ("tests.exports", "every_method"): {"export", "slow"},
    ("tests.exports", "tiny"): {"export"},
    ("edgeprune_export.commands.export", "export"): {"export", "slow"},
    ("edgeprune_export.pruning.prune", "prune"): {"prune"},
}
#: The same for a command of the command line that is run to its end in a test's process.
COMMANDS: dict[str, set[str]] = {"export": {"export", "slow"}, "prune": {"prune"}, "build": {"engines"}}
RUNNERS = {"answer", "invoke"}
#: Code that names one of these asks for what is refused, which takes no time.
REFUSALS = {"raises", "complaint"}
#: What a fixture asks for that imports late.
FIXTURES: dict[str, set[str]] = {"tiny_bundle": {"export"}}
#: Tests that measure this machine and bear a neighbour: never beside each other.
MEASURING = ("runtime/meters/", "export/test_memory.py", "cli/test_profile.py")


def mark(item: pytest.Item) -> None:
    """Add the markers of a test."""
    place = item.path.relative_to(TESTS).as_posix()
    found = {name for start, names in PLACES.items() if place.startswith(start) for name in names}
    for function in _functions(item):
        found |= reached(function)
    for fixture in FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
        found |= FIXTURES[fixture]
    for name in sorted(found):
        item.add_marker(name)
    if place.startswith(MEASURING):
        item.add_marker(pytest.mark.xdist_group("measuring"))


def longest_first(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that the last ones to be handed out are short; the order within a file stays."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    readme = {item.path for item in items if item.get_closest_marker("readme")}
    items.sort(key=lambda item: (item.path not in readme, item.path not in slow))


@functools.cache
def reached(function: types.FunctionType) -> frozenset[str]:
    """Markers that the code of a function asks for, with that of the tests' own functions it names."""
    found: set[str] = set()
    seen, waiting = {function}, [function]
    while waiting:
        here = waiting.pop()
        names, texts = _named(here.__code__)
        asked: set[str] = set()
        if names & RUNNERS and texts & {"--out", "-o"}:
            asked |= {marker for command in COMMANDS.keys() & texts for marker in COMMANDS[command]}
        for name in names & here.__globals__.keys():
            value = here.__globals__[name]
            value = value if isinstance(value, types.FunctionType) else getattr(value, "__wrapped__", None)
            if isinstance(value, types.FunctionType):
                asked |= CALLS.get((value.__module__, value.__name__), set())
                if value not in seen and Path(value.__code__.co_filename).is_relative_to(TESTS):
                    seen.add(value)
                    waiting.append(value)
        found |= asked - {"slow"} if names & REFUSALS else asked
    return frozenset(found)


def _functions(item: pytest.Item) -> Iterator[types.FunctionType]:
    """The test's own function and those of its fixtures."""
    if isinstance(item, pytest.Function):
        yield item.function  # type: ignore[misc]
        for definitions in item._fixtureinfo.name2fixturedefs.values():
            for definition in definitions:
                if isinstance(definition.func, types.FunctionType):
                    yield definition.func


def _named(code: types.CodeType) -> tuple[set[str], set[str]]:
    """Names and text constants of code and of the functions inside it."""
    names, texts = set(code.co_names), {constant for constant in code.co_consts if isinstance(constant, str)}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            more_names, more_texts = _named(constant)
            names, texts = names | more_names, texts | more_texts
    return names, texts
