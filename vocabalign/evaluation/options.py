"""How models are measured, and what a measure is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vocabalign.errors import ConfigError
from vocabalign.text.heldout_text import Labels

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from vocabalign.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class MeasureOptions:
    """Everything but the models and the text; the fields mean what they mean in ``EvaluateConfig``.

    Raises:
        ConfigError: options that need each other.
    """

    window: int = 512
    batch_size: int = 16
    prompt: str | Sequence[str] | None = None
    num_prompts: int = 1
    sample_tokens: int = 64
    price_per_million_tokens: float | Mapping[str, float] | None = None
    lexicon: str | Path | None = None
    encoder: str | None = None
    teacher: str | None = None
    draft_for: str | None = None
    draft_tokens: int = 5
    tasks: str | Path | None = None
    floor: str | None = None
    shots: int = 0
    task_limit: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, needed in (("encoder", "lexicon"), ("floor", "tasks")):
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise ConfigError(f"'{name}' is of use only with '{needed}': give that too, or leave '{name}' out.")

    @property
    def prompts(self) -> list[str]:
        """Those that were given."""
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt or ())


@dataclass(frozen=True, eq=False)
class Text:
    """What all models are measured on; N documents.

    Attributes:
        documents: N texts, none of them empty.
        labels: "domain" and "language" -> N names or None.
        prompts: what samples go on from.
    """

    documents: Sequence[str]
    labels: Labels = field(default_factory=dict)
    prompts: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Subject:
    """One model that is measured.

    Attributes:
        name: what it is called in metrics.json.
        folder: where it is.
        model: in evaluation mode, on its device.
        vocabulary: its vocabulary.
        ids: N lists of token ids of the documents, without special tokens.
    """

    name: str
    folder: Path
    model: PreTrainedModel
    vocabulary: Vocabulary
    ids: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Place:
    """Where models run and with what arithmetic."""

    device: torch.device
    dtype: torch.dtype
