"""One stage of training until it is done: from its last whole checkpoint, and back when it diverges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vocabalign.train.checkpoints import last_complete, step_of
from vocabalign.train.divergence import Diverged
from vocabalign.train.memory_check import check_memory, switch_checkpointing_on
from vocabalign.train.recorder import RecordSteps
from vocabalign.train.rollback import forget_start, go_back, keep_start
from vocabalign.train.trainer import StageTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

    from vocabalign.stages import TrainingOptions
    from vocabalign.train.data import Blocks
    from vocabalign.train.recorder import Recorder
    from vocabalign.train.trainer import Objective

__all__ = ["train_stage"]


def train_stage(
    model: PreTrainedModel,
    objective: Objective,
    blocks: Blocks,
    options: TrainingOptions,
    arguments: TrainingArguments,
    recorder: Recorder,
    *,
    name: str,
    first_step: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
) -> float:
    """Train ``model`` in place for one stage, going on from its last whole checkpoint if there is one.

    After a loss that is no number or a spike it goes back to its last good state, with a lower learning rate.

    Returns:
        Input tokens per second of the steps done now; 0 where none was left to do.

    Raises:
        TrainingError: training diverges whatever the rate, or the disk is full.
    """
    tokens_per_step = options.batch_size * options.accumulation * arguments.world_size * blocks.context
    folder = Path(str(arguments.output_dir))
    if options.gradient_checkpointing:
        switch_checkpointing_on(model)
    if last_complete(folder) is None:
        keep_start(folder, model, arguments)
    if recorder.has_stopped(name):
        arguments.max_steps = step_of(last_complete(folder))
    if step_of(last_complete(folder)) < arguments.max_steps:
        check_memory(model, objective, blocks, options, arguments)
    while True:
        record = RecordSteps(recorder, name, first_step, tokens_per_step)
        scale = options.rollback_rate_factor ** len(recorder.rollbacks(name))
        trainer = StageTrainer(
            model, arguments, blocks, first_step * options.accumulation, objective, options, record, scale
        )
        for callback in callbacks:
            trainer.add_callback(callback)
        checkpoint = last_complete(folder)
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            break
        except Diverged as error:
            diverged = error
        finally:
            trainer.restore_forward()
            if record.bar is not None:
                record.bar.close()
        trainer.forget()
        del trainer
        go_back(diverged, recorder, name, first_step, folder, model, options, arguments)
    forget_start(folder)
    return record.tokens_per_second
