"""The one exception tree of edgeprune.

EdgepruneError
├── CheckpointError      a source model that is missing, broken or not supported
├── PlanError            a budget, method or option that cannot be carried out
├── ExportError          a graph that could not be built as promised
│   └── ParityError      graph and eager reference differ
├── BundleError          a bundle that is corrupt, truncated, too new or unsafe to read
├── RequestError         something wrong with one request; the session stays usable
│   ├── ImageError       not a picture, truncated, too large, empty
│   ├── PromptError      too long, wrong number of image placeholders
│   └── BudgetError      a budget that the bundle does not hold
├── BackendUnavailable   a backend that cannot run here, and why
│   └── EngineError      engines that are missing, stale or wrong for this device
├── MeasurementError     a report or data file that cannot be used
├── OutputError          a file that cannot be written where it was asked for
└── MissingExtra         an optional dependency that is not installed

Every message says what was found, what was expected and what to do. The command line prints it as one line.
"""

from __future__ import annotations


class EdgepruneError(Exception):
    """Root of all errors a user can cause or meet."""


class CheckpointError(EdgepruneError):
    """The source model is missing, broken or of an unsupported kind."""


class PlanError(EdgepruneError):
    """A budget, method or option cannot be carried out on this model."""


class ExportError(EdgepruneError):
    """A graph could not be built as promised."""


class ParityError(ExportError):
    """A graph and the eager reference differ by more than the stated tolerance."""


class BundleError(EdgepruneError):
    """A bundle is corrupt, truncated, newer than this runtime, or unsafe to read."""


class RequestError(EdgepruneError):
    """One request cannot be answered; the session stays usable."""


class ImageError(RequestError):
    """The picture cannot be decoded safely."""


class PromptError(RequestError):
    """The prompt does not fit the model or the picture."""


class BudgetError(RequestError):
    """The bundle does not hold this budget."""


class BackendUnavailable(EdgepruneError):
    """The backend cannot run here; the message says why and what to do."""


class EngineError(BackendUnavailable):
    """Engines of a bundle are missing, stale or do not fit this device; building them again helps."""


class MeasurementError(EdgepruneError):
    """A report, profile or data file cannot be used."""


class OutputError(EdgepruneError):
    """A file cannot be written where it was asked for."""


class MissingExtra(EdgepruneError):
    """An optional dependency is not installed; the message names the extra."""
