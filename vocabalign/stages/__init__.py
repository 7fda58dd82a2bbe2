"""The stages: what each one is configured with, where its code is, and what it reads.

Nothing heavy is imported here, so that ``--help``, ``--dry-run`` and pipelines stay quick; the
code of a stage is imported when it runs.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from vocabalign.config import StageConfig
from vocabalign.stages.distill_configs import DistillCacheConfig, DistillConfig
from vocabalign.stages.references import Corpus, Reference
from vocabalign.stages.result_configs import EvaluateConfig, ReportConfig
from vocabalign.stages.text_configs import AlignConfig, CorpusConfig, CountConfig, EmbedConfig, EmbeddingOptions
from vocabalign.stages.tokenizer_configs import TokenizerExtendConfig, TokenizerPruneConfig, TokenizerTrainConfig
from vocabalign.stages.training_configs import FinetuneConfig, LoraOptions, SelfDistillationOptions, TrainingOptions
from vocabalign.stages.transplant_configs import TransplantConfig

__all__ = [
    "STAGES",
    "AlignConfig",
    "Corpus",
    "CorpusConfig",
    "CountConfig",
    "DistillCacheConfig",
    "DistillConfig",
    "EmbedConfig",
    "EmbeddingOptions",
    "EvaluateConfig",
    "FinetuneConfig",
    "LoraOptions",
    "Reference",
    "ReportConfig",
    "SelfDistillationOptions",
    "Stage",
    "TokenizerExtendConfig",
    "TokenizerPruneConfig",
    "TokenizerTrainConfig",
    "TrainingOptions",
    "TransplantConfig",
]


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
        from vocabalign.folders import refuse_existing

        refuse_existing(config.out.absolute(), config.overwrite)
        module, function = self.function.split(":")
        return getattr(importlib.import_module(module), function)(config)


STAGES: dict[str, Stage] = {
    "corpus": Stage(CorpusConfig, "vocabalign.text.corpus_stage:run", ("corpus",), ("text",)),
    "tokenizer-train": Stage(
        TokenizerTrainConfig,
        "vocabalign.tokenizer_tools.train_stage:run",
        ("corpus", "like", "heldout"),
        ("text", "tokenizer_tools"),
    ),
    "tokenizer-extend": Stage(
        TokenizerExtendConfig,
        "vocabalign.tokenizer_tools.extend_stage:run",
        ("tokenizer", "corpus", "words", "heldout"),
        ("text", "tokenizer_tools"),
    ),
    "tokenizer-prune": Stage(
        TokenizerPruneConfig,
        "vocabalign.tokenizer_tools.prune_stage:run",
        ("tokenizer", "corpus", "heldout"),
        ("text", "tokenizer_tools"),
    ),
    "count": Stage(
        CountConfig,
        "vocabalign.alignment.count_stage:run",
        ("source", "target", "corpus", "merge"),
        ("text", "alignment"),
    ),
    "embed": Stage(
        EmbedConfig, "vocabalign.alignment.embed_stage:run", ("tokenizer", "corpus", "counts"), ("text", "alignment")
    ),
    "align": Stage(
        AlignConfig,
        "vocabalign.alignment.align_stage:run",
        ("source", "target", "corpus", "counts", "source_embeddings", "target_embeddings"),
        ("text", "alignment"),
    ),
    "transplant": Stage(
        TransplantConfig,
        "vocabalign.transplantation.transplant_stage:run",
        ("source", "target", "lexicon", "corpus", "source_embeddings", "target_embeddings", "target_model"),
        ("text", "transplantation"),
    ),
    "finetune": Stage(
        FinetuneConfig,
        "vocabalign.train.finetune:run",
        ("model", "corpus", "heldout", "source", "replay"),
        ("text", "losses", "train"),
    ),
    "distill": Stage(
        DistillConfig,
        "vocabalign.train.distill:run",
        ("student", "teacher", "corpus", "heldout", "cache", "lexicon"),
        ("text", "losses", "train"),
    ),
    "distill-cache": Stage(
        DistillCacheConfig,
        "vocabalign.train.caches:run",
        ("teacher", "corpus"),
        ("text", "losses", "train"),
    ),
    "evaluate": Stage(
        EvaluateConfig,
        "vocabalign.evaluation.evaluate_stage:run",
        ("models", "corpus", "lexicon", "encoder", "teacher", "draft_for", "tasks", "floor"),
        ("text", "alignment", "losses", "evaluation"),
    ),
    "report": Stage(ReportConfig, "vocabalign.report.report_stage:run", ("run",), ("report",)),
}
