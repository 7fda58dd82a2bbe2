"""How much is still learned from the untouched source: less as the model passes it, nothing once it is well behind.

A teacher holds its successor back on text that it is bad at itself. Both read the same bytes at every step, so what the
source gives to the text beyond the model, at the starts and inside the tokens where it teaches, is known at no cost:
its lead. An equal teacher is still a good one: what it says is less noisy than the text. One that is behind is not,
and is not run any more.

As with the end of the first stage, what holds for a step follows from what was recorded of the steps before it and from
nothing else, so a run that was interrupted comes to the same, and so do all ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from vocabalign.train.recorder import Recorder

__all__ = ["LEAD", "FadeSource", "Fading", "is_passed", "weight_after"]

logger = logging.getLogger("vocabalign")
LEAD, WEIGHT, PASSED = "source_lead", "source_weight", "source_passed"
# Steps whose leads are averaged: enough that text of one step or another does not decide.
WINDOW = 20


def relative_lead(leads: Sequence[float], entropies: Sequence[float]) -> float:
    """What the source gives to the text beyond the model, as a share of the model's cross-entropy; means of steps."""
    return sum(leads) / sum(entropies)


def weight_after(leads: Sequence[float], entropies: Sequence[float], margin: float, *, window: int = WINDOW) -> float:
    """1 as long as the source is not behind, from there down to 0 where it is behind by ``margin``.

    Args:
        leads: of the steps so far, in nats per label.
        entropies: the model's cross-entropies in the same steps.
        margin: of the cross-entropy.
        window: steps that are averaged; 1 before so many have passed.
    """
    if len(leads) < window:
        return 1.0
    behind = -relative_lead(leads[-window:], entropies[-window:])
    return min(1.0, max(0.0, 1.0 - behind / margin))


def is_passed(leads: Sequence[float], entropies: Sequence[float], margin: float, *, window: int = WINDOW) -> bool:
    """Whether the source was behind by ``margin`` in each of the last two windows, taken as a whole."""
    if len(leads) < 2 * window:
        return False
    last, before = slice(-window, None), slice(-2 * window, -window)
    return all(relative_lead(leads[part], entropies[part]) <= -margin for part in (last, before))


class Fading:
    """What the objective goes by: the weight of all that is learned from the source in this step.

    Attributes:
        weight: 1 to 0.
        passed: the source is not run any more.
    """

    def __init__(self) -> None:
        self.weight, self.passed = 1.0, False


class FadeSource(TrainerCallback):
    """Says before each step what weight the source has, and once that it was passed.

    Args:
        fading: what the objective goes by.
        recorder: of the run; has a step's lead already when the callback is asked.
        margin: as in ``weight_after``.
        first_epoch: steps in which no text is read twice. Later the model knows the text by heart and its lead over the
            source says nothing: the weight stays as it was.
    """

    def __init__(self, fading: Fading, recorder: Recorder, margin: float, first_epoch: int) -> None:
        self.fading, self.recorder, self.margin, self.first_epoch = fading, recorder, margin, first_epoch

    def measured(self) -> tuple[list[float], list[float]]:
        """Leads and cross-entropies of the steps of the first epoch, over all stages."""
        lines = [line for line in self.recorder.lines if LEAD in line and line["step"] <= self.first_epoch]
        return [line[LEAD] for line in lines], [line["cross_entropy"] for line in lines]

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Set the weight, and have it recorded with the step."""
        self.fading.passed = any(PASSED in line for line in self.recorder.lines)
        self.fading.weight = 0.0 if self.fading.passed else weight_after(*self.measured(), self.margin)
        self.recorder.also = {WEIGHT: self.fading.weight}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell that the source was passed, once."""
        last = self.recorder.lines[-1] if self.recorder.lines else {}
        if self.fading.passed or last.get("step", 0) > self.first_epoch or not is_passed(*self.measured(), self.margin):
            return
        step = next(line["step"] for line in reversed(self.recorder.lines) if LEAD in line)
        self.recorder.add({"step": step, "stage": last["stage"], PASSED: True})
        if args.should_log:
            logger.info(
                "At step %d, where the two can be compared, the model knows this text better than its source: it "
                "learns from the text alone now, and the source is not run any more.",
                step,
            )
