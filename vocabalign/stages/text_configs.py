"""Settings of the stages that read text and tokenizers alone: corpus, embed, align."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vocabalign.config import Config, StageConfig
from vocabalign.stages.references import Corpus, Reference


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

    method: Literal["skip-gram", "cbow", "fasttext", "glove", "ppmi"] = "ppmi"
    """Skip-gram and CBOW see token ids alone, one window after another; fasttext also sees the characters of the
    token; glove fits counts of which tokens stand together; ppmi factorises such counts, with nothing random in it, and
    found most known pairs. Where ``align`` is not told, the papers' methods take glove, as the papers do."""
    dimensions: int = Field(default=300, gt=0)
    """Size D of the token embeddings."""
    window: int | None = Field(default=None, gt=0)
    """Tokens to each side that count as context; by default 15 for glove and 5 for the others."""
    epochs: int | None = Field(default=None, gt=0)
    """Passes over the text, for glove over the counts; by default 15 for glove and 5 for the others (ppmi has none)."""
    negative: int = Field(default=5, gt=0)
    """Skip-gram, CBOW and fasttext: negative samples for each pair."""
    x_max: float = Field(default=100.0, gt=0)
    """GloVe: a pair that stands together so often has the full weight; on little text 10 is usual."""
    learning_rate: float = Field(default=0.05, gt=0)
    """GloVe: of AdaGrad."""
    context_smoothing: float = Field(default=0.75, gt=0, le=1)
    """PPMI: exponent of the context counts; below 1 rare contexts count less."""
    shift: float = Field(default=1.0, gt=0)
    """PPMI: ln of this is subtracted, as so many negative samples do in skip-gram."""
    eigenvalue_power: float = Field(default=0.5, ge=0, le=1)
    """PPMI: exponent of the singular values; 0 drops them."""
    min_count: int = Field(default=1, gt=0)
    """Tokens seen fewer times get no embedding and are reported as uncovered."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Stop reading text after this many tokens."""
    workers: int = Field(default=1, gt=0)
    """Threads. Of skip-gram, CBOW and fasttext only 1 gives the same vectors each time: with more, gensim's threads
    race. GloVe gives the same with any number."""

    @property
    def context_window(self) -> int:
        """Tokens to each side, by the method where nothing is set."""
        return self.window or (15 if self.method == "glove" else 5)

    @property
    def passes(self) -> int:
        """Epochs, by the method where nothing is set."""
        return self.epochs or (15 if self.method == "glove" else 5)


class CountConfig(StageConfig):
    """Count which source tokens cover which target tokens, and which tokens stand together, for ``align``."""

    source: Reference | None = None
    """Tokenizer (or model) folder whose vocabulary the model has."""
    target: Reference | None = None
    """Tokenizer (or model) folder whose vocabulary it shall get."""
    corpus: Corpus = []
    """Files, folders or globs of text."""
    shard: str | None = None
    """``i/n``: count only the i-th of n parts of the corpus, on this machine."""
    merge: list[Path] = []
    """Instead of counting: folders of counts to add, exactly as if all had been counted at once."""
    window: int = Field(default=15, ge=0)
    """Tokens to each side that count as neighbours; 0 leaves neighbours out, whose tables are the large ones."""
    least: float = Field(default=0.0, ge=0)
    """Leave out pairs of neighbours whose distance-weighted count is below this; never in a shard."""


class EmbedConfig(StageConfig):
    """Learn token embeddings for one tokenizer from plain text."""

    tokenizer: Reference
    """Tokenizer or model folder."""
    corpus: Corpus
    """Files, folders or globs of text."""
    counts: Path | None = None
    """Counts by ``count`` in which this tokenizer is the source or the target; ``glove`` and ``ppmi`` read no text
    then."""
    embeddings: EmbeddingOptions = EmbeddingOptions()
    """How the embeddings are learned."""


