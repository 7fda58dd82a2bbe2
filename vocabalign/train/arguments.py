"""TrainingArguments from a stage's configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from vocabalign.errors import ConfigError
from vocabalign.models import pick_device, pick_dtype
from vocabalign.stages import TrainingOptions

# What the configuration of the stage decides, under its own names.
OURS = frozenset(
    "output_dir max_steps num_train_epochs per_device_train_batch_size gradient_accumulation_steps learning_rate "
    "lr_scheduler_type lr_scheduler_kwargs warmup_steps warmup_ratio weight_decay adam_beta1 adam_beta2 max_grad_norm "
    "save_strategy save_steps save_total_limit seed data_seed use_cpu gradient_checkpointing activation_checkpointing "
    "remove_unused_columns disable_tqdm eval_strategy eval_steps load_best_model_at_end save_only_model "
    "ignore_data_skip".split()
)
# Options of Trainer's own loss, data and evaluation, which are not used here.
IGNORED = frozenset(
    "label_smoothing_factor group_by_length length_column_name train_sampling_strategy dataloader_drop_last "
    "dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor label_names "
    "average_tokens_across_devices past_index do_train do_eval do_predict per_device_eval_batch_size "
    "eval_accumulation_steps eval_delay eval_on_start batch_eval_metrics eval_do_concat_batches prediction_loss_only "
    "include_for_metrics metric_for_best_model greater_is_better fp16_full_eval bf16_full_eval "
    "resume_from_checkpoint".split()
)


def check_options(dtype: str, extra: dict[str, Any], optimizer: str = "adamw", train: str = "everything") -> None:
    """Refuse what would be ignored or would spoil the training, before anything is loaded.

    Raises:
        ConfigError: an option that the stage's own configuration decides, one without effect, float16, ZeRO-3, or Muon
            for adapters.
    """
    if optimizer == "muon" and train == "lora":
        raise ConfigError(
            "training.optimizer 'muon' is for whole matrices, not for the thin ones of train: lora: take 'adamw'."
        )
    if optimizer == "muon" and "optim" in extra:
        raise ConfigError("training.optimizer 'muon' and trainer.optim name two optimizers: leave one of them out.")
    taken = sorted(OURS & set(extra))
    if taken:
        raise ConfigError(f"trainer.{taken[0]} is decided by the stage's own configuration: set it there.")
    ignored = sorted(IGNORED & set(extra))
    if ignored:
        raise ConfigError(f"trainer.{ignored[0]} has no effect on vocabalign's own loss and data: leave it out.")
    half = "dtype: float16" if dtype == "float16" else "trainer.fp16" if extra.get("fp16") else ""
    if os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp16":
        half = half or "accelerate's mixed_precision: fp16"
    if half:
        raise ConfigError(f"{half} would lose small gradients in training: use bfloat16 or float32.")
    if _zero_stage(extra.get("deepspeed")) == 3:
        raise ConfigError(
            "DeepSpeed's stage 3 cuts up the head, which scores and the written model need whole: use stage 2 "
            "(configs/accelerate/zero2.yaml), or FSDP2 (fsdp2.yaml), whose parts are gathered."
        )


def _zero_stage(settings: object) -> int | None:
    """ZeRO's stage by the trainer's settings (a mapping, or a file of JSON) or by accelerate's launcher."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true":
        return int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    if isinstance(settings, str) and Path(settings).is_file():
        settings = json.loads(Path(settings).read_text())
    stages = settings.get("zero_optimization", {}) if isinstance(settings, dict) else {}
    return stages.get("stage") if isinstance(stages, dict) else None


def training_arguments(
    folder: Path,
    options: TrainingOptions,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    device: str,
    dtype: str,
    extra: dict[str, Any],
) -> TrainingArguments:
    """TrainingArguments of one stage, with ``extra`` from the configuration's ``trainer`` laid over.

    Raises:
        ConfigError: ``extra`` has an unknown key, or one that ``check_options`` refuses.
    """
    check_options(dtype, extra)
    where = pick_device(device)
    arithmetic = pick_dtype(dtype, where)
    values = {
        "bf16": arithmetic == torch.bfloat16,
        "optim": "adamw_torch_fused" if where.type in ("cpu", "cuda") else "adamw_torch",
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,  # NaN is looked for at each step, and the filter costs time
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": False,
        "log_level": "error",
        **extra,
        "report_to": "none",  # our recorder tells the trackers
    }
    try:
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=options.batch_size,
            gradient_accumulation_steps=options.accumulation,
            learning_rate=learning_rate,
            weight_decay=options.weight_decay,
            adam_beta1=options.betas[0],
            adam_beta2=options.betas[1],
            max_grad_norm=options.max_gradient_norm,
            save_strategy="steps",
            save_steps=options.checkpoint_every,
            save_total_limit=2,
            seed=seed,
            use_cpu=where.type == "cpu",
            remove_unused_columns=False,
            disable_tqdm=True,
            **values,
        )
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"'trainer' cannot be used: {' '.join(str(error).split())}.") from error
    assert arguments.device is not None  # starts the process group
    arguments._n_gpu = min(arguments._n_gpu, 1)  # never DataParallel; several GPUs are several processes
    return arguments
