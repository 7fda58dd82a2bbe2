"""Whether a step fits the memory, told before the first one from what one sequence takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocabalign.errors import ConfigError
from vocabalign.losses.fused import IGNORE
from vocabalign.stages import TrainingOptions
from vocabalign.train.data import Blocks
from vocabalign.train.head import hidden_states
from vocabalign.train.rollback import is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

    from vocabalign.train.trainer import Objective

# Beyond what autograd keeps: work space of single operations, and pieces that the allocator cannot use.
MARGIN = 1.1
# Gradient and AdamW's two moments.
STATE_BYTES = 12
PROBE_TOKENS = 256


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What a training step needs beyond what is there already, in bytes.

    Attributes:
        state: gradients and optimizer, whatever the batch.
        sequence: for each sequence of the batch.
    """

    state: int
    sequence: int

    def needed(self, batch_size: int) -> int:
        """For a batch."""
        return int(MARGIN * (self.state + batch_size * self.sequence))

    def largest(self, free: int) -> int:
        """Sequences that fit; 0 where not even one does."""
        return max(0, int((free / MARGIN - self.state) // max(1, self.sequence)))


def check_memory(
    model: PreTrainedModel, objective: Objective, blocks: Blocks, options: TrainingOptions, arguments: TrainingArguments
) -> None:
    """Refuse a batch that does not fit, and say what would; nothing where weights are spread over ranks.

    Raises:
        ConfigError: more is needed than is free.
    """
    if is_sharded(arguments) or arguments.device.type not in ("cpu", "cuda"):
        return
    free = free_bytes(arguments.device)
    try:
        step = measure_step(model, objective, blocks, arguments.device, bfloat16=arguments.bf16)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        step = StepMemory(0, free)
    if step.needed(options.batch_size) <= free:
        return
    fits = step.largest(free)
    tokens = f"{options.batch_size} sequences of {blocks.context:,} tokens"
    if fits:
        accumulation = -(-options.batch_size * options.accumulation // fits)
        advice = f"training.batch_size={fits} would fit (with training.accumulation={accumulation} for as large a step)"
    else:
        advice = "not even one sequence fits: a smaller training.context, train: lora or rows, or several GPUs (fsdp2)"
    checkpointing = "" if options.gradient_checkpointing else "; so might training.gradient_checkpointing=true"
    raise ConfigError(
        f"A step of {tokens} needs about {step.needed(options.batch_size) / 1e9:.1f} GB beside the model "
        f"({step.state / 1e9:.1f} GB for gradients and optimizer, {step.sequence / 1e9:.2f} GB a sequence), and "
        f"{free / 1e9:.1f} GB are free: {advice}{checkpointing}."
    )


def measure_step(
    model: PreTrainedModel, objective: Objective, blocks: Blocks, device: torch.device, *, bfloat16: bool = False
) -> StepMemory:
    """Run the objective on one sequence and count what autograd keeps of it.

    Nothing is changed, the random state neither. With gradient checkpointing what one layer keeps while it is
    recomputed comes on top, told from a few tokens.
    """
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    batch = {
        key: value.to(device) if isinstance(value, Tensor) else value for key, value in blocks.__getitems__([0]).items()
    }
    items = batch["labels"].ne(IGNORE).sum().clamp(min=1)
    was_training = model.training
    model.train()
    try:
        kept = _kept_by(model, lambda: objective(model, batch, items)["loss"], device, bfloat16)
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            kept += _layer_bytes(model, batch["input_ids"], device, bfloat16)
    finally:
        model.train(was_training)
    return StepMemory(trained * STATE_BYTES, kept)


def _layer_bytes(model: PreTrainedModel, ids: Tensor, device: torch.device, bfloat16: bool) -> int:
    """About what one layer keeps of a sequence when nothing is recomputed."""
    few = ids[:, :PROBE_TOKENS]
    (getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable)()
    try:
        kept = _kept_by(model, lambda: hidden_states(model, few, None), device, bfloat16)
    finally:
        switch_checkpointing_on(model)
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", 1)
    return kept * ids.shape[1] // few.shape[1] // max(1, layers)


def switch_checkpointing_on(model: PreTrainedModel) -> None:
    """Recompute activations instead of keeping them; transformers has renamed what does it."""
    (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()


def _kept_by(model: PreTrainedModel, compute: Any, device: torch.device, bfloat16: bool) -> int:
    """Bytes of the tensors that a computation keeps for its gradient, parameters not counted."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
    ):
        result = compute()  # held, so that no address is used twice
    del result
    return sum(sizes.values())


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still take on a device; of the CPU's, its share among the local ranks."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    free = min([psutil.virtual_memory().available, *_group_bytes()])
    return int(free // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _group_bytes(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What a container's limit leaves, where there is one; files that can be dropped count as free."""
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        counts = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    return [] if limit == "max" else [int(limit) - used + int(counts.get("inactive_file", 0))]
