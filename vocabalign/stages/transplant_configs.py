"""Settings of the stage that transplants."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vocabalign.config import StageConfig
from vocabalign.stages.references import Corpus, Reference

RowMethod = Literal[
    "auto",
    "lexicon",
    "lexicon-one",
    "last",
    "first",
    "decay",
    "steep",
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
    own_text: bool | None = None
    """Let the source model write the text to count and fit on, for as long as a minute or so: ``true`` instead of a
    corpus; by default beside a corpus that proves to be of another domain than the model's, as counts of such text
    alone are worse than none; ``false`` never, and then the corpus is counted on whatever it is."""
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
    fit_rows: bool = True
    """Run the source model on some of the corpus: fit the embedding rows that ``auto`` makes to its hidden states, and
    all head rows to what it expects and the text says. Without training; kept where it helps on documents held out."""
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
