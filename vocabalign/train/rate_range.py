"""The learning-rate range test: a short run with a rate that grows from step to step, and what its losses advise.

The model is put back as it was afterwards; the batches are those that the stage begins with, so the advice follows
from the run's configuration alone.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vocabalign.errors import TrainingError
from vocabalign.losses.fused import IGNORE
from vocabalign.stages import TrainingOptions
from vocabalign.train.data import Blocks
from vocabalign.train.muon import make_optimizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vocabalign.train.trainer import Objective

__all__ = ["advise", "range_test", "rates", "remembered_rate"]

logger = logging.getLogger("vocabalign")
RATES_FILE = "learning-rates.json"
LOWEST, HIGHEST, STEPS = 1e-5, 1e-1, 48
# Of the smoothed losses: that much of the last one is kept at each step.
SMOOTHING = 0.8
# Times the smallest smoothed loss so far: behind it the test has diverged.
DIVERGED = 1.2
# Below the rate at which the loss was smallest: there a growing rate only just does not spoil what lower ones gained.
BACK_OFF = 3.0


def rates(lowest: float = LOWEST, highest: float = HIGHEST, steps: int = STEPS) -> list[float]:
    """The rates of the steps: each the same factor above the one before."""
    return [lowest * (highest / lowest) ** (step / max(1, steps - 1)) for step in range(steps)]


def advise(tried: Sequence[float], losses: Sequence[float]) -> float:
    """The rate to train with: a third of the one at which the smoothed loss was smallest.

    Args:
        tried: rates, growing.
        losses: of the steps with them; may be shorter where the test ended early.

    Raises:
        TrainingError: the loss is not finite from the first step on.

    Reference:
        Smith (2017), Cyclical learning rates, section 3.3; the back-off as in common implementations.
    """
    values = smoothed(losses)
    if not values:
        raise TrainingError("The loss is not finite before anything was trained: look at the model and the text.")
    return tried[min(range(len(values)), key=values.__getitem__)] / BACK_OFF


def smoothed(losses: Sequence[float]) -> list[float]:
    """Means of the losses so far that forget by ``SMOOTHING`` a step; they end before a loss that is not finite."""
    values: list[float] = []
    total, weight = 0.0, 0.0
    for loss in losses:
        if not math.isfinite(loss):
            break
        total, weight = SMOOTHING * total + loss, SMOOTHING * weight + 1
        values.append(total / weight)
    return values


def range_test(
    model: PreTrainedModel,
    objective: Objective,
    blocks: Blocks,
    options: TrainingOptions,
    *,
    first_batch: int,
    device: torch.device,
    bfloat16: bool = False,
) -> float:
    """Train ``model`` for a few steps with growing rates, put it back, and say which rate to train with.

    Args:
        model: only parameters that require a gradient are trained.
        objective: the loss.
        blocks: the text.
        options: batch, moments, decay and clipping of the run.
        first_batch: number of the first batch.
        device: where the model is.
        bfloat16: whether the run's arithmetic is that.

    Raises:
        TrainingError: the loss is not finite from the first step on.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kept = [parameter.detach().clone() for parameter in trained]
    optimizer = _optimizer(model, trained, options)
    was_training = model.training
    model.train()
    losses: list[float] = []
    tried = rates()
    try:
        for number, rate in enumerate(tried):
            for group in optimizer.param_groups:
                group["lr"] = rate
            first = (first_batch + number) * options.batch_size
            batch = _on(blocks.__getitems__(range(first, first + options.batch_size)), device)
            items = batch["labels"].ne(IGNORE).sum()
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = objective(model, batch, items.double() if device.type != "mps" else items.float())["loss"]
            loss.backward()
            losses.append(float(loss.detach()))
            values = smoothed(losses)
            if len(values) < len(losses) or values[-1] > DIVERGED * min(values):
                break
            torch.nn.utils.clip_grad_norm_(trained, options.max_gradient_norm)
            optimizer.step()
            optimizer.zero_grad()
    finally:
        with torch.no_grad():
            for parameter, value in zip(trained, kept, strict=True):
                parameter.copy_(value)
                parameter.grad = None
        model.train(was_training)
    return advise(tried, losses)


def _optimizer(
    model: PreTrainedModel, trained: list[torch.nn.Parameter], options: TrainingOptions
) -> torch.optim.Optimizer:
    if options.optimizer == "muon":
        return make_optimizer(model, (), lr=LOWEST, betas=options.betas, weight_decay=0.0)
    return torch.optim.AdamW(trained, lr=LOWEST, betas=options.betas, weight_decay=options.weight_decay)


def remembered_rate(folder: Path, name: str) -> float | None:
    """What the test of a stage said in this run, also before an interruption."""
    path = folder / RATES_FILE
    return json.loads(path.read_text()).get(name) if path.exists() else None


def remember_rate(folder: Path, name: str, rate: float) -> None:
    """Write it down for a run that goes on later."""
    path = folder / RATES_FILE
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(known | {name: rate}))
    new.replace(path)
    logger.info("Range test: a learning rate of %.2g for the stage '%s'.", rate, name)


def _on(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
