"""Whether a method can work on a model, said before any work is done."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from edgeprune.errors import PlanError
from edgeprune.models.spec import ModelSpec
from edgeprune.plan import TokenPlan
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune_runtime.registry import Registry


def require_fit(
    methods: Iterable[str], plan: TokenPlan, model: ModelSpec, weights: Container[str], registry: Registry[Method]
) -> None:
    """Raise PlanError, naming methods that fit, for one that cannot work on this model, or for settings nobody reads.

    weights: names of the tensors that the checkpoint holds.
    """
    chosen = [registry[name] for name in methods]
    for method in chosen:
        reason = why_unfit(method, plan, model, weights)
        if reason is not None:
            fitting = [name for name in registry if why_unfit(registry[name], plan, model, weights) is None]
            raise PlanError(
                f"method {method.name} does not fit this model: {reason}; methods that fit: {', '.join(fitting)}; "
                "choose one with --method"
            )
    _require_settings(chosen, plan, model)


def _require_settings(chosen: Sequence[Method], plan: TokenPlan, model: ModelSpec) -> None:
    settings = {setting.name: setting for method in chosen for setting in method.settings}
    for name, value in sorted(plan.settings.items()):
        setting = settings.get(name) or _of_a_layer(name, settings, model)
        if setting is None:
            has = f"it has {', '.join(sorted(settings))}" if settings else "it has none"
            raise PlanError(f"{' and '.join(m.name for m in chosen)} has no setting {name!r}; {has}")
        if not setting.least <= value <= setting.most:
            raise PlanError(
                f"setting {name} is {value:g}; expected {setting.least:g} to {setting.most:g} ({setting.help})"
            )


def why_unfit(method: Method, plan: TokenPlan, model: ModelSpec, weights: Container[str]) -> str | None:
    """What the model lacks, or None."""
    reads = method.reads(plan)
    tower = model.vision
    if reads.class_token and not tower.prefix_tokens:
        return f"it reads the class token, and the {tower.kind} tower has none"
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
