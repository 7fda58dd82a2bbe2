"""One stage of training on transformers' Trainer: our loss, our data order, checkpoints that can be trusted."""

from __future__ import annotations

import math
import shutil
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, Trainer, TrainingArguments

from vocabalign.errors import TrainingError
from vocabalign.losses.fused import IGNORE
from vocabalign.stages import TrainingOptions
from vocabalign.train.checkpoints import PREFIX, is_disk_full, last_complete, mark_complete, step_of
from vocabalign.train.data import Blocks
from vocabalign.train.recorder import Recorder, RecordSteps

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# (model, batch, items to divide by) -> "loss", with gradient, and its parts for the log.
Objective = Callable[["PreTrainedModel", dict[str, Tensor], Any], dict[str, Tensor]]

WEIGHTS = "model.safetensors"


class StageTrainer(Trainer):
    """Trainer with the stage's objective inside the model's forward.

    The objective replaces ``forward`` on the instance, so that whatever wraps the model (DDP, FSDP,
    autocast) sees hidden states, head and loss as one call, and no logits leave it.

    Args:
        model: float32 master weights.
        arguments: from ``training_arguments``.
        blocks: the text.
        first_batch: batches (over all ranks) that earlier stages took.
        objective: the loss; it must divide by the number of items that it is given.
        options: schedule.
        record: gets every step.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        arguments: TrainingArguments,
        blocks: Blocks,
        first_batch: int,
        objective: Objective,
        options: TrainingOptions,
        record: RecordSteps,
    ) -> None:
        self.blocks, self.first_batch, self.options = blocks, first_batch, options
        self.parts: dict[str, Tensor] = {}
        super().__init__(model=model, args=arguments, callbacks=[record])
        self.remove_callback(PrinterCallback)
        record.trainer = self
        self.model_accepts_loss_kwargs = True  # so that items are counted over the whole accumulated batch
        self.loss_is_scaled_for_ga = True
        self.raw_model = model
        model.forward = types.MethodType(lambda this, num_items, **batch: objective(this, batch, num_items), model)

    def restore_forward(self) -> None:
        """Give the model its own ``forward`` back."""
        for name in ("forward", "_original_forward"):
            self.raw_model.__dict__.pop(name, None)

    # ------------------------------------------------------------------ data

    def get_train_dataloader(self) -> DataLoader:
        """Batches by number, in an order that needs no state to be resumed."""
        sampler = _Batches(
            self.first_batch,
            self.args.max_steps * self.args.gradient_accumulation_steps,
            self.args.per_device_train_batch_size,
            self.args.process_index,
            self.args.world_size,
        )
        return DataLoader(
            self.blocks, batch_sampler=sampler, collate_fn=_as_is, num_workers=self.args.dataloader_num_workers
        )

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        count = torch.stack([batch["labels"].ne(IGNORE).sum() for batch in batch_samples]).sum().to(device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count[None]).sum()
        return count.double() if device.type != "mps" else count.float()

    # ------------------------------------------------------------------ loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective; multiplied by the ranks, because gradients are averaged over them."""
        parts = model(num_items=num_items_in_batch, **inputs)
        loss = parts["loss"]
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss.item()} at step {self.state.global_step + 1}: use a lower learning rate, or look "
                "at the text of that step; the last checkpoint is kept."
            )
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0) + value.detach()
        loss = loss * self.args.world_size
        return (loss, parts) if return_outputs else loss

    def take_parts(self) -> dict[str, float]:
        """The losses of the step that just ended, over all ranks."""
        values = torch.stack([value.float() for value in self.parts.values()])
        if self.args.world_size > 1:
            values = self.accelerator.reduce(values, "sum")
        parts = dict(zip(self.parts, values.tolist(), strict=True))
        self.parts = {}
        return parts

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: Trainer would walk through all parameters at every step."""
        return 0

    # -------------------------------------------------------------- schedule

    def learning_rate_factor(self, step: int) -> float:
        """Linear rise, then a cosine down to the final share; ``step`` counts from 0."""
        warmup = math.ceil(self.options.warmup_share * self.args.max_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, self.args.max_steps - 1 - warmup))
        final = self.options.final_learning_rate_share
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    def learning_rate_at(self, step: int) -> float:
        """The rate that the step was (or will be) taken with."""
        return self.args.learning_rate * self.learning_rate_factor(step)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The schedule of the stage's configuration."""
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or cast(Optimizer, self.optimizer), self.learning_rate_factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # ----------------------------------------------------------- checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"{PREFIX}{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                mark_complete(folder)
        except Exception as error:
            if not is_disk_full(error):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            last = last_complete(folder.parent)
            kept = f"the checkpoint of step {step_of(last)} is kept" if last else "no checkpoint had been written yet"
            raise TrainingError(
                f"No space left for the checkpoint of step {self.state.global_step} in {folder.parent}: free some "
                f"space there and start the same command again; {kept}."
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # Under the names that the model has in memory: save_pretrained renames tensors of some architectures,
        # and Trainer's resume would then leave them as they are without a word.
        if state_dict is not None or self.model is not self.raw_model:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            folder = Path(str(output_dir or self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            save_model(self.model, str(folder / WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if model is not None or self.model is not self.raw_model:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_model(self.model, str(Path(resume_from_checkpoint) / WEIGHTS), strict=True)


class _Batches(Sampler[list[int]]):
    """Numbers of the blocks of each batch of one rank."""

    def __init__(self, first: int, count: int, size: int, rank: int, ranks: int) -> None:
        self.first, self.count, self.size, self.rank, self.ranks = first, count, size, rank, ranks

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.first + self.count):
            start = (batch * self.ranks + self.rank) * self.size
            yield list(range(start, start + self.size))


def _as_is(batch: Any) -> Any:
    return batch


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
) -> float:
    """Train ``model`` in place for one stage, going on from its last whole checkpoint if there is one.

    Returns:
        Input tokens per second of the steps done now; 0 where none was left to do.

    Raises:
        TrainingError: the loss is not finite, or the disk is full.
    """
    tokens_per_step = options.batch_size * options.accumulation * arguments.world_size * blocks.context
    record = RecordSteps(recorder, name, first_step, tokens_per_step)
    trainer = StageTrainer(model, arguments, blocks, first_step * options.accumulation, objective, options, record)
    checkpoint = last_complete(Path(str(arguments.output_dir)))
    if options.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable()
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        trainer.restore_forward()
        if record.bar is not None:
            record.bar.close()
    return record.tokens_per_second
