"""Settings of training: schedule, batch and fine-tuning."""

from __future__ import annotations

from pydantic import Field

from vocabalign.config import Config, StageConfig
from vocabalign.stages.references import Corpus, Reference


class TrainingOptions(Config):
    """Schedule and batch, shared by fine-tuning and distillation."""

    steps: int = Field(default=1000, gt=0)
    """Optimizer steps in all."""
    batch_size: int = Field(default=16, gt=0)
    """Sequences in one forward pass."""
    accumulation: int = Field(default=1, gt=0)
    """Forward passes in one optimizer step; losses are averaged over all their tokens."""
    context: int | None = Field(default=None, gt=1)
    """Tokens in a sequence; by default the model's own context, at most 2,048."""
    warmup_share: float = Field(default=0.03, ge=0, lt=1)
    """Share of each stage's steps in which the learning rate rises."""
    final_learning_rate_share: float = Field(default=0.1, ge=0, le=1)
    """The cosine ends at this share of the peak."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decay, on matrices only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moments."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them."""
    checkpoint_every: int = Field(default=200, gt=0)
    """Steps between checkpoints; an interrupted run goes on from the last one."""
    evaluate_every: int | None = Field(default=None, gt=0)
    """Steps between scores on the held-out text, where one is given."""


class FinetuneConfig(StageConfig):
    """Progressive fine-tuning: first embedding and head rows, then all parameters."""

    model: Reference
    """Model folder to train."""
    corpus: Corpus
    """Training text."""
    heldout: Corpus = []
    """Text for scores during training; never trained on."""
    source: Reference | None = None
    """The untouched model before its transplant: the teacher of its own successor (self-distillation)."""
    rows_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps in which only embedding and head rows are trained."""
    rows_learning_rate: float = Field(default=6.4e-4, gt=0)
    """Peak learning rate while only rows are trained."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate while all parameters are trained."""
    training: TrainingOptions = TrainingOptions()
    """Schedule and batch."""
    trainer: dict[str, object] = {}
    """Passed to transformers' TrainingArguments as they are (bf16, fsdp, deepspeed, report_to …)."""
