"""Options that several commands share: a word has one meaning, one type and one text in all of them.

Only defaults differ: an option that a function makes takes the words that stand for its default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.complete import device_names_like, inside_names_like, method_names_like

BundleFolder = Annotated[Path, typer.Argument(help="Bundle folder written by `edgeprune export`.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace what is there.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that this command draws.")]
MethodSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the method as NAME=NUMBER; `edgeprune methods NAME` lists them."),
]
Threads = Annotated[
    int, typer.Option("--threads", min=0, max=256, help="Threads per graph; 0 lets the backend choose.")
]
LimitImages = Annotated[int, typer.Option("--limit-images", min=1, help="Calibrate on so many of --images.")]
MeasuredRuns = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="RUN...",
        help="A measured run to learn from: DEVICE,REPORT.json of `edgeprune profile --out`, and ,BUNDLE if it was another one.",
    ),
]
AccuracyFile = Annotated[
    Path | None, typer.Option("--eval", help="Result of `edgeprune eval --out`: accuracy beside the times.")
]
Ttft = Annotated[str | None, typer.Option("--ttft", help="Time to the first token, at most: 1s, 500ms.")]
TokensPerS = Annotated[str | None, typer.Option("--tokens-per-s", help="Tokens per second, at least: 10.")]
AccuracyOption = Annotated[
    str | None,
    typer.Option(
        "--accuracy", help="With --eval: points below the full budget at most (-3), or per cent right at least (85)."
    ),
]
SkipEqual = Annotated[
    float | None,
    typer.Option(
        "--skip-equal",
        metavar="LEVELS",
        min=0,
        max=254,
        help="Leave out visual tokens whose pixels are those of one before them, every channel within so many of 255 levels; 0: equal.",
        show_default="none is left out",
    ),
]
MaxEnergy = Annotated[str | None, typer.Option("--max-energy", help="Joules of an answer, at most: 5J.")]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="Tables for a pull request.")]
PictureSize = Annotated[
    str | None,
    typer.Option("--size", help="WIDTHxHEIGHT of the picture.", show_default="one that fills the largest tile grid"),
]
MaxTokens = Annotated[
    int,
    typer.Option(
        "--max-tokens",
        min=1,
        help="Tokens of an answer: at most so many, and exactly so many where it is timed or projected.",
    ),
]


def _option(
    *names: str,
    help: str,
    default: str | None,
    several: str | None = None,
    complete: Callable[[str], list[str]] | None = None,
) -> Any:
    """`default`: words for what stands in its place. `several`: what it takes, where it can be repeated. `complete`: after a tab."""
    metavar = f"{several}..." if several else None
    return typer.Option(*names, help=help, show_default=default or True, metavar=metavar, autocompletion=complete)


def out_option(default: str | None = None) -> Any:
    return _option("--out", "-o", help="File or folder to write.", default=default)


def budget_option(default: str | None = None, *, several: bool = True) -> Any:
    text = "Visual tokens to keep: a share (0.2) or a number (576)."
    return _option("--budget", "-b", help=text, default=default, several="BUDGET" if several else None)


def method_option(default: str | None = None, *, several: bool = False) -> Any:
    text = "Token-reduction method, see `edgeprune methods`. To make something, also file.py:NAME."
    several_of = "METHOD" if several else None
    return _option("--method", "-m", help=text, default=default, several=several_of, complete=method_names_like)


def inside_option(default: str = "none", *, several: str | None = "PLAN") -> Any:
    text = (
        "Tokens that leave inside the model. To make a bundle METHOD@LAYERS:KEEP, as in fastv@2:0.5 (before layer 2 of the language model, "
        "half of the picture's rows that enter it) or evit@3,6,9:0.7 (at these blocks of the tower, a share of those that arrive at each), "
        "once for each part; to search METHOD, or METHOD@LAYERS for these layers only; of a bundle what stays at the cuts of its language "
        "model: 0.5, 64,16 or none (nobody leaves)."
    )
    return _option("--inside", help=text, default=default, several=several, complete=inside_names_like)


def positions_option(default: str | None = None) -> Any:
    text = "Positions of kept tokens: as in the whole picture, or contiguous."
    return _option("--positions", help=text, default=default)


def separators_option(default: str | None = None) -> Any:
    text = "Separators below budget 1.0 (newlines of mosaic rows): all, of rows with a kept token, or none."
    return _option("--separators", help=text, default=default)


def prompt_option(*, several: bool = False) -> Any:
    return _option("--prompt", "-p", help="Question to ask.", default=None, several="TEXT" if several else None)


def image_option(default: str | None = None) -> Any:
    return _option("--image", "-i", help="Picture file.", default=default, several="PATH")


def images_option() -> Any:
    text = (
        "Folder of pictures like those the model will see; for prune also questions (.jsonl), labels (.csv) or inputs of a graph (.npy), for "
        "search also labels."
    )
    return _option("--images", help=text, default=None)


def target_option(*, several: bool = False) -> Any:
    text = (
        "What to aim at. To build: rtx:sm86,sm89,sm120 builds ahead of time, without a GPU (sm86: RTX 30, sm89: RTX 40 and L4, sm120: RTX 50); "
        "rtx and tensorrt (Jetson, servers) build on the device that will run them; onnxruntime makes half-precision graphs for its CUDA and "
        "TensorRT providers; repeat for several. To search: a share of the whole model (macs=0.6, cache=0.4, ttft=0.5; of a classifier "
        "latency=0.7), an amount (cache=20MiB, ttft=300ms), or the fewest MACs with points that may be lost (accuracy=-1)."
    )
    return _option("--target", "-t", help=text, default=None, several="TARGET" if several else None)


def recipe_option() -> Any:
    text = "Token plan, structured pruning and stored weights from a TOML file; see `edgeprune forecast`."
    return _option("--recipe", help=text, default=None)


def device_option(default: str | None = None) -> Any:
    text = "Board: NAME, NAME@MODE or a .toml file; see `edgeprune devices`."
    return _option("--device", "-d", help=text, default=default, several="DEVICE", complete=device_names_like)


def weights_option() -> Any:
    text = (
        "How weights are stored. int8: all linear layers; int4: those of the language model, the tower in int8. Activations are quantised as "
        "it runs: measure quality with eval."
    )
    return _option("--weights", help=text, default=None)


def compute_option(default: str | None = None) -> Any:
    text = "What a GPU computes products and the KV cache in; everything between is float32."
    return _option("--compute", help=text, default=default)


def max_memory_option(default: str | None = None) -> Any:
    text = "Memory that weights, cache, activations and runtime may take: 8GB."
    return _option("--max-memory", help=text, default=default)


def tiles_from_text(text: str) -> int:
    """A number of tiles; "none" is 0, one view of the whole picture."""
    if text != "none" and not text.isdecimal():
        raise typer.BadParameter(
            f"{text!r} is no number of tiles; give 1, 2 and so on, or none for one view of the whole picture"
        )
    return 0 if text == "none" else int(text)


def tiles_option(default: str | None = None, *, several: bool = False) -> Any:
    text = "Most tiles of a picture beside its overview; none: one view of the whole picture."
    words = default or "as many as the model takes"
    metavar = "N|none..." if several else "N|none"
    return typer.Option("--tiles", parser=tiles_from_text, metavar=metavar, help=text, show_default=words)


def size_from_text(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH as two numbers."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise typer.BadParameter(f"{text!r} is no grid; give its height and width in pixels, as in 448x448")
    return int(height), int(width)


def sizes_from_texts(texts: list[str] | None) -> tuple[tuple[int, int], ...] | None:
    """What --grid says; None where it is not given."""
    return None if texts is None else tuple(size_from_text(text) for text in texts)


def grid_option() -> Any:
    text = "For a model that takes any size: a grid that pictures are resized to, where its proportions are nearest."
    return _option("--grid", help=text, default="grids of --tokens", several="HxW")


def tokens_option() -> Any:
    text = "For a model that takes any size: visual tokens that a picture becomes before pruning, on grids of the common proportions."
    return _option("--tokens", help=text, default="256")


def given(context: typer.Context, name: str) -> bool:
    """True for an option that stands on the command line; `name` is that of the parameter."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def alone(context: typer.Context, kind: str, besides: Collection[str]) -> None:
    """Refuse options on the command line that mean nothing for this kind of work: what a recipe says, what a classifier has not."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if given(context, name) and name not in (kind, *besides):
            raise typer.BadParameter(f"{parameter.opts[0]} cannot be given with a {kind}; leave one of them out")
