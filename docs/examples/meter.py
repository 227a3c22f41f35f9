"""An instrument of your own: major page faults, which say when a board reads weights from its disk again.

    from edgeprune_runtime.meters import METERS
    METERS.add("faults", FaultMeter)

or an entry point in the group `edgeprune.meters`; `edgeprune doctor` lists it. An instrument says why it cannot measure here, and each
reading names its source.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, util


@dataclass(frozen=True)
class Faults:
    """major: pages that were read from a disk during the window."""

    source: str
    major: int


class FaultWindow:
    end = None

    def __init__(self):
        self.start = faults()

    def reading(self):
        if self.end is None:
            raise RuntimeError("the window is still open")
        return Faults("getrusage", self.end - self.start)


class FaultMeter:
    name = "faults"

    def why_unavailable(self):
        return None if util.find_spec("resource") else "this system has no getrusage; measure on Linux"

    @contextmanager
    def window(self):
        window = FaultWindow()
        yield window
        window.end = faults()


def faults():
    resource = import_module("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt
