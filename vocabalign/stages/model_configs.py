"""Settings of the stages that write a model: transplant, finetune, distill."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vocabalign.config import Config, StageConfig
from vocabalign.stages.references import Corpus, Reference

RowMethod = Literal[
    "auto",
    "lexicon",
    "lexicon-one",
    "last",
    "first",
    "decay",
    "fvt",
    "focus",
    "wechsel",
    "omp",
    "nearest",
    "barycentric",
    "landmark",
    "mean",
    "normal",
    "zero",
]


class TransplantConfig(StageConfig):
    """Give a model the target vocabulary: new embedding and head rows, everything else as it was."""

    source: Reference
    """Model folder to give another vocabulary."""
    target: Reference
    """Tokenizer (or model) folder of the new vocabulary."""
    lexicon: Path | None = None
    """Lexicon from ``align``; without it shared bytes and the source's own segmentation are used."""
    corpus: Corpus = []
    """Text to count on: how often each token is used, and which source tokens cover it."""
    input_rows: RowMethod = "auto"
    """How embedding rows of tokens without an identical twin are made; ``auto`` is measured best."""
    head_rows: RowMethod = "auto"
    """How head rows of tokens without an identical twin are made."""
    source_embeddings: Path | None = None
    """Token embeddings of the source tokenizer, as written by ``embed``; the rows ``wechsel`` need them."""
    target_embeddings: Path | None = None
    """Token embeddings of the target tokenizer; the rows ``focus`` and ``wechsel`` need them."""
    target_model: Reference | None = None
    """A model that owns the target vocabulary; the rows ``omp``, ``nearest``, ``barycentric``, ``landmark`` need it."""
    calibrate_head: bool = True
    """Shift head rows by how often each token is used (needs ``corpus``)."""
    untie: bool = False
    """Give a model with tied embeddings a head of its own."""
    pad_to_multiple_of: int | None = Field(default=None, gt=0)
    """Round the number of rows up; padded rows can never be the most likely."""
    rows: int | Reference | None = None
    """Exactly this many rows, or as many as this model has (a draft model needs the rows of its target)."""
    keep_layers: str | None = None
    """Keep these layers of the body alone, such as ``0-7,12``: the start of a small draft model."""
    map_tokens: dict[str, str | list[str]] = {}
    """Overrides for special tokens, TARGET: SOURCE or a list of sources."""
    chat_template: str = "target"
    """Whose chat template the model gets: ``target``, ``keep`` (the source's), or a template file."""
    verify_full: bool | None = None
    """Load the whole model to check it; by default where it is smaller than 2 GB."""


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
