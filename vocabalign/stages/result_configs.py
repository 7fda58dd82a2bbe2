"""Settings of the stages that show what came out: evaluate, report."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vocabalign.config import StageConfig
from vocabalign.stages.references import Corpus, Reference


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