class MappingSettings(Config):
    """Choices of the map between embedding spaces; what is left out is as the method's preset has it."""

    scale_relative: bool | None = None
    """Compare ``relative`` representations by cosine, as TokAlign's paper says and as is done when left out;
    ``false`` takes the products of unscaled ones, as its public code does."""
    centre: bool | None = None
    """Subtract each space's mean after scaling vectors to length 1."""
    whiten: bool | None = None
    """Decorrelate each space on the dictionary before the last rotation (``vecmap``)."""
    reweight: float | None = Field(default=None, ge=0)
    """Power of the singular values that multiplies each side after the rotation."""
    dewhiten: bool | None = None
    """Undo the whitening in the rotated space."""
    keep_seeds: bool | None = None
    """Anchors stay in the dictionary whatever is found."""
    frequency_cutoff: int | None = Field(default=None, gt=0)
    """Only this many of the commonest tokens of each side join the dictionary."""
    unsupervised_tokens: int | None = Field(default=None, gt=0)
    """Commonest tokens that an unsupervised start looks at."""
    max_iterations: int | None = Field(default=None, gt=0)
    """Maps learned at most."""
    threshold: float | None = Field(default=None, ge=0)
    """By how much the objective must rise to count as better."""
    patience: int | None = Field(default=None, gt=0)
    """Iterations without a better objective before more pairs are kept, or the dictionary is done."""
    keep_probability: float | None = Field(default=None, gt=0, le=1)
    """Share of pairs that may join the dictionary at first; it doubles whenever patience has run out."""


class AlignConfig(StageConfig):
    """Align two vocabularies and write the lexicon: target token -> source tokens with weights."""

    source: Reference
    """Tokenizer (or model) folder whose vocabulary the model has."""
    target: Reference
    """Tokenizer (or model) folder whose vocabulary it shall get."""
    corpus: Corpus
    """Text that both tokenizers cut; the more like the model's use, the better."""
    counts: Path | None = None
    """Counts of source and target, as written by ``count``; counted here when left out."""
    source_embeddings: Path | None = None
    """Token embeddings of the source, as written by ``embed``, or a file of word vectors of your own (text of fastText
    or GloVe, gensim's KeyedVectors); learned here when left out."""
    target_embeddings: Path | None = None
    """The same for the target."""
    embeddings: EmbeddingOptions = EmbeddingOptions()
    """How embeddings are learned where they are not given."""
    method: Literal["auto", "tokalign", "tokalign++"] = "auto"
    """``auto`` weighs all evidence (bytes, spans, segmentation, embeddings); the others are the papers'."""
    anchors: Literal["bytes", "strings"] = "bytes"
    """Which tokens count as the same beforehand: equal bytes, or (as in the papers) equal raw strings."""
    num_anchors: int | None = Field(default=None, gt=0)
    """Use only the commonest anchors, this many; ``tokalign`` takes 300."""
    mapping: Literal["vecmap", "procrustes", "muse", "relative", "none"] | None = None
    """How the two embedding spaces become one: ``vecmap`` (whitened orthogonal map), ``procrustes`` (one rotation),
    ``muse`` (a rotation refined on what it finds), ``relative`` (likeness to the anchors) or ``none`` (they are one
    already: vectors of your own). Left out: ``relative`` for ``tokalign``, else ``vecmap``."""
    start: Literal["anchors", "unsupervised"] = "anchors"
    """What the map begins with: shared tokens, or nothing but how similarities are distributed on both sides."""
    self_learning: bool | None = None
    """Grow the dictionary by mutual nearest neighbours and map again, until that no longer helps. Left out: as the
    method's preset has it (``tokalign++`` does, ``auto`` does not)."""
    mapping_options: MappingSettings = MappingSettings()
    """Choices of the map in which it shall differ from its preset."""
    csls_neighbors: int = Field(default=10, ge=0)
    """Neighbourhood size of cross-domain similarity local scaling; 0 compares by cosine."""
    top_k: int = Field(default=8, ge=1, le=64)
    """Source tokens kept for each target token."""
    view: Literal["top-k", "one-best", "one-to-one"] | None = None
    """How much of the lexicon is written: ``top_k`` weighted source tokens, the best one, or an assignment in which
    no source token serves twice. Left out: ``top-k`` for ``auto``, else ``one-best`` as in the papers."""
    block_mebibytes: int = Field(default=256, gt=0)
    """Memory for one block of similarities."""
    search_backend: Literal["auto", "faiss", "torch"] = "auto"
    """What searches for neighbours; all find the same. ``auto`` is torch; ``faiss`` uses all GPUs that FAISS sees."""
    search_precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """``int8`` is faster on most CPUs, and ``auto`` takes it there; ``bfloat16`` is faster on GPUs. Candidates are
    ranked exactly in any case, so the neighbours are the same."""
