"""The command line. Each command imports what it needs when it is called, so `edgeprune run` never meets torch."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from edgeprune.cli.boards.devices import devices
from edgeprune.cli.boards.project import project
from edgeprune.cli.boards.recommend import recommend
from edgeprune.cli.bundles import inspect, verify
from edgeprune.cli.doctor import doctor
from edgeprune.cli.importances import importances
from edgeprune.cli.measure.compare import compare
from edgeprune.cli.measure.evaluate import evaluate
from edgeprune.cli.measure.profile import profile
from edgeprune.cli.measure.report import report
from edgeprune.cli.measure.run import run
from edgeprune.cli.methods import methods
from edgeprune.cli.plain_help import HelpCommand, HelpGroup, examples
from edgeprune.cli.prepare.build import build
from edgeprune.cli.prepare.calibrate import calibrate
from edgeprune.cli.prepare.export import export
from edgeprune.cli.prepare.forecast import forecast
from edgeprune.cli.prepare.prune import prune
from edgeprune.cli.prepare.search import search
from edgeprune.cli.prepare.selftest import selftest

app = typer.Typer(
    cls=HelpGroup,
    help="Prune a vision-language model, export it to static ONNX graphs, run it without torch, and measure what that bought.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: Name, command, what it does in a line of the list of commands, and examples of it.
for _name, _command, _does, _examples in (
    (
        "export",
        export,
        "Checkpoint to a sealed bundle of static ONNX graphs.",
        (
            "edgeprune export CHECKPOINT --budget 0.2 --budget 1.0 --out my.bundle",
            "edgeprune export CHECKPOINT --fit device=orin-nano-8gb,ttft=1s --out my.bundle",
        ),
    ),
    (
        "prune",
        prune,
        "Remove heads, channels and blocks for good.",
        ("edgeprune prune CHECKPOINT --structure params=0.7 --images photographs --out smaller",),
    ),
    (
        "forecast",
        forecast,
        "What a recipe will come to, before anything runs.",
        ("edgeprune forecast CHECKPOINT --recipe small.toml",),
    ),
    (
        "search",
        search,
        "How many tokens stay where, for a price.",
        (
            "edgeprune search CHECKPOINT --target macs=0.5 --images photographs --out recipe.toml",
            "edgeprune search vit.safetensors --target accuracy=-1 --images labels.csv --inside absorb",
        ),
    ),
    ("build", build, "TensorRT engines inside a bundle.", ("edgeprune build my.bundle --target rtx:sm89",)),
    (
        "run",
        run,
        "Ask a bundle questions about pictures.",
        ('edgeprune run my.bundle --image photo.jpg --prompt "What is this?"',),
    ),
    (
        "profile",
        profile,
        "Measure time, memory and energy by stage.",
        ("edgeprune profile my.bundle --budget 0.2 --budget 1.0 --out report.json",),
    ),
    (
        "report",
        report,
        "A profile as a page, tables or rows.",
        ("edgeprune report report.json --eval accuracy.json --html report.html",),
    ),
    (
        "compare",
        compare,
        "Two profiles: what takes less, and for certain?",
        ("edgeprune compare before.json after.json",),
    ),
    (
        "eval",
        evaluate,
        "Score answers by budget and method.",
        ("edgeprune eval my.bundle --data questions.jsonl --out accuracy.json",),
    ),
    ("inspect", inspect, "What is in a bundle.", ("edgeprune inspect my.bundle",)),
    ("verify", verify, "Check every file of a bundle against its hash.", ("edgeprune verify my.bundle",)),
    ("methods", methods, "Token-reduction methods, their costs and sources.", ("edgeprune methods hired",)),
    (
        "calibrate",
        calibrate,
        "Freeze what a method draws from pictures.",
        ("edgeprune calibrate CHECKPOINT --method vflowopt --images photographs --out settings.json",),
    ),
    ("importances", importances, "What decides which heads and channels leave.", ("edgeprune importances",)),
    (
        "devices",
        devices,
        "Boards and cards, each figure with its source.",
        ("edgeprune devices orin-nano-8gb-super-kit", "edgeprune devices --check"),
    ),
    (
        "project",
        project,
        "Time on boards that are not here.",
        (
            "edgeprune project llava-onevision-0.5b --device orin-nano-8gb-super",
            "edgeprune project my.bundle --device rtx-4090 --budget 0.2",
        ),
    ),
    (
        "recommend",
        recommend,
        "Which board to take, at which budget.",
        (
            "edgeprune recommend llava-onevision-0.5b --ttft 2s --max-price 500",
            "edgeprune recommend my.bundle --ttft 1s --eval accuracy.json --accuracy -3",
        ),
    ),
    ("doctor", doctor, "What is installed here and what works.", ("edgeprune doctor",)),
    ("selftest", selftest, "Try a backend on this device.", ("edgeprune selftest --backend onnxruntime",)),
):
    app.command(_name, cls=HelpCommand, short_help=_does, epilog=examples(_examples))(_command)


def _version(shown: bool) -> None:
    if shown:
        from importlib.metadata import version

        typer.echo(f"edgeprune {version('edgeprune')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


class _Ended(KeyboardInterrupt):
    """Another process asked this one to end: unwound like Ctrl-C, so that nothing half done stays behind."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Entry point of the `edgeprune` command."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")  # a narrow encoding shows less, and breaks nothing
    _unwind_when_asked_to_end()
    try:
        app()
    except BaseException as error:
        interrupt = _interrupt(error)
        if interrupt is None:
            raise
        number = interrupt.number if isinstance(interrupt, _Ended) else signal.SIGINT
        sys.stderr.write("interrupted\n")
        sys.exit(128 + number)
    finally:
        _flush()


def _flush() -> None:
    """Write what is left; where nobody takes it, throw it away, or the interpreter would complain when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _unwind_when_asked_to_end() -> None:
    """SIGTERM (kill, a container that stops, a batch system) and SIGHUP (a closed terminal); `nohup` keeps what it asked for."""

    def end(number: int, _: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)  # once is enough: what follows is tidying up
        raise _Ended(number)

    names = ("SIGTERM", "SIGHUP")  # the second is not on every system
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    for each in signals:
        if signal.getsignal(each) == signal.SIG_DFL:
            signal.signal(each, end)


def _interrupt(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C or signal behind an error, also where a library has turned it into an error of its own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return error
        error = error.__cause__ or error.__context__
    return None
