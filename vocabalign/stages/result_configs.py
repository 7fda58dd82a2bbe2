"""Settings of the stages that show what came out: evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from vocabalign.config import StageConfig
from vocabalign.stages.references import Reference


def _prompts(value: object) -> object:
    return [] if value is None else [value] if isinstance(value, str) else value


def _named(value: object) -> object:
    """``NAME=FILE`` among files makes names of all of them."""
    if isinstance(value, (str, Path)):
        return _named([value])
    if isinstance(value, dict):
        return {str(name): str(path) for name, path in value.items()}
    if not isinstance(value, (list, tuple)):
        return value
    texts = [str(item) for item in value]
    pairs = [
        (name, path) if _is_name(text, name, path) else ("", text)
        for text in texts
        for name, _, path in [text.partition("=")]
    ]
    if not any(name for name, _ in pairs):
        return texts
    unnamed = next((path for name, path in pairs if not name), None)
    if unnamed is not None:
        raise ValueError(f"give every text a name or none ('{unnamed}' has none)")
    twice = next((name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])), None)
    if twice is not None:
        raise ValueError(f"the name '{twice}' is given twice: use a folder or a glob for several files of one domain")
    return dict(pairs)


def _is_name(text: str, name: str, path: str) -> bool:
    # A file may have the sign in its own name or folder.
    return bool(name and path) and "/" not in name and not Path(text).exists()


HeldoutCorpus = Annotated[list[Reference] | dict[str, Reference], BeforeValidator(_named)]


class EvaluateConfig(StageConfig):
    """Score models on held-out text: bits per byte, tokens per kilobyte, cost, samples from the same prompts."""

    models: dict[str, Reference]
    """Name -> model folder; the others are compared with the first."""
    corpus: HeldoutCorpus
    """Held-out text: files, folders or globs, or names with them (NAME=FILE): each is scored by itself as well. Without
    names the fields ``domain`` and ``language`` of JSON lines count, then the names of the files."""
    max_bytes: int | None = Field(default=150_000, gt=0)
    """Score at most this much text in all; several files get even shares."""
    window: int = Field(default=512, gt=1)
    """Tokens in a window, at most the model's context; windows advance by half."""
    batch_size: int = Field(default=16, gt=0)
    """Windows in one forward pass."""
    prompt: Annotated[list[str], BeforeValidator(_prompts)] = []
    """Each model goes on from this, or from each of these; by default from the starts of held-out documents."""
    num_prompts: int = Field(default=1, gt=0)
    """How many documents to take the starts of, from all domains in turn, where no prompt is given."""
    sample_tokens: int = Field(default=64, ge=0)
    """Tokens of each sample (greedy)."""
    price_per_million_tokens: float | dict[str, float] | None = None
    """Price of a million tokens in any currency, one for all or by the model's name: what a megabyte of text costs."""
    lexicon: Path | None = None
    """Folder of a lexicon: BLEU-1 both ways between the two tokenizers that it was made for."""
    encoder: Reference | None = None
    """Folder of any encoder: cosine similarity of texts and what the lexicon makes of them (mean pooled)."""
    teacher: Reference | None = None
    """Model folder: how often each model's likeliest next token is the teacher's, and KL(teacher || model)."""
    draft_for: Reference | None = None
    """Model folder that each model writes drafts for (speculative decoding): how many it accepts, the time saved."""
    draft_tokens: int = Field(default=5, gt=0)
    """Tokens of a draft."""
    tasks: Path | None = None
    """Folder of task files (YAML with local data) for lm-evaluation-harness: scores and what is retained of the first
    model's."""
    floor: Reference | None = None
    """Model folder whose task scores count as nothing retained; by default the first model with random rows."""
    shots: int = Field(default=0, ge=0)
    """Solved examples before each question of a task."""
    task_limit: int | None = Field(default=None, gt=0)
    """Questions of each task; all by default."""


class ReportConfig(StageConfig):
    """Draw one page of a run: ``report.html`` (works offline) and ``report.md``."""

    run: Path
    """Folder of a run, with its artefacts inside."""
    title: str | None = None
    """Heading of the page; the run's name by default."""
