"""The stages: what each one is configured with, where its code is, and what it reads.

This file imports nothing heavy, so that ``--help``, ``--dry-run`` and pipelines stay quick; the
code of a stage is imported when it runs.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from vocabalign.config import Config, StageConfig

# A folder, or demo:source / demo:teacher for the models that ship with the package.
Reference = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]


def _listed(value: object) -> object:
    """One path or several."""
    return [str(value)] if isinstance(value, (str, Path)) else value


Corpus = Annotated[list[Reference], BeforeValidator(_listed)]


class CorpusConfig(StageConfig):
    """Make training and held-out text: ``train.jsonl`` and ``heldout.jsonl``, one document a line."""

    standard_library: bool = False
    """Take the sources and documentation of Python's standard library."""
    corpus: Corpus = []
    """Files, folders or globs of text (.txt, .jsonl; plain or compressed)."""
    heldout_percent: float = Field(default=5.0, gt=0, lt=100)
    """Share of the documents that is held out, chosen by a hash of their text."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Take at most this much text for training, spread evenly over the whole."""
    heldout_max_bytes: int | None = Field(default=None, gt=0)
    """Take at most this much held-out text, spread evenly over the whole."""


class EmbeddingOptions(Config):
    """How token embeddings are learned from text."""

    method: Literal["skip-gram", "cbow", "fasttext"] = "skip-gram"
    """Skip-gram and CBOW see token ids alone; fasttext also sees the characters of the token."""
    dimensions: int = Field(default=300, gt=0)
    """Size D of the token embeddings."""
    window: int = Field(default=5, gt=0)
    """Tokens to each side that count as context."""
    epochs: int = Field(default=5, gt=0)
    """Passes over the text."""
    negative: int = Field(default=5, gt=0)
    """Negative samples for each pair."""
    min_count: int = Field(default=1, gt=0)
    """Tokens seen fewer times get no embedding and are reported as uncovered."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Stop reading text after this many tokens."""
    workers: int = Field(default=1, gt=0)
    """Threads. Only 1 gives the same vectors each time: with more, gensim's threads race."""


class EmbedConfig(StageConfig):
    """Learn token embeddings for one tokenizer from plain text."""

    tokenizer: Reference
    """Tokenizer or model folder."""
    corpus: Corpus
    """Files, folders or globs of text."""
    embeddings: EmbeddingOptions = EmbeddingOptions()
    """How the embeddings are learned."""


class AlignConfig(StageConfig):
    """Align two vocabularies and write the lexicon: target token -> source tokens with weights."""

    source: Reference
    """Tokenizer (or model) folder whose vocabulary the model has."""
    target: Reference
    """Tokenizer (or model) folder whose vocabulary it shall get."""
    corpus: Corpus
    """Text that both tokenizers cut; the more like the model's use, the better."""
    source_embeddings: Path | None = None
    """Token embeddings of the source, as written by ``embed``; learned here when left out."""
    target_embeddings: Path | None = None
    """Token embeddings of the target, as written by ``embed``; learned here when left out."""
    embeddings: EmbeddingOptions = EmbeddingOptions()
    """How embeddings are learned where they are not given."""
    method: Literal["auto", "tokalign", "tokalign++"] = "auto"
    """``auto`` weighs all evidence (bytes, spans, segmentation, embeddings); the others are the papers'."""
    anchors: Literal["bytes", "strings"] = "bytes"
    """Which tokens count as the same beforehand: equal bytes, or (as in the papers) equal raw strings."""
    num_anchors: int | None = Field(default=None, gt=0)
    """Use only the commonest anchors, this many; ``tokalign`` takes 300."""
    self_learning: bool = True
    """Grow the dictionary by mutual nearest neighbours and map again, until that no longer helps."""
    csls_neighbors: int = Field(default=10, gt=0)
    """Neighbourhood size of cross-domain similarity local scaling."""
    top_k: int = Field(default=8, ge=1, le=64)
    """Source tokens kept for each target token."""
    block_mebibytes: int = Field(default=256, gt=0)
    """Memory for one block of similarities."""


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
    input_rows: Literal["auto", "lexicon", "lexicon-one", "last", "first", "mean", "decay"] = "auto"
    """How embedding rows of tokens without an identical twin are made; ``auto`` is measured best."""
    head_rows: Literal["auto", "lexicon", "lexicon-one", "last", "first", "mean", "decay"] = "auto"
    """How head rows of tokens without an identical twin are made."""
    calibrate_head: bool = True
    """Shift head rows by how often each token is used (needs ``corpus``)."""
    untie: bool = False
    """Give a model with tied embeddings a head of its own."""
    pad_to_multiple_of: int | None = Field(default=None, gt=0)
    """Round the number of rows up; padded rows can never be the most likely."""
    map_tokens: dict[str, str] = {}
    """Overrides for special tokens, TARGET: SOURCE."""
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
    divergence: Literal["forward-kl", "reverse-kl", "jensen-shannon"] = "forward-kl"
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


