"""When training the rows alone has stopped paying, told from the losses that were recorded so far.

The decision after a step is a function of the losses up to that step and of nothing else, so a run that was interrupted
comes to the same one, and so do all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from vocabalign.train.recorder import Recorder

__all__ = ["EndStage", "has_stopped_paying", "losses_of"]

# Steps whose losses are averaged: enough that text of one step or another does not decide.
WINDOW = 20
# Of the loss: less than this from one window to the next is a stage that hardly moves.
LEAST_GAIN = 0.02


def has_stopped_paying(losses: Sequence[float], *, window: int = WINDOW, least_gain: float = LEAST_GAIN) -> bool:
    """Whether the mean loss of the last ``window`` steps is not ``least_gain`` of itself below that of the ones before.

    Args:
        losses: of every step of the stage so far.
        window: steps that are averaged; nothing is decided before two of them have passed.
        least_gain: relative.
    """
    if len(losses) < 2 * window:
        return False
    before = sum(losses[-2 * window : -window]) / window
    now = sum(losses[-window:]) / window
    return before - now < least_gain * abs(before)


def losses_of(recorder: Recorder, stage: str) -> list[float]:
    """The losses of a stage's steps that were recorded, in their order."""
    return [line["loss"] for line in recorder.lines if line.get("stage") == stage and "loss" in line]


class EndStage(TrainerCallback):
    """Ends a stage, with a checkpoint, when it has stopped paying.

    Args:
        recorder: of the run; has this step's loss already when the callback is asked.
        stage: whose losses count.
    """

    def __init__(self, recorder: Recorder, stage: str) -> None:
        self.recorder, self.stage = recorder, stage

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Decide."""
        if has_stopped_paying(losses_of(self.recorder, self.stage)):
            control.should_training_stop = control.should_save = True
