"""A loss that is no number, or a spike: told from the steps so far, named, and what is done about it.

Whether a step diverged is a function of the losses and gradient norms of its stage up to it, as they were recorded,
so a run that was interrupted comes to the same answer, and so do all ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from vocabalign.errors import TrainingError

WINDOW = 64
FEWEST = 20  # steps before a spike can be told
LAST = 5  # steps whose median must be high: one odd batch is no spike
DEVIATIONS = 6.0
# Of a normal distribution's standard deviation, its median absolute deviation is this part.
NORMAL_MAD = 0.6745
SHOWN_DOCUMENTS = 6


class Diverged(Exception):
    """A step after which training cannot go on as it did; caught by ``train_stage``.

    Attributes:
        step: of the run.
        reason: "the loss is nan", say.
        documents: what the step read.
    """

    def __init__(self, step: int, reason: str, documents: Sequence[str]) -> None:
        super().__init__(reason)
        self.step, self.reason, self.documents = step, reason, list(documents)

    def __str__(self) -> str:
        shown = ", ".join(self.documents[:SHOWN_DOCUMENTS])
        more = len(self.documents) - SHOWN_DOCUMENTS
        return f"{self.reason} at step {self.step} (documents {shown}{f' and {more} more' if more > 0 else ''})"


def find_divergence(
    losses: Sequence[float], gradient_norms: Sequence[float], loss_spike: float | None, gradient_spike: float | None
) -> str | None:
    """What is wrong with the last of some steps, or None.

    Args:
        losses: of the steps of a stage so far, the last one included.
        gradient_norms: of the same steps, before clipping.
        loss_spike: the median loss of the last 5 steps may be so many times that of the 64 before, and must be more
            than 6 standard deviations above it to count.
        gradient_spike: the last norm may be so many times the median of the 64 before.
    """
    for name, value in (("the loss", losses[-1]), ("the norm of the gradient", gradient_norms[-1])):
        if not math.isfinite(value):
            return f"{name} is {value}"
    before = losses[-LAST - WINDOW : -LAST]
    if loss_spike is not None and len(before) >= FEWEST:
        usual, now = median(before), median(losses[-LAST:])
        deviation = median(abs(loss - usual) for loss in before) / NORMAL_MAD
        if now > loss_spike * usual and now > usual + DEVIATIONS * deviation:
            return f"the loss rose from {usual:.4g} to {now:.4g}"
    norms = gradient_norms[-1 - WINDOW : -1]
    if gradient_spike is not None and len(norms) >= FEWEST and gradient_norms[-1] > gradient_spike * median(norms) > 0:
        return f"the norm of the gradient rose from {median(norms):.4g} to {gradient_norms[-1]:.4g}"
    return None


def give_up(error: Diverged, rollbacks: int, kept: int) -> TrainingError:
    """What is told when going back does not help."""
    again = f", after going back {rollbacks} times with a lower learning rate each time" if rollbacks else ""
    state = f"the checkpoint of step {kept} is kept" if kept else "no checkpoint had been written yet"
    text = str(error)
    return TrainingError(
        f"{text[0].upper()}{text[1:]}{again}: use a lower learning rate, or look at the text of that step; {state}."
    )
