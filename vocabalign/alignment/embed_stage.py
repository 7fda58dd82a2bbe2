"""The ``embed`` stage: token embeddings of one tokenizer as an artefact, and the way to read them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vocabalign.alignment.embeddings import learn_token_embeddings
from vocabalign.artifacts import ArtifactWriter, stage_artifact
from vocabalign.folders import discard, work_folder
from vocabalign.stages import EmbedConfig
from vocabalign.token_embeddings import TokenEmbeddings


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
        with folder_for_tokens(writer) as folder:
            embeddings = learn_token_embeddings(vocabulary, texts, config.embeddings, config.seed, folder)
        embeddings.save(writer.folder)
        writer.metrics.update(embedding_metrics(embeddings))
        writer.metrics["vocabulary_fingerprint"] = vocabulary.fingerprint
    return config.out


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
