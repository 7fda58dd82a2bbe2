"""What a lexicon makes of text: BLEU-1 both ways, and how alike the texts are to an encoder.

Both tell before any training how good a start will be: in TokAlign++ (2605.13429, section 4.2) they explain over 0.9
of the variance of the first training loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from vocabalign.alignment.scores import bleu1_both_ways, one_best, one_best_reverse
from vocabalign.errors import ArtifactError, VocabAlignError
from vocabalign.evaluation.options import Place, Text
from vocabalign.lexicon import Lexicon
from vocabalign.manifests import read_manifest
from vocabalign.models import resolve
from vocabalign.text.compression import count_ids, encode_documents
from vocabalign.text.heldout_text import groups_of
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary

SIMILARITY_CHARACTERS = 1000
"""Of each document this much is compared: encoders are made for sentences and paragraphs."""


def score_alignment(
    folder: str | Path, known: Sequence[Vocabulary], text: Text, encoder: str | None, place: Place
) -> dict[str, Any]:
    """The record of a lexicon in metrics.json.

    Args:
        folder: of the lexicon.
        known: vocabularies that are loaded already; the lexicon's own are looked for among them first.
        text: what both tokenizers cut.
        encoder: folder of an encoder for the semantic similarity, or None.
        place: where the encoder runs.

    Returns:
        ``bleu1_target_to_source`` and ``bleu1_source_to_target`` in [0, 1], the same by domain and language with
        their mean over these, and with an encoder ``semantic_similarity_…`` in [-1, 1].

    Raises:
        ArtifactError: the lexicon cannot be read, or its tokenizers are not where they were.
    """
    lexicon = Lexicon.load(folder)
    source = _vocabulary_of(folder, "source", lexicon.source_fingerprint, known)
    target = _vocabulary_of(folder, "target", lexicon.target_fingerprint, known)
    record: dict[str, Any] = {"lexicon": str(folder), "source": source.name, "target": target.name}
    record |= bleu1_both_ways(lexicon, source, target, text.documents)
    for kind, name, documents in groups_of(text.labels):
        if len(documents) < len(text.documents):
            scores = bleu1_both_ways(lexicon, source, target, [text.documents[i] for i in documents])
            record.setdefault(f"{kind}s", {})[name] = scores
    for kind in text.labels:
        for direction in ("bleu1_target_to_source", "bleu1_source_to_target"):
            if f"{kind}s" in record:
                record[f"{direction}_{kind}_mean"] = fmean(s[direction] for s in record[f"{kind}s"].values())
    if encoder:
        record |= _similarities(lexicon, source, target, text.documents, encoder, place)
    return record


def _vocabulary_of(folder: str | Path, side: str, fingerprint: str, known: Sequence[Vocabulary]) -> Vocabulary:
    """The vocabulary that a side of the lexicon was made for."""
    for vocabulary in known:
        if vocabulary.fingerprint == fingerprint:
            return vocabulary
    reference = (read_manifest(folder).get("config") or {}).get(side)
    if not reference:
        raise ArtifactError(
            f"{folder} does not say which {side} tokenizer it was made for: evaluate a model that has it."
        )
    try:
        vocabulary = load_vocabulary(resolve(reference))
    except VocabAlignError as error:
        raise ArtifactError(
            f"The {side} tokenizer of {folder} cannot be loaded: evaluate a model that has it as well. {error}"
        ) from error
    if vocabulary.fingerprint != fingerprint:
        raise ArtifactError(
            f"{reference} is not the {side} tokenizer that {folder} was made for: make the lexicon again."
        )
    return vocabulary


def carry_over(ids: Iterable[Sequence[int]], lexicon: np.ndarray, into: Vocabulary) -> list[str]:
    """Texts after their tokens were replaced one by one.

    Args:
        ids: tokens of each text.
        lexicon: the other side's token of each id, -1 for none, which then says nothing.
        into: vocabulary of the other side.
    """
    result = []
    for document in ids:
        mapped = lexicon[np.asarray(document, dtype=np.int64)].tolist()
        joined = b"".join(into.token_bytes[token] or b"" for token in mapped if token >= 0)
        result.append(joined.decode("utf-8", errors="replace"))
    return result


def _similarities(
    lexicon: Lexicon, source: Vocabulary, target: Vocabulary, documents: Sequence[str], encoder: str, place: Place
) -> dict[str, Any]:
    from vocabalign.evaluation.encoder import Encoder

    texts = [document[:SIMILARITY_CHARACTERS] for document in documents]
    in_source, in_target = encode_documents(source, texts), encode_documents(target, texts)
    to_source, to_target = one_best(lexicon), one_best_reverse(lexicon, len(source), count_ids(target, in_target))
    encode = Encoder(encoder, place)
    originals = encode(texts)
    record: dict[str, Any] = {"encoder": encoder}
    ways = (("target_to_source", in_target, to_source, source), ("source_to_target", in_source, to_target, target))
    for name, ids, table, into in ways:
        similarities = (originals * encode(carry_over(ids, table, into))).sum(axis=1)
        record[f"semantic_similarity_{name}"] = float(similarities.mean())
    return record