class EvaluateConfig(StageConfig):
    """Score models on held-out text: bits per byte, tokens per kilobyte, a sample from one prompt."""

    models: dict[str, Reference]
    """Name -> model folder."""
    corpus: Corpus
    """Held-out text."""
    max_bytes: int | None = Field(default=150_000, gt=0)
    """Score at most this much text."""
    window: int = Field(default=512, gt=1)
    """Tokens in a window, at most the model's context; windows advance by half."""
    batch_size: int = Field(default=16, gt=0)
    """Windows in one forward pass."""
    prompt: str | None = None
    """Each model goes on from this; by default from the start of the first held-out document."""
    sample_tokens: int = Field(default=64, ge=0)
    """Tokens of each sample (greedy)."""


class ReportConfig(StageConfig):
    """Draw one page of a run: ``report.html`` (works offline) and ``report.md``."""

    run: Path
    """Folder of a run, with its artefacts inside."""
    title: str | None = None
    """Heading of the page; the run's name by default."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's configuration, its code, and which fields name what it reads."""

    config_class: type[StageConfig]
    function: str
    """``module:function``; takes the configuration, returns the folder that it wrote."""
    inputs: tuple[str, ...]
    """Fields that name artefacts, models, tokenizers or text."""
    packages: tuple[str, ...]
    """Parts of the code that decide the result: their fingerprint is the stage's code version."""

    def run(self, config: StageConfig) -> Path:
        """Refuse an artefact that is in the way, then import the stage's code and run it."""
        from vocabalign.artifacts import refuse_existing

        refuse_existing(config.out.absolute(), config.overwrite)
        module, function = self.function.split(":")
        return getattr(importlib.import_module(module), function)(config)


STAGES: dict[str, Stage] = {
    "corpus": Stage(CorpusConfig, "vocabalign.text.corpus_stage:run", ("corpus",), ("text",)),
    "embed": Stage(EmbedConfig, "vocabalign.alignment.embed_stage:run", ("tokenizer", "corpus"), ("text", "alignment")),
    "align": Stage(
        AlignConfig,
        "vocabalign.alignment.align_stage:run",
        ("source", "target", "corpus", "source_embeddings", "target_embeddings"),
        ("text", "alignment"),
    ),
    "transplant": Stage(
        TransplantConfig,
        "vocabalign.transplantation.transplant_stage:run",
        ("source", "target", "lexicon", "corpus"),
        ("text", "transplantation"),
    ),
    "finetune": Stage(
        FinetuneConfig,
        "vocabalign.train.finetune:run",
        ("model", "corpus", "heldout", "source"),
        ("text", "losses", "train"),
    ),
    "distill": Stage(
        DistillConfig,
        "vocabalign.train.distill:run",
        ("student", "teacher", "corpus", "heldout"),
        ("text", "losses", "train"),
    ),
    "evaluate": Stage(
        EvaluateConfig, "vocabalign.evaluation.evaluate_stage:run", ("models", "corpus"), ("text", "evaluation")
    ),
    "report": Stage(ReportConfig, "vocabalign.report.report_stage:run", ("run",), ("report",)),
}
