"""Settings of the stage that distils."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vocabalign.config import StageConfig
from vocabalign.stages.references import Corpus, Reference
from vocabalign.stages.training_configs import TrainingOptions

Divergence = Literal[
    "forward-kl",
    "reverse-kl",
    "jensen-shannon",
    "normalised-jensen-shannon",
    "skewed-kl",
    "skewed-reverse-kl",
    "adaptive-kl",
    "total-variation",
]


class DistillConfig(StageConfig):
    """Token-level distillation: the student learns the teacher's whole next-token distribution."""

    student: Reference
    """Model folder to train; it must have the teacher's vocabulary."""
    teacher: Reference
    """Model folder that teaches."""
    corpus: Corpus
    """Training text."""
    heldout: Corpus = []
    """Text for scores during training; never trained on."""
    divergence: Divergence = "forward-kl"
    """What is minimised between teacher and student distributions."""
    distillation_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the divergence; the rest is cross-entropy. 0 is direct tuning: the control."""
    temperature: float = Field(default=1.0, gt=0)
    """Both distributions are softened by it; the divergence is multiplied by its square."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate."""
    training: TrainingOptions = TrainingOptions()
    """Schedule and batch."""
    trainer: dict[str, object] = {}
    """Passed to transformers' TrainingArguments as they are."""
