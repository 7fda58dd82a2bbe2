"""The ``tokenizer-extend`` stage: more tokens for a tokenizer that exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.artifacts import stage_artifact
from vocabalign.errors import ConfigError
from vocabalign.progress import logger
from vocabalign.stages import TokenizerExtendConfig
from vocabalign.text.corpus import corpus_files
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.tokenizer_tools.compression_report import measure
from vocabalign.tokenizer_tools.extend import Extension, extend, read_words
from vocabalign.tokenizer_tools.state import read_state
from vocabalign.tokenizer_tools.writing import compression, texts_with_progress, write_table, write_tokenizer

_SHOWN = 100


def run(config: TokenizerExtendConfig) -> Path:
    """Write the extended tokenizer's folder, with ``added.tsv`` and, where there are any, ``not_produced.tsv``.

    Raises:
        ConfigError: nothing is to be added, or there is no text to learn from.
        CorpusError: text cannot be read or is empty.
        TokenizerError: the tokenizer cannot be extended so, or the result does not load as it should.
        ArtifactError: ``out`` exists.
    """
    if config.num_tokens is None and config.words is None:
        raise ConfigError("Nothing is to be added: give 'num_tokens' with a corpus, or 'words'.")
    if config.num_tokens is not None and not config.corpus:
        raise ConfigError(f"There is no text to learn {config.num_tokens} tokens from: give a corpus.")
    for text in (config.corpus, config.heldout):
        if text:
            corpus_files(text)
    words = read_words(str(config.words)) if config.words else []
    tokenizer, state = read_state(config.tokenizer)
    with stage_artifact("tokenizer-extend", config) as writer:
        extension = extend(
            state,
            texts=texts_with_progress(config.corpus, config.max_bytes, "reading text") if config.num_tokens else (),
            num_tokens=config.num_tokens or 0,
            words=words,
            word_forms=config.word_forms,
            min_count=config.min_count,
            max_token_length=config.max_token_length,
            literal=config.add_unproducible,
        )
        before = load_vocabulary(tokenizer)
        after = write_tokenizer(writer, extension.state, tokenizer)
        _check_words(after, extension)
        counts = measure([after], config.corpus, config.max_bytes).counts[0] if config.corpus else None
        writer.metrics |= _metrics(config, words, before, after, extension)
        if counts is not None:
            # Most are steps towards longer tokens, which took all their places.
            writer.metrics["added_but_not_in_corpus"] = int((counts[list(extension.added.values())] == 0).sum())
        _write_lists(writer.folder, after, extension, counts)
    return Path(config.out)


def _check_words(vocabulary: Vocabulary, extension: Extension) -> None:
    """Encode every word in running text; one that does not come out as its token is moved to those not produced."""
    ids = {raw: token_id for token_id, raw in enumerate(vocabulary.raw_tokens)}
    for word in [*extension.words, *extension.literal]:
        contexts = vocabulary.encode_batch([f"one {word} two", f"one\n{word}\ntwo", f"({word})"])
        forms = extension.words.get(word, [word])
        if all(any(ids[raw] in row for row in contexts) for raw in forms):
            continue
        shown = " | ".join(vocabulary.raw_tokens[i] for i in contexts[0])
        extension.not_produced[word] = f"running text is cut otherwise: {shown}"
    for word in extension.not_produced:
        extension.words.pop(word, None)


def _metrics(
    config: TokenizerExtendConfig, words: list[str], before: Vocabulary, after: Vocabulary, extension: Extension
) -> dict[str, Any]:
    if extension.not_produced:
        logger.warning("%d of %d words are not produced: see not_produced.tsv", len(extension.not_produced), len(words))
    return {
        "kind": extension.state["model"]["type"],
        "size_before": len(before),
        "size": len(after),
        "added": len(extension.added),
        "merges": extension.merges,
        "learned": extension.learned,
        "words": len(words),
        "words_produced": len(extension.words) + len(extension.literal),
        "words_added_literally": len(extension.literal),
        "parts_of_words": len(extension.parts),
        "not_produced": dict(list(extension.not_produced.items())[:_SHOWN]),
        "compression": compression({"before": before, "after": after}, config.corpus, config.heldout, config.max_bytes),
    }


def _write_lists(folder: Path, after: Vocabulary, extension: Extension, counts: np.ndarray | None) -> None:
    of_words = {raw for forms in extension.words.values() for raw in forms} | set(extension.literal)
    rows = []
    for raw, token_id in extension.added.items():
        kind = "word" if raw in of_words else "part" if raw in extension.parts else "learned"
        text = (after.token_bytes[token_id] or b"").decode(errors="replace")
        rows.append((token_id, raw, text, kind, "" if counts is None else int(counts[token_id])))
    write_table(folder / "added.tsv", ("id", "token", "text", "why", "times in the corpus"), rows)
    if extension.not_produced:
        write_table(folder / "not_produced.tsv", ("word", "reason"), extension.not_produced.items())
