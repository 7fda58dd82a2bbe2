"""How the learning rate of a stage goes up and down: a factor of its peak for every step."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "learning_rate_factor"]


def learning_rate_factor(
    schedule: str, step: int, steps: int, *, warmup_share: float, decay_share: float, final_share: float
) -> float:
    """The factor for ``step``, counted from 0; after a linear rise the schedule takes over.

    Args:
        schedule: a name in ``SCHEDULES``.
        step: at or behind ``steps`` counts as the last one.
        steps: of the stage.
        warmup_share: share of the steps in which the rate rises.
        decay_share: share of the steps at the end in which ``warmup-stable-decay`` falls.
        final_share: where the schedule ends.
    """
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    passed = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    # Of the steps behind the rise, so many are at the peak.
    stable = max(0.0, 1 - decay_share * steps / max(1, steps - warmup))
    return final_share + (1 - final_share) * SCHEDULES[schedule](passed, stable)


def _cosine(passed: float, stable: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * passed))


def _linear(passed: float, stable: float) -> float:
    return 1 - passed


def _constant(passed: float, stable: float) -> float:
    return 1.0


def _warmup_stable_decay(passed: float, stable: float) -> float:
    """The peak until ``stable``, then linearly down: a run can be lengthened without another beginning."""
    return 1.0 if passed <= stable or stable >= 1 else (1 - passed) / (1 - stable)


# (share of the steps behind the rise that have passed, share of them that stays at the peak) -> 1 ... 0
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "warmup-stable-decay": _warmup_stable_decay,
    "constant": _constant,
}
