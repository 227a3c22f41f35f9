"""Whether a method can work on a model, said before any work is done."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence

import msgspec

from edgeprune.errors import PlanError
from edgeprune.models.spec import ModelSpec
from edgeprune.plan import MethodPlan
from edgeprune.tokens.readings import READINGS
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune_runtime.registry import Registry
from edgeprune_runtime.spec import TokenPlan

#: The method where nobody names one: the first that fits. The second is the best of those that need no class token on both reference models.
DEFAULTS = ("hired", "divprune")


def method_plan(plan: TokenPlan, model: ModelSpec) -> MethodPlan:
    """What methods of `plan` are told when they work on `model`."""
    return MethodPlan(model.feature_layer, model.vision.layers - 1, plan.settings, model.vision.class_tokens > 0)


def with_default(
    plan: TokenPlan, model: ModelSpec, weights: Container[str], registry: Registry[Method]
) -> tuple[TokenPlan, str | None]:
    """A plan that names a method, and a sentence where that had to be another than the first of DEFAULTS.

    weights: names of the tensors that the checkpoint holds. The plan's settings decide nothing: they are for the method that is taken.
    """
    if plan.method is not None:
        return plan, None
    bare = method_plan(msgspec.structs.replace(plan, settings={}), model)
    reasons = {name: why_unfit(registry[name], bare, model, weights) for name in DEFAULTS}
    taken = next((name for name in DEFAULTS if reasons[name] is None), DEFAULTS[0])
    first = DEFAULTS[0]
    why = None if taken == first else f"method {taken}, as {first} does not fit: {reasons[first]}"
    return msgspec.structs.replace(plan, method=taken), why


def require_fit(
    methods: Iterable[str], plan: MethodPlan, model: ModelSpec, weights: Container[str], registry: Registry[Method]
) -> None:
    """Raise PlanError, naming methods that fit, for one that cannot work on this model, or for settings nobody reads.

    weights: names of the tensors that the checkpoint holds.
    """
    chosen = [registry[name] for name in methods]
    _require_settings(chosen, plan, model)
    for method in chosen:
        reason = why_unfit(method, plan, model, weights)
        if reason is not None:
            fitting = [name for name in registry if why_unfit(registry[name], plan, model, weights) is None]
            raise PlanError(
                f"method {method.name} does not fit this model: {reason}; methods that fit: {', '.join(fitting)}; "
                f"choose one, as in --method {_shown(fitting)}"
            )


def _shown(fitting: Sequence[str]) -> str:
    """One of those that fit, to type."""
    return next((name for name in DEFAULTS if name in fitting), fitting[0])


def _require_settings(chosen: Sequence[Method], plan: MethodPlan, model: ModelSpec) -> None:
    settings = {setting.name: setting for method in chosen for setting in method.settings}
    for name, value in sorted(plan.settings.items()):
        setting = settings.get(name) or _of_a_layer(name, settings, model)
        if setting is None:
            raise PlanError(f"{_nobody(chosen)} {name!r}; {', '.join(sorted(settings)) or 'none'} can be set")
        most = model.feature_layer if setting.is_layer else setting.most
        if not setting.least <= value <= most or (setting.whole and value % 1 != 0):
            kind = "a whole number, " if setting.whole else ""
            bounds = f"{setting.least:g} to {most:g}" if math.isfinite(most) else f"at least {setting.least:g}"
            raise PlanError(f"setting {name} is {value:g}; expected {kind}{bounds} ({setting.help})")


def _nobody(chosen: Sequence[Method]) -> str:
    if len(chosen) == 1:
        return f"{chosen[0].name} has no setting"
    return f"none of {', '.join(method.name for method in chosen)} has a setting"


def why_unfit(method: Method, plan: MethodPlan, model: ModelSpec, weights: Container[str]) -> str | None:
    """What the model lacks, or None."""
    reads = method.reads(plan)
    tower, merge = model.vision, model.connector.merge
    if "class token" in reads.needs and not tower.class_tokens:
        return f"it reads the class token, and the {tower.kind} tower has none"
    if "overview" in reads.needs and not model.picture.tiling.overview:
        return "it reads the overview, and this model's pictures have none"
    if "single patches" in reads.needs and merge > 1:
        return f"tokens leave one by one inside the tower, and this model's connector merges {merge} x {merge} patches into one"
    for read in reads:
        whole = "whole attention" in READINGS[read.kind].needs
        if whole and read.layer is not None and tower.window_of(read.layer) is not None:
            seeing = ", ".join(str(block) for block in tower.full) or "none"
            return f"it reads attention of vision layer {read.layer}, which attends inside windows; layers that see all: {seeing}"
    for layer in reads.layers:
        if not 0 <= layer < tower.layers:
            return f"it reads vision layer {layer}, and the tower has layers 0 to {tower.layers - 1}"
        if f"tower.{layer}.k.weight" not in weights:
            return f"it reads vision layer {layer}, whose weights this checkpoint does not hold"
    return None


def _of_a_layer(name: str, settings: Mapping[str, Setting], model: ModelSpec) -> Setting | None:
    """The setting that `name` means for one layer of the tower, as in entropy_ratio_3."""
    base, _, layer = name.rpartition("_")
    found = settings.get(base)
    fits = found is not None and found.per_layer and layer.isdecimal() and int(layer) < model.vision.layers
    return found if fits else None
