"""What a Jetson board needs, as far as a machine without one can check it: requirement files, container files and the page that names them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement

from edgeprune.cli import app
from tools.arm64_check.wheels import BOARDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
JETSON = ROOT / "runtime" / "jetson"
PAGE = (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
FILES = [f"{board}.txt" for board in BOARDS]
CONTAINERS = [f"Containerfile.{board}" for board in BOARDS]


def requirements(file: str) -> dict[str, Requirement]:
    lines = (line.split("#")[0].strip() for line in (JETSON / file).read_text(encoding="utf-8").splitlines())
    return {found.name: found for line in lines if line and not line.startswith("-") for found in [Requirement(line)]}


def edgeprune_commands() -> list[list[str]]:
    """Every `edgeprune` command of the page's blocks and tables, in words."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S))
    inline = re.findall(r"`(edgeprune [a-z].*?)`", PAGE)
    return [line.split() for line in [*blocks.splitlines(), *inline] if line.startswith("edgeprune ")]


def test_boards_and_files_are_the_same_set() -> None:
    assert {path.name for path in JETSON.iterdir()} == {*FILES, *CONTAINERS}


@pytest.mark.parametrize("file", FILES)
def test_a_board_installs_versions_that_the_project_allows(file: str) -> None:
    project = [Requirement(text) for text in (*PROJECT["project"]["dependencies"], *EXTRAS["jetson"])]
    wanted = requirements(file)
    assert {"numpy", "cuda-bindings", "onnx", "onnx-ir"} <= set(wanted)
    for name, requirement in wanted.items():
        allowed = [found for found in project if found.name == name]
        (lowest,) = (part.version for part in requirement.specifier if part.operator == ">=")
        assert allowed, f"the project does not ask for {name}"
        assert all(lowest in found.specifier for found in allowed), f"{requirement} is not within {allowed}"


@pytest.mark.parametrize("file", FILES)
def test_the_extra_for_boards_adds_nothing_that_the_file_leaves_open(file: str) -> None:
    assert {Requirement(text).name for text in EXTRAS["jetson"]} <= set(requirements(file))


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_compiled_and_tensorrt_is_the_systems_own(file: str) -> None:
    text = (JETSON / file).read_text(encoding="utf-8")
    assert "--only-binary=:all:" in text.splitlines()
    assert not any(name.startswith("tensorrt") for name in requirements(file))


def test_numpy_2_and_a_cuda_runtime_newer_than_the_driver_are_held_back() -> None:
    six, seven = (requirements(file) for file in FILES)
    assert all("2.0" not in found["numpy"].specifier and "1.26.4" in found["numpy"].specifier for found in (six, seven))
    assert "12.8.0" in six["cuda-bindings"].specifier
    assert not any(version in six["cuda-bindings"].specifier for version in ("11.8.7", "12.9.0", "13.0.3"))
    assert "13.0.3" in seven["cuda-bindings"].specifier
    assert not any(version in seven["cuda-bindings"].specifier for version in ("12.9.10", "13.1.0", "13.5.0"))


@pytest.mark.parametrize("board", list(BOARDS))
def test_a_container_installs_the_extra_with_the_file_of_its_jetpack(board: str) -> None:
    text = (JETSON / f"Containerfile.{board}").read_text(encoding="utf-8")
    extras = re.findall(r'pip install .*"\.\[(.*?)\]"', text)
    assert extras == ["jetson"] and set(extras) <= set(EXTRAS)
    assert re.findall(r"--requirement (\S+)", text) == [f"runtime/jetson/{board}.txt"]
    assert "--system-site-packages" in text, "TensorRT is a module of the system's Python"


@pytest.mark.parametrize("board", list(BOARDS))
def test_a_container_is_given_all_that_the_wheel_is_made_of(board: str) -> None:
    text = (JETSON / f"Containerfile.{board}").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for word in line.split()}
    project = PROJECT["project"]
    folders = {name.split("/")[0] for name in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert copied == {"pyproject.toml", project["readme"], *project["license-files"], *folders}
    assert all((ROOT / name).exists() for name in copied)


def test_the_page_names_the_files_and_they_exist() -> None:
    named = set(re.findall(r"runtime/jetson/([\w.]+\w)", PAGE))
    assert named == {*FILES, *CONTAINERS}
    for link in re.findall(r"\]\(([\w/.]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link


def test_every_command_and_option_of_the_page_exists() -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = edgeprune_commands()
    assert {"build", "selftest", "run", "profile", "doctor", "export", "verify"} <= {words[1] for words in found}
    for _edgeprune, name, *words in found:
        assert name in commands, name
        parameters = commands[name].params
        options = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [word for word in words if word.startswith("--") and word not in options]
        assert not unknown, f"{name} has no {unknown}"


def test_the_page_says_that_no_board_has_run_it() -> None:
    assert "We have run nothing of this page on a Jetson" in PAGE
