"""The exception tree, re-exported for users of the pruning side; see `edgeprune_runtime.errors` for the drawing."""

from edgeprune_runtime.errors import (
    BackendUnavailable,
    BudgetError,
    BundleError,
    CheckpointError,
    EdgepruneError,
    EngineError,
    ExportError,
    ImageError,
    MeasurementError,
    MissingExtra,
    OutputError,
    ParityError,
    PlanError,
    PromptError,
    RequestError,
)

__all__ = [
    "BackendUnavailable",
    "BudgetError",
    "BundleError",
    "CheckpointError",
    "EdgepruneError",
    "EngineError",
    "ExportError",
    "ImageError",
    "MeasurementError",
    "MissingExtra",
    "OutputError",
    "ParityError",
    "PlanError",
    "PromptError",
    "RequestError",
]
