"""Settings of training: schedule, batch and fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vocabalign.config import Config, StageConfig
from vocabalign.stages.references import Corpus, Reference

Weight = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


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
    schedule: Literal["cosine", "linear", "warmup-stable-decay", "constant"] = "cosine"
    """Course of the learning rate after its rise."""
    decay_share: float = Field(default=0.2, gt=0, le=1)
    """Share of each stage's steps, at the end, in which ``warmup-stable-decay`` falls."""
    max_epochs: float = Field(default=40.0, gt=0)
    """Refuse to read the text more often than this: give more text or fewer steps. Beyond some 40 times a text teaches
    a language model next to nothing (Muennighoff et al. 2023, figure 3)."""
    warmup_share: float = Field(default=0.03, ge=0, lt=1)
    """Share of each stage's steps in which the learning rate rises."""
    final_learning_rate_share: float = Field(default=0.1, ge=0, le=1)
    """The schedule ends at this share of the peak."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon``: matrices of the body take orthogonal steps; rows, norms and biases AdamW's. Not with LoRA, FSDP or
    DeepSpeed, which need AdamW."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights, on matrices only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moments."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them."""
    checkpoint_every: int = Field(default=200, gt=0)
    """Steps between checkpoints; an interrupted run goes on from the last one."""
    evaluate_every: int | None = Field(default=None, gt=0)
    """Steps between scores on the held-out text, where there is one."""
    patience: int | None = Field(default=None, gt=0)
    """End a stage after this many scores in a row that are no better than one before; None: never."""
    loss_spike: float | None = Field(default=2.0, gt=1)
    """A loss (median of 5 steps) of so many times the one before (median of 64) counts as diverged, as one that is no
    number does: the run goes back to its last good state with a lower learning rate; None: spikes are let pass."""
    gradient_spike: float | None = Field(default=1000.0, gt=1)
    """The same for the norm of the gradient in one step, before clipping."""
    max_rollbacks: int = Field(default=3, ge=0)
    """How often a run goes back before it gives up."""
    rollback_rate_factor: float = Field(default=0.5, gt=0, lt=1)
    """What the learning rate of the stage is multiplied by each time."""
    heldout_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the corpus that is held out for these scores: by a hash of each document, so that copies of one are
    never on both sides."""
    domain_weights: dict[str, Weight] = {}
    """How often the documents of a domain are read in an epoch; the field ``domain`` of a line says it, else the
    name of its file. Times the weight of the entry (``PATH=WEIGHT``) and of the language."""
    language_weights: dict[str, Weight] = {}
    """The same by the field ``language``."""


class SelfDistillationOptions(Config):
    """What the trained model learns from the untouched source besides the text; weights in nats per token.

    Chosen by measurement, one at a time: see the ablation in docs/finetuning.md."""

    enabled: bool = True
    """Learn from the source where there is one; with its losses that costs about one and a half forward passes of the
    source for each batch."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the sequences that the source reads as well, by lot where that is no whole number in a batch."""
    fade: bool = True
    """Learn less from the source as the model comes near it, and end it once the model has passed it on the text that
    it is trained on: a source that is bad at a text holds its successor back. Only beside cross-entropy."""
    fade_from: float = Field(default=0.1, gt=0, le=1)
    """Share of the lead of the source at the start below which all its weights fall in proportion to the lead."""
    cross_entropy: float = Field(default=1.0, ge=0)
    """Weight of the text itself."""
    hidden: float = Field(default=1.0, ge=0)
    """Weight of the distance of hidden states wherever both have read the same bytes."""
    events: float = Field(default=1.0, ge=0)
    """Weight of the divergence of what comes next wherever both start a token, over classes of first pieces."""
    continuations: float = Field(default=1.0, ge=0)
    """Weight of the divergence inside tokens that the source writes in several pieces."""
    chunks: float = Field(default=0.0, ge=0)
    """Weight of the divergence of the likelihoods of stretches between common ends."""

    @property
    def fades(self) -> bool:
        """Whether there is something left to learn without the source."""
        return self.fade and self.cross_entropy > 0


class LoraOptions(Config):
    """Low-rank adapters."""

    rank: int = Field(default=16, gt=0)
    """Of each adapter."""
    alpha: int = Field(default=32, gt=0)
    """What an adapter adds is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of what an adapter reads."""


class FinetuneConfig(StageConfig):
    """Progressive fine-tuning: first embedding and head rows, then all parameters."""

    model: Reference
    """Model folder to train."""
    corpus: Corpus
    """Training text."""
    heldout: Corpus = []
    """Text for scores during training; never trained on."""
    source: Reference | None = None
    """The untouched model before its transplant: the teacher of its own successor (self-distillation). By default
    the one that the transplant names, where it is still there as it was; another one is refused."""
    self_distillation: SelfDistillationOptions = SelfDistillationOptions()
    """What is learned from the source."""
    replay: Corpus = []
    """General text that is mixed in, so that what the corpus does not speak of is not forgotten."""
    replay_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training text that is replay, where there is any; in bytes."""
    rows_share: Share | Literal["auto"] = 0.5
    """Share of the steps in which only embedding and head rows are trained; ``auto`` ends that stage when it stops
    paying, after half of the steps at the latest."""
    rows_learning_rate: Rate | Literal["auto"] = 6.4e-4
    """Peak learning rate while only rows are trained; ``auto`` finds one by a range test."""
    learning_rate: Rate | Literal["auto"] = 5e-5
    """Peak learning rate while all parameters are trained; ``auto`` finds one by a range test."""
    rows_rate_factor: Rate = 1.0
    """In the second stage rows are trained with this multiple of ``learning_rate``: they have further to go."""
    rare_rows_power: float = Field(default=0.0, ge=0)
    """Rows that a step uses less than once on average are trained with their rate times these uses to this power;
    0 trains all alike, 1 in proportion."""
    train: Literal["everything", "lora", "rows", "new-rows"] = "everything"
    """What the second stage trains: all parameters, LoRA adapters beside the body's matrices (and all rows; they are
    merged into the model that is written), or rows alone. ``new-rows``: both stages train only the rows that the
    transplant made; those that it copied stay as they are."""
    lora: LoraOptions = LoraOptions()
    """Adapters, where ``train`` is ``lora``."""
    training: TrainingOptions = TrainingOptions()
    """Schedule and batch."""
    trainer: dict[str, object] = {}
    """Passed to transformers' TrainingArguments as they are (bf16, fsdp, deepspeed …), but ``report_to``: the trackers
    that also get what is recorded (tensorboard, wandb, trackio …)."""
