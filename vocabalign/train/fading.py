"""How much is still learned from the untouched source: less as the model comes near it, nothing once it has passed it.

A teacher holds its successor back on text that it is bad at itself. Both read the same bytes at every step, so what the
source gives to the text beyond the model, at the starts and inside the tokens where it teaches, is known at no cost:
its lead. Where the lead is gone, so is the reason to learn from the source; then it is not run any more either.

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


def weight_after(leads: Sequence[float], fade_from: float, *, window: int = WINDOW) -> float:
    """Between 1, where the source is as far ahead as at the start, and 0, where the model has passed it.

    Args:
        leads: of the steps so far, in nats per label.
        fade_from: share of the lead at the start below which the weight falls in proportion.
        window: steps that are averaged; 1 before two of them have passed.
    """
    if len(leads) < 2 * window:
        return 1.0
    start, now = sum(leads[:window]) / window, sum(leads[-window:]) / window
    if start <= 0 or now <= 0:
        return 0.0
    return min(1.0, now / (fade_from * start))


def is_passed(leads: Sequence[float], *, window: int = WINDOW) -> bool:
    """Whether the source had no lead in the last two windows, each taken as a whole."""
    if len(leads) < 2 * window:
        return False
    return sum(leads[-window:]) <= 0 and sum(leads[-2 * window : -window]) <= 0


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
        fade_from: as in ``weight_after``.
        first_epoch: steps in which no text is read twice. Later the model knows the text by heart and its lead over the
            source says nothing: the weight stays as it was.
    """

    def __init__(self, fading: Fading, recorder: Recorder, fade_from: float, first_epoch: int) -> None:
        self.fading, self.recorder, self.fade_from, self.first_epoch = fading, recorder, fade_from, first_epoch

    def leads(self) -> list[float]:
        """Of the steps of the first epoch, over all stages."""
        return [line[LEAD] for line in self.recorder.lines if LEAD in line and line["step"] <= self.first_epoch]

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Set the weight, and have it recorded with the step."""
        self.fading.passed = any(PASSED in line for line in self.recorder.lines)
        self.fading.weight = 0.0 if self.fading.passed else weight_after(self.leads(), self.fade_from)
        self.recorder.also = {WEIGHT: self.fading.weight}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell that the source was passed, once."""
        last = self.recorder.lines[-1] if self.recorder.lines else {}
        if self.fading.passed or last.get("step", 0) > self.first_epoch or not is_passed(self.leads()):
            return
        step = next(line["step"] for line in reversed(self.recorder.lines) if LEAD in line)
        self.recorder.add({"step": step, "stage": last["stage"], PASSED: True})
        if args.should_log:
            logger.info(
                "At step %d, where the two can be compared, the model knows this text as well as its source: it learns "
                "from the text alone now, and the source is not run any more.",
                step,
            )
