"""Settings of the stages that make tokenizers: tokenizer-train, tokenizer-extend, tokenizer-prune."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vocabalign.config import StageConfig
from vocabalign.stages.references import Corpus, Reference

TokenizerKind = Literal["byte-level-bpe", "sentencepiece-unigram", "sentencepiece-bpe"]
Role = Literal["bos", "eos", "unk", "pad", "sep", "cls", "mask"]


class TokenizerTrainConfig(StageConfig):
    """Train a tokenizer from text."""

    corpus: Corpus
    """Files, folders or globs of text to learn from."""
    size: int = Field(gt=0)
    """Tokens in all, special ones and bytes included."""
    kind: TokenizerKind = "byte-level-bpe"
    """How text becomes tokens; each kind can write any text, in bytes where it must."""
    like: Reference | None = None
    """Tokenizer (or model) folder whose normalizer, pre-tokenizer, special tokens and chat template are taken over."""
    special_tokens: dict[Role, str] = {}
    """Role -> special token; <|endoftext|>, or <unk>, <s> and </s>, where neither this nor ``like`` names any."""
    extra_special_tokens: list[str] = []
    """More special tokens, such as the markers of a chat template."""
    begin_with_bos: bool = False
    """Put BOS before every text, as Llama does; with ``like``, what that one does is done."""
    normalizer: Literal["none", "nfc", "nfkc"] = "none"
    """Unicode normal form that text is brought into; with ``like``, that one's normalizer is taken."""
    min_count: int = Field(default=2, gt=0)
    """byte-level-bpe: least occurrences of a pair that becomes a token."""
    max_token_length: int = Field(default=32, gt=1, le=512)
    """Most characters in a token; bytes, for byte-level-bpe."""
    character_coverage: float = Field(default=0.9995, gt=0.9, le=1)
    """SentencePiece: share of the text whose characters become tokens; the others are written in bytes."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Learn from at most this much text."""
    heldout: Corpus = []
    """Text for the report of compression; the corpus itself when left out."""


class TokenizerExtendConfig(StageConfig):
    """Add tokens to a tokenizer: continued merges learned from text, or given words; the old ids stay."""

    tokenizer: Reference
    """Tokenizer (or model) folder to extend."""
    corpus: Corpus = []
    """Text to learn from; also for the report."""
    num_tokens: int | None = Field(default=None, gt=0)
    """Learn this many tokens from the corpus."""
    words: Path | None = None
    """File with one word a line; each becomes one token."""
    word_forms: Literal["auto", "spaced", "bare", "both"] = "auto"
    """Words as behind a space, as without one, or both; ``auto``: spaced where the script writes spaces."""
    add_unproducible: bool = False
    """Cut words that the model cannot produce out of the text before it; text around them is cut otherwise then."""
    min_count: int = Field(default=2, gt=0)
    """Least occurrences that make a learned token."""
    max_token_length: int = Field(default=32, gt=1, le=512)
    """Most characters in a learned token; bytes, for byte-level tokenizers."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Learn from at most this much text."""
    heldout: Corpus = []
    """Text for the report of compression; the corpus itself when left out."""


class TokenizerPruneConfig(StageConfig):
    """Leave tokens out of a tokenizer: keep what a corpus or scripts need, or what fits a size."""

    tokenizer: Reference
    """Tokenizer (or model) folder to prune."""
    corpus: Corpus = []
    """Keep the tokens that this text uses."""
    min_count: int = Field(default=1, gt=0)
    """Tokens that the corpus uses fewer times are not needed by it."""
    scripts: list[str] = []
    """Keep the tokens written in these Unicode scripts (Latin, Cyrillic, Han ...); with a corpus, those too."""
    size: int | None = Field(default=None, gt=0)
    """Keep at most this many; those whose loss makes the corpus longest, without a corpus the lower ids."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Read at most this much text."""
    heldout: Corpus = []
    """Text for the report of compression; the corpus itself when left out."""
