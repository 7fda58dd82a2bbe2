"""One stage of training on transformers' Trainer: our loss, our data order, checkpoints that can be trusted."""

from __future__ import annotations

import gc
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

from vocabalign.errors import ConfigError, TrainingError
from vocabalign.folders import is_disk_full
from vocabalign.losses.fused import IGNORE
from vocabalign.stages import TrainingOptions
from vocabalign.train.checkpoints import PREFIX, last_complete, mark_complete, step_of
from vocabalign.train.data import Blocks
from vocabalign.train.learning_rates import learning_rate_factor
from vocabalign.train.muon import make_optimizer
from vocabalign.train.recorder import RecordSteps
from vocabalign.train.rollback import is_sharded
from vocabalign.train.spread import gathered_weights, is_spread
from vocabalign.train.trainable import merged_weights

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
        rate_scale: multiplies the learning rate; below 1 after rollbacks.
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
        rate_scale: float = 1.0,
    ) -> None:
        self.blocks, self.first_batch, self.options = blocks, first_batch, options
        self.rate_scale, self._last_norm = rate_scale, 0.0
        self.parts: dict[str, Tensor] = {}
        super().__init__(model=model, args=arguments, callbacks=[record])
        self.remove_callback(PrinterCallback)
        record.trainer = self
        self.model_accepts_loss_kwargs = True  # so that items are counted over the whole accumulated batch
        self.loss_is_scaled_for_ga = True
        self.raw_model = model
        model.forward = types.MethodType(lambda this, num_items, **batch: objective(this, batch, num_items), model)

    def forget(self) -> None:
        """Let go of what wraps the model, so that its hooks are gone before another trainer takes it."""
        self.accelerator.free_memory()
        self.model_wrapped = self.model = self.raw_model
        self.optimizer = self.lr_scheduler = None
        self.callback_handler.callbacks.clear()
        self.callback_handler.model = self.callback_handler.optimizer = self.callback_handler.train_dataloader = None
        gc.collect()

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
        count = count.clamp(min=1)  # where all text of a step is only read, the loss is 0
        return count.double() if device.type != "mps" else count.float()

    # ------------------------------------------------------------------ loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective; multiplied by the ranks, because gradients are averaged over them."""
        parts = model(num_items=num_items_in_batch, **inputs)
        loss = parts["loss"]
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

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        self._last_norm = super()._get_grad_norm(model, grad_norm)
        return self._last_norm

    def gradient_norm(self) -> float:
        """Of the step that just ended, before clipping, over all ranks."""
        norm = self._last_norm
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def documents_of(self, step: int) -> list[str]:
        """What a step of this stage (from 1) read on all ranks, for people."""
        size = self.args.per_device_train_batch_size * self.args.world_size
        accumulation = self.args.gradient_accumulation_steps
        first = (self.first_batch + (step - 1) * accumulation) * size
        return self.blocks.names(range(first, first + accumulation * size))

    def whole_weights(self) -> dict[str, Tensor]:
        """The model's tensors under their names in memory; every rank must ask, the first one gets them."""
        if is_spread(self.raw_model):
            return gathered_weights(self.raw_model)
        if is_sharded(self.args):
            return cast(dict[str, Tensor], self.accelerator.get_state_dict(self.model_wrapped))
        return merged_weights(self.raw_model)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: Trainer would walk through all parameters at every step."""
        return 0

    # -------------------------------------------------------------- optimizer

    def create_optimizer(self, *arguments: Any, **keywords: Any) -> Optimizer:
        """AdamW by transformers, or Muon beside it.

        Raises:
            ConfigError: Muon, where no rank has whole matrices.
        """
        if self.optimizer is not None or self.options.optimizer == "adamw":
            return super().create_optimizer(*arguments, **keywords)
        if is_sharded(self.args):
            raise ConfigError(
                "training.optimizer 'muon' needs whole matrices on each rank: take 'adamw' with FSDP or DeepSpeed."
            )
        self.optimizer = make_optimizer(
            self.raw_model,
            self.get_decay_parameter_names(self.raw_model),
            lr=self.args.learning_rate,
            betas=self.options.betas,
            weight_decay=self.args.weight_decay,
            fused=self.args.device.type in ("cpu", "cuda"),
        )
        return self.optimizer

    # -------------------------------------------------------------- schedule

    def learning_rate_factor(self, step: int) -> float:
        """Share of the peak by the configuration's schedule and the rollbacks; ``step`` counts from 0."""
        return self.rate_scale * learning_rate_factor(
            self.options.schedule,
            step,
            self.args.max_steps,
            warmup_share=self.options.warmup_share,
            decay_share=self.options.decay_share,
            final_share=self.options.final_learning_rate_share,
        )

    def learning_rate_at(self, step: int) -> float:
        """The rate that the step was (or will be) taken with."""
        return self.args.learning_rate * self.learning_rate_factor(step)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The schedule of the stage's configuration."""
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or cast(Optimizer, self.optimizer), self.learning_rate_factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.rate_scale != 1 and self.optimizer is not None:
            # The checkpoint has the rate of its next step as it was before the rollback.
            factor = self.learning_rate_factor(cast(LambdaLR, self.lr_scheduler).last_epoch)
            for group, rate in zip(
                self.optimizer.param_groups, cast(LambdaLR, self.lr_scheduler).base_lrs, strict=True
            ):
                group["lr"] = rate * factor

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
