"""Going back to the last good state of a stage: its last checkpoint, or the weights that it began with."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from vocabalign.errors import TrainingError
from vocabalign.folders import is_disk_full
from vocabalign.stages import TrainingOptions
from vocabalign.train.checkpoints import last_complete, step_of
from vocabalign.train.divergence import Diverged, give_up

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

    from vocabalign.train.recorder import Recorder

logger = logging.getLogger("vocabalign")
START = "start.safetensors"


def is_sharded(arguments: TrainingArguments) -> bool:
    """Whether each rank has only a part of the weights (FSDP, DeepSpeed); on the CPU accelerate makes DDP of it."""
    launched = any(os.environ.get(f"ACCELERATE_USE_{name}", "false") == "true" for name in ("FSDP", "DEEPSPEED"))
    return arguments.device.type != "cpu" and (launched or bool(arguments.fsdp) or bool(arguments.deepspeed))


def keep_start(folder: Path, model: PreTrainedModel, arguments: TrainingArguments) -> None:
    """Write down the weights that a stage will change, before its first step.

    Raises:
        TrainingError: no space is left.
    """
    if arguments.should_save:
        trained = {name: value.detach().cpu() for name, value in model.named_parameters() if value.requires_grad}
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / (START + ".new")
        try:
            save_file({name: value.contiguous() for name, value in trained.items()}, str(new))
            new.replace(folder / START)
        except Exception as error:
            new.unlink(missing_ok=True)
            if not is_disk_full(error):
                raise
            raise TrainingError(
                f"No space left in {folder.parent} for the weights that training begins with: free some space there "
                "and start the same command again."
            ) from error


def forget_start(folder: Path) -> None:
    """The stage is over: its last checkpoint has all."""
    (folder / START).unlink(missing_ok=True)


@torch.no_grad()
def go_back(
    error: Diverged,
    recorder: Recorder,
    stage: str,
    first_step: int,
    folder: Path,
    model: PreTrainedModel,
    options: TrainingOptions,
    arguments: TrainingArguments,
) -> None:
    """Record why, and put the model back as it was; from a checkpoint, the trainer itself does that.

    Raises:
        TrainingError: it has gone back often enough, or the weights are spread over the ranks.
    """
    checkpoint = last_complete(folder) if arguments.should_save or arguments.world_size == 1 else None
    if arguments.world_size > 1:
        torch.distributed.barrier()  # the first rank has cleaned up
        checkpoint = last_complete(folder)
    step = first_step + step_of(checkpoint)
    before = len(recorder.rollbacks())
    if before >= options.max_rollbacks:
        raise give_up(error, before, step) from error
    scale = options.rollback_rate_factor ** (len(recorder.rollbacks(stage)) + 1)
    recorder.rewind(step)
    told = {"from_step": error.step, "reason": error.reason, "documents": error.documents, "learning_rate_scale": scale}
    recorder.add({"step": step, "stage": stage, "rollback": {"to_step": step, **told}})
    text = str(error)
    message = f"{text[0].upper()}{text[1:]}: going back to step {step}, with {scale:g} of the learning rate"
    if is_sharded(arguments):
        raise TrainingError(
            f"{text[0].upper()}{text[1:]}: start the same command again; it goes on from step {step} with {scale:g} of "
            "the learning rate (weights that are spread over processes are put back at a start only)."
        ) from error
    if arguments.should_save:
        logger.warning("%s (%d of %d times).", message, before + 1, options.max_rollbacks)
    model.zero_grad(set_to_none=True)
    if checkpoint is None:
        kept = load_file(folder / START)
        for name, parameter in model.named_parameters():
            if name in kept:
                parameter.copy_(kept[name])
