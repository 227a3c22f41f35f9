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
from edgeprune.cli.prepare.build import build
from edgeprune.cli.prepare.calibrate import calibrate
from edgeprune.cli.prepare.export import export
from edgeprune.cli.prepare.forecast import forecast
from edgeprune.cli.prepare.prune import prune
from edgeprune.cli.prepare.selftest import selftest
from edgeprune.cli.usage import PlainGroup

app = typer.Typer(
    cls=PlainGroup,
    help="Prune a vision-language model, export it to static ONNX graphs, run it without torch, and measure what that bought.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command in (
    ("export", export),
    ("prune", prune),
    ("forecast", forecast),
    ("build", build),
    ("run", run),
    ("profile", profile),
    ("report", report),
    ("compare", compare),
    ("eval", evaluate),
    ("inspect", inspect),
    ("verify", verify),
    ("methods", methods),
    ("calibrate", calibrate),
    ("importances", importances),
    ("devices", devices),
    ("project", project),
    ("recommend", recommend),
    ("doctor", doctor),
    ("selftest", selftest),
):
    app.command(_name)(_command)


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
