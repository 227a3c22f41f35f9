"""Bayesian optimisation with optuna's tree-structured Parzen estimator: what stays of those that arrive at each place, scaled to the price."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from edgeprune.schedules.kept import Kept, dearest
from edgeprune.schedules.trials import Trials
from edgeprune_runtime.errors import MissingExtra
from edgeprune_runtime.installed import how_to_install

_LEAST = 0.3  # share of those that arrive, before it is scaled
_IDLE = 4  # draws in a row, as a multiple of the trials, that lead to nothing new


def require_optuna() -> None:
    """Raise MissingExtra where it is not installed."""
    if find_spec("optuna") is None:
        raise MissingExtra(
            f"--by bayes needs optuna, not installed here; install with {how_to_install('optuna')}, or take --by greedy"
        )


def bayes(starts: Sequence[Kept], trials: Trials, seed: int) -> None:
    """Judge `starts` first; draws are told to the optimiser with their cost, those that cannot be as failed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    count = len(starts[0])
    for start in starts:
        if not trials.over and trials.new(start):
            trials.judge(start)
    study.enqueue_trial({f"stay_{number}": (1 + _LEAST) / 2 for number in range(count)})
    idle = 0
    while not trials.over and idle < _IDLE * trials.most:
        trial = study.ask()
        stay = [trial.suggest_float(f"stay_{number}", _LEAST, 1.0) for number in range(count)]
        kept = scaled(stay, trials)
        if kept is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            idle += 1
            continue
        idle = 0 if trials.new(kept) else idle + 1
        study.tell(trial, trials.judge(kept))


def scaled(stay: Sequence[float], trials: Trials) -> Kept | None:
    """What stays of those that arrive, raised to the power that the price asks for."""

    def family(at: float) -> Kept:
        exponent, left, found = 1 / max(at, 1e-6) - 1, 1.0, []
        for share in stay:
            left *= share**exponent
            found.append(left)
        return tuple(found)

    return dearest(family, trials.price, trials.limit)
