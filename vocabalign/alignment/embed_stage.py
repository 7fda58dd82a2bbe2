"""The ``embed`` stage: token embeddings of one tokenizer as an artefact, and the way to read them back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vocabalign.alignment.counts import counted_neighbours
from vocabalign.alignment.embeddings import learn_token_embeddings, uncovered_tokens
from vocabalign.artifacts import ArtifactWriter, stage_artifact
from vocabalign.folders import discard, work_folder
from vocabalign.stages import EmbedConfig
from vocabalign.text.token_text import token_text
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.token_embeddings import TokenEmbeddings

logger = logging.getLogger("vocabalign")

# A text that holds fewer of the tokens is too small for the vocabulary.
FEW_COVERED = 0.5


def run(config: EmbedConfig) -> Path:
    """Learn token embeddings from the corpus and write them.

    Returns:
        The folder of the artefact.

    Raises:
        TokenizerError: the tokenizer cannot be loaded.
        CorpusError: the corpus is missing or empty.
        ArtifactError: the folder exists already.
    """
    from vocabalign.text.corpus import read_texts
    from vocabalign.text.tokenizers import load_vocabulary

    with stage_artifact("embed", config) as writer:
        vocabulary = load_vocabulary(config.tokenizer)
        texts = read_texts(config.corpus)
        counted = counted_neighbours(config.counts, vocabulary) if config.counts else None
        with folder_for_tokens(writer) as folder:
            embeddings = learn_token_embeddings(vocabulary, texts, config.embeddings, config.seed, folder, counted)
        embeddings.save(writer.folder)
        tell_uncovered(vocabulary, embeddings)
        write_uncovered(writer.folder / "uncovered.tsv", vocabulary, embeddings)
        writer.metrics.update(embedding_metrics(embeddings))
        writer.metrics["vocabulary_fingerprint"] = vocabulary.fingerprint
    return config.out


def write_uncovered(path: Path, vocabulary: Vocabulary, embeddings: TokenEmbeddings) -> None:
    """List the tokens without a vector: id, token, and how often the text holds it."""
    lines = ["token_id\ttoken\tcount"]
    for token_id in np.flatnonzero(~embeddings.covered).tolist():
        lines.append(f"{token_id}\t{token_text(vocabulary, token_id)}\t{embeddings.counts[token_id]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def tell_uncovered(vocabulary: Vocabulary, embeddings: TokenEmbeddings) -> None:
    """Say which tokens a text lacks: as a warning where they are most of the vocabulary."""
    level = logging.INFO if embeddings.covered.mean() >= FEW_COVERED else logging.WARNING
    if note := uncovered_tokens(vocabulary, embeddings.counts):
        logger.log(level, "%s", note)


@contextmanager
def folder_for_tokens(writer: ArtifactWriter) -> Iterator[Path]:
    """A hidden folder beside the artefact for the cut text; what a killed run left in it is removed first."""
    discard(work_folder(writer.out))
    try:
        yield writer.work
    finally:
        discard(work_folder(writer.out))


def embedding_metrics(embeddings: TokenEmbeddings) -> dict[str, float]:
    """Tokens of text, tokens of the vocabulary, and which share of them has a vector."""
    return {
        "tokens": int(embeddings.counts.sum()),
        "vocabulary_size": len(embeddings.counts),
        "dimensions": int(embeddings.vectors.shape[1]),
        "covered_share": float(embeddings.covered.mean()),
    }
